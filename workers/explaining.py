"""(4.4) Answers with what moved them, for routes that ask for it.

Each case is run with its variants; what that may take is bounded by the manifest, and for a whole
batch by a share of its lease. The answer comes first: whatever goes wrong with an explanation, the
result is written without it and says so. Nothing of the patient's is logged.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gateway import telemetry
from models.explain import Unexplainable, answer_and_explain
from models.explained import Explained, NotExplained
from models.tensors import stack
from workers.ports import LoadedModel

if TYPE_CHECKING:
    from models.tensors import Tensors

log = telemetry.get_logger()

#: Share of a batch's lease that its explanations may take; the results still have to be written.
_SHARE = 0.25
_FAILED = NotExplained("it could not be worked out")


@dataclass(frozen=True)
class Answered:
    """What a model gave for one case.

    Attributes:
        row: One row of the output tensor.
        explained: What moved it; None where nobody asked.
    """

    row: list[float]
    explained: Explained | NotExplained | None = None


def answer_and_explain_all(
    model: LoadedModel,
    cases: Sequence["Tensors"],
    *,
    within_s: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> list[Answered]:
    """Ask a model for several cases, and what moved each answer.

    Args:
        model: The model.
        cases: Tensors of each.
        within_s: Lease of the whole batch, in seconds.
        monotonic: A clock in seconds.
    """
    until = monotonic() + _SHARE * within_s
    return [_answered(model, case, until, monotonic) for case in cases]


def _answered(
    model: LoadedModel, case: "Tensors", until: float, monotonic: Callable[[], float]
) -> Answered:
    limit = min(until, monotonic() + model.manifest.limits.timeout_s)
    try:
        row, explained = answer_and_explain(
            model.predict,
            model.manifest,
            case,
            encoder=model.encoder,
            is_late=partial(_is_past, limit, monotonic),
        )
    except Unexplainable as why:
        return Answered(_plain(model, case), NotExplained(str(why)))
    except Exception as error:  # an explanation never costs the result
        log.exception("explanation-failed", model=model.manifest.name, error=type(error).__name__)
        return Answered(_plain(model, case), _FAILED)
    return Answered(row, explained)


def _plain(model: LoadedModel, case: "Tensors") -> list[float]:
    row: list[float] = model.predict(stack([case]))[0].tolist()
    return row


def _is_past(limit: float, monotonic: Callable[[], float]) -> bool:
    return monotonic() > limit
