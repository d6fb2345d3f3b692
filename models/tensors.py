"""What goes into a network: tensors by the names of the graph's inputs.

A case is one patient's tensors without the batch axis; `stack` makes a batch of several.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Tensors = Mapping[str, npt.NDArray[Any]]
"""Name of a graph's input → array; in a batch, axis 0 counts the cases."""


def stack(cases: Sequence[Tensors]) -> Tensors:
    """Make a batch of cases.

    Token sequences of different lengths are filled up with 0 to the longest; a network's mask
    hides what was filled up.

    Args:
        cases: At least one; all with the same names.

    Raises:
        ValueError: The cases' arrays differ in shape and are no sequences.
    """
    return {name: _stacked([case[name] for case in cases]) for name in cases[0]}


def batch_size(batch: Tensors) -> int:
    """Count the cases of a batch.

    Raises:
        ValueError: The tensors disagree, or there are none.
    """
    sizes = {len(array) for array in batch.values()}
    if len(sizes) != 1:
        raise ValueError("the tensors of a batch must have the same number of cases")
    return sizes.pop()


def parts_of(batch: Tensors, most: int) -> Iterator[Tensors]:
    """Cut a batch into parts of at most `most` cases."""
    for start in range(0, batch_size(batch), most):
        yield {name: array[start : start + most] for name, array in batch.items()}


def filled(batch: Tensors, size: int) -> Tensors:
    """Fill a batch up to `size` cases with its last one."""
    places = np.minimum(np.arange(size), batch_size(batch) - 1)
    return {name: array[places] for name, array in batch.items()}


def _stacked(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if arrays[0].ndim != 1 or arrays[0].dtype != np.int64:
        return np.stack(arrays)
    longest = max(len(array) for array in arrays)
    return np.stack([np.pad(array, (0, longest - len(array))) for array in arrays])
