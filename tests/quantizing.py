"""Evaluation sets for the small networks of `tests.networks`, drawn from the networks' own risk."""

from pathlib import Path

import numpy as np

from models.runtime import open_session
from tests import networks


def written(folder: Path, fp32: bytes, *, cases: int = 400, **more: object) -> tuple[Path, Path]:
    """Write a network of `networks.dense` and cases whose truth follows its answers.

    Args:
        folder: Where.
        fp32: The network.
        cases: How many.
        more: Arrays that are added or put in the place of others.

    Returns:
        The network's file and the evaluation set's.
    """
    inputs = networks.features(cases)
    risk = open_session(fp32, exact_int8=True).run(None, inputs)[0][:, 0]
    draw = np.random.default_rng(7)
    arrays = {
        **inputs,
        "truth": (draw.uniform(size=cases) < risk).astype(int),
        "group_sex": draw.choice(["female", "male"], cases),
    }
    model, data = folder / "mine.onnx", folder / "mine.npz"
    model.write_bytes(fp32)
    np.savez(data, **(arrays | more))
    return model, data
