"""The cases that a network is calibrated with, and those that it is judged on: never the same.

* Those of the split `calibration` or `train` set the ranges; those of `evaluation` or `validation`
  decide. The split `test` is never touched: what was chosen on it can't be measured on it.
* Without splits a fifth of the patients, drawn always alike, is set apart for calibration.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.dataset import Dataset, DatasetUnusable, arrays_of, read_dataset
from models.tensors import Tensors, batch_size

_CALIBRATION_SPLITS, _EVALUATION_SPLITS = ("calibration", "train"), ("evaluation", "validation")
_CALIBRATION_SHARE = 0.2
_MOST_CALIBRATION_CASES = 256
_CALIBRATION_BATCH = 16
_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}


def read_cases(
    data: Path,
    calibration: Path | None,
    session: Any,  # noqa: ANN401 - the runtime has no types
) -> tuple[tuple[Tensors, ...], Dataset]:
    """Read both sets and check them against the network.

    Args:
        data: The evaluation set.
        calibration: A file of its own for calibration; needs no truth.
        session: The network's.

    Returns:
        Batches for calibration, and the cases that decide.

    Raises:
        DatasetUnusable: A file can't be used; the message names it and the array.
    """
    whole = _read(data)
    apart = _arrays(calibration) if calibration else None
    if whole.splits:
        apart = apart or _of_a_split(data, whole, _CALIBRATION_SPLITS).inputs
        decides = _of_a_split(data, whole, _EVALUATION_SPLITS)
    elif apart:
        decides = whole
    else:
        drawn, decides = _drawn_apart(whole)
        apart = drawn.inputs
    observed = fitting(calibration or data, apart, session)
    decides = replace(decides, inputs=fitting(data, decides.inputs, session))
    return tuple(_batches(observed)), decides


def fitting(path: Path, arrays: Tensors, session: Any) -> Tensors:  # noqa: ANN401 - as above
    """The arrays that a network wants, in its types.

    Args:
        path: Where they are from.
        arrays: By name; more than are wanted is no error.
        session: The network's.

    Raises:
        DatasetUnusable: One is missing, or has another shape or type.
    """
    return {each.name: _fitting(path, arrays, each) for each in session.get_inputs()}


def _fitting(
    path: Path,
    arrays: Tensors,
    wanted: Any,  # noqa: ANN401 - as above
) -> npt.NDArray[Any]:
    if wanted.name not in arrays:
        found = ", ".join(arrays) or "none"
        raise DatasetUnusable(
            f"{path}: the network's input {wanted.name} is missing; the arrays for inputs are: "
            f"{found}"
        )
    array, kind = arrays[wanted.name], _TYPES.get(wanted.type)
    if not _has_shape(array, wanted.shape):
        raise DatasetUnusable(
            f"{path}: {wanted.name} has the shape {array.shape}; the network wants "
            f"({', '.join(map(str, wanted.shape))})"
        )
    if kind is None or not np.can_cast(array.dtype, kind, casting="same_kind"):
        raise DatasetUnusable(
            f"{path}: {wanted.name} is of {array.dtype}; the network wants {wanted.type}"
        )
    return array.astype(kind, copy=False)


def _has_shape(array: npt.NDArray[Any], shape: Sequence[int | str | None]) -> bool:
    """Whether an array has the axes of a graph's input; the first counts the cases."""
    fixed = zip(array.shape[1:], shape[1:], strict=False)
    return array.ndim == len(shape) and all(
        has == wants for has, wants in fixed if isinstance(wants, int)
    )


def _read(path: Path) -> Dataset:
    try:
        return read_dataset(path)
    except OSError as error:
        raise DatasetUnusable(f"{path} can't be read: {error.strerror}") from error


def _arrays(path: Path) -> Tensors:
    try:
        return arrays_of(path, path.read_bytes())
    except OSError as error:
        raise DatasetUnusable(f"{path} can't be read: {error.strerror}") from error


def _of_a_split(path: Path, whole: Dataset, names: Sequence[str]) -> Dataset:
    there = set(whole.splits or ())
    for name in names:
        if name in there:
            return whole.of_split(name)
    raise DatasetUnusable(
        f"{path}: no case belongs to the split {' or '.join(names)}; split holds "
        f"{', '.join(sorted(there))}"
    )


def _drawn_apart(whole: Dataset) -> tuple[Dataset, Dataset]:
    """A fifth of the patients, and the others."""
    patients = np.random.default_rng(0).permutation(int(whole.patients.max()) + 1)
    count = max(1, int(len(patients) * _CALIBRATION_SHARE))
    is_apart = np.isin(whole.patients, patients[:count])
    return whole.at(np.flatnonzero(is_apart)), whole.at(np.flatnonzero(~is_apart))


def _batches(inputs: Tensors) -> Iterator[Tensors]:
    """At most a few hundred cases, drawn always alike."""
    drawn = np.random.default_rng(0).permutation(batch_size(inputs))[:_MOST_CALIBRATION_CASES]
    for start in range(0, len(drawn), _CALIBRATION_BATCH):
        places = drawn[start : start + _CALIBRATION_BATCH]
        yield {name: array[places] for name, array in inputs.items()}
