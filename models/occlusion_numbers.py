"""Which of the numbers that a model was given moved its answer.

A number is hidden by the manifest's `baseline`, else by what the model is told of a value that is
not known: NaN or the imputed constant. What can have neither is kept and named, and so is counted
among what the answer rests on all the same.
"""

from collections.abc import Mapping, Sequence
from math import isnan, nan

import numpy as np

from models.manifest import Input, Manifest
from models.occlusion import Plan, check_budget
from models.tensors import FloatArray, Tensors


def plan_numbers(manifest: Manifest, case: Tensors) -> Plan:
    """Plan to hide each number that the model was given.

    Args:
        manifest: Of the model.
        case: One patient's tensors.

    Raises:
        Unexplainable: Nothing can be hidden, or more is there than may be run.
    """
    name = manifest.weights.input_name or ""
    row = case[name]
    blanks = {column: _blank(each) for column, each in enumerate(manifest.inputs)}
    given = [column for column in blanks if not isnan(row[column])]
    moved = [column for column in given if not _is_same(blanks[column], float(row[column]))]
    columns = [column for column in moved if blanks[column] is not None]
    check_budget(manifest, len(columns))
    variants = [[column] for column in columns] + [columns]
    labels = [each.label for each in manifest.inputs]
    return Plan(
        "inputs",
        tuple(labels[column] for column in columns),
        tuple({**case, name: _without(row, blanks, variant)} for variant in variants),
        tuple(labels[column] for column in given if blanks[column] is None),
    )


def _blank(each: Input) -> float | None:
    """Give what stands for a hidden input; None where the model can't do without it."""
    if each.baseline is not None:
        return each.baseline
    if each.missing == "impute":
        return each.impute_value
    return nan if each.missing == "mask" else None


def _is_same(blank: float | None, value: float) -> bool:
    return blank is not None and np.float32(blank) == np.float32(value)


def _without(
    row: FloatArray, blanks: Mapping[int, float | None], columns: Sequence[int]
) -> FloatArray:
    changed = row.copy()
    for column in columns:
        changed[column] = blanks[column]
    return changed
