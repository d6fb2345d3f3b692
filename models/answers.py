"""What a network answers to many cases, whatever batch size it insists on."""

from typing import Any

import numpy as np

from models.registry import ModelUnusable
from models.statistics import Score
from models.tensors import Tensors, batch_size

_BATCH = 32


def fixed_batch(session: Any) -> int | None:  # noqa: ANN401 - the runtime has no types
    """The only batch size that a network allows; None where it allows any."""
    sizes = (each.shape[0] for each in session.get_inputs() if each.shape)
    return next((size for size in sizes if isinstance(size, int)), None)


def answers(session: Any, inputs: Tensors, *, output: str) -> Score:  # noqa: ANN401 - as above
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
    size, cases = fixed_batch(session) or _BATCH, batch_size(inputs)
    is_fixed = fixed_batch(session) is not None
    parts = []
    for start in range(0, cases, size):
        end = start + size if is_fixed else min(start + size, cases)
        places = np.arange(start, end).clip(max=cases - 1)  # a fixed batch is filled up
        answer = _answer(session, {name: each[places] for name, each in inputs.items()}, output)
        parts.append(answer.reshape(len(places), -1))
    return np.concatenate(parts)[:cases]


def _answer(session: Any, batch: Tensors, output: str) -> Score:  # noqa: ANN401 - as above
    try:
        (answer,) = session.run([output], dict(batch))
        return np.asarray(answer, dtype=np.float64)
    except Exception as error:  # the runtime's own error types are not public
        raise ModelUnusable(f"it can't answer the cases: {str(error).splitlines()[0]}") from error
