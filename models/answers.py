"""What a network answers to many cases, on this machine."""

from typing import Any

import numpy as np

from models.registry import ModelUnusable
from models.statistics import Score
from models.tensors import Tensors, batch_size

_BATCH = 32


def answers_here(session: Any, inputs: Tensors, *, output: str) -> Score:  # noqa: ANN401 - untyped
    """Run cases through a network, a few at a time.

    Args:
        session: The network's, from `models.runtime.open_session`.
        inputs: By the names of the graph's inputs.
        output: Name of the graph's output.

    Returns:
        float64 of shape (n, m).

    Raises:
        ModelUnusable: It has other inputs or outputs, or can't be run.
    """
    starts = range(0, batch_size(inputs), _BATCH)
    parts = ({name: array[at : at + _BATCH] for name, array in inputs.items()} for at in starts)
    try:
        found = [session.run([output], part)[0] for part in parts]
    except Exception as error:  # the runtime's own error types are not public
        raise ModelUnusable(f"it can't answer the cases: {str(error).splitlines()[0]}") from error
    scores = np.concatenate(found).astype(np.float64)
    return scores.reshape(len(scores), -1)
