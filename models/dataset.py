"""An evaluation set as a file: NumPy's `.npz`, so that a data scientist writes it with one call.

    np.savez_compressed("test.npz", features=x, truth=y, group_sex=sex, group_age=age)

What is in it:

* an array for each of the graph's inputs, by its name; axis 0 counts the cases;
* `truth`: (n,) or (n, columns); classes are numbered from 0, conditions are 0 or 1;
* `group_…`: the subgroup of each case as text; `group_age` may be numbers, in years;
* `patient`: who each case is of, where one patient has several;
* `split`: the part of the data each case belongs to (`train`, `validation`, `test`).
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.statistics import Labels, Score
from models.tensors import Tensors

_TRUTH, _PATIENT, _SPLIT, _GROUP = "truth", "patient", "split", "group_"
_AGE_GROUP = "age"
_AGE_STARTS = (18, 40, 60, 80)
_AGE_BANDS = ("under 18", "18 to 39", "40 to 59", "60 to 79", "80 and over")


class DatasetUnusable(ValueError):
    """A file is no evaluation set: the message says what is wrong and what belongs there."""


@dataclass(frozen=True)
class Dataset:
    """Cases whose truth is known.

    Attributes:
        inputs: The graph's inputs by name.
        truth: What was the case.
        groups: What the cases are told apart by (`sex`) → the group of each.
        patients: Number of the patient of each case, from 0.
        splits: The part of the data each case belongs to; None where there is only one.
        sha256: Digest of the file.
    """

    inputs: Tensors
    truth: Score
    groups: Mapping[str, tuple[str, ...]]
    patients: Labels
    splits: tuple[str, ...] | None = None
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.truth)

    def of_split(self, name: str) -> "Dataset":
        """The cases of one part.

        Raises:
            DatasetUnusable: There is no such part.
        """
        places = np.flatnonzero(np.asarray(self.splits or (), dtype=str) == name)
        if not len(places):
            raise DatasetUnusable(f"no case belongs to the split {name}")
        return self.at(places)

    def at(self, places: Labels) -> "Dataset":
        """The cases at some places."""
        return Dataset(
            {key: array[places] for key, array in self.inputs.items()},
            self.truth[places],
            {key: tuple(values[at] for at in places) for key, values in self.groups.items()},
            np.unique(self.patients[places], return_inverse=True)[1],
            tuple(self.splits[at] for at in places) if self.splits else None,
            self.sha256,
        )


def read_dataset(path: Path) -> Dataset:
    """Read an evaluation set.

    Raises:
        DatasetUnusable: It is not an `.npz`, has no truth, or its arrays disagree in length.
        OSError: It can't be read.
    """
    content = path.read_bytes()
    arrays = arrays_of(path, content)
    if _TRUTH not in arrays:
        found = ", ".join(arrays)
        raise DatasetUnusable(f"{path}: there is no array called truth; there are {found}")
    lengths = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise DatasetUnusable(f"{path}: every array must have one row per case")
    told = {_TRUTH, _PATIENT, _SPLIT}
    truth = arrays[_TRUTH]
    if truth.dtype.kind not in "biuf":
        raise DatasetUnusable(f"{path}: truth must be numbers; classes are numbered from 0")
    if missing := np.flatnonzero(~np.isfinite(truth).reshape(len(truth), -1).all(axis=1)).tolist():
        raise DatasetUnusable(
            f"{path}: truth must be numbers, none missing: {len(missing)} of {len(truth)} are no "
            f"number, the first in row {missing[0]}"
        )
    return Dataset(
        {n: a for n, a in arrays.items() if n not in told and not n.startswith(_GROUP)},
        truth.astype(np.float64),
        {n.removeprefix(_GROUP): _group(n, a) for n, a in arrays.items() if n.startswith(_GROUP)},
        np.unique(arrays.get(_PATIENT, np.arange(len(truth))), return_inverse=True)[1],
        tuple(map(str, arrays[_SPLIT])) if _SPLIT in arrays else None,
        hashlib.sha256(content).hexdigest(),
    )


def arrays_of(path: Path, content: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an `.npz` by name.

    Raises:
        DatasetUnusable: It is none, or holds Python objects.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as packed:
            return {name: packed[name] for name in packed.files}
    except (ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DatasetUnusable(
            f"{path}: not an .npz of plain arrays; write it with np.savez_compressed"
        ) from error


def _group(name: str, values: npt.NDArray[Any]) -> tuple[str, ...]:
    if name.removeprefix(_GROUP) != _AGE_GROUP or values.dtype.kind not in "iuf":
        return tuple(map(str, values))
    known = np.digitize(values, _AGE_STARTS)
    return tuple(
        _AGE_BANDS[at] if np.isfinite(age) else ""
        for at, age in zip(known, values.astype(np.float64), strict=True)
    )
