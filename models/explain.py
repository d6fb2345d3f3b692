"""Explains one answer: chooses what to hide, runs it within limits, and reads what came of it.

Of a model that reads an image or a text that is what is explained, and the numbers beside it are
kept. The libraries of images and texts are loaded when the first of them is explained.

Cost: at most `explanation.max_evaluations` cases, in runs of `limits.max_batch`. Nothing is
remembered between cases.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from models.explained import Explained
from models.manifest import Manifest
from models.occlusion import Plan, Predict, Unexplainable, measure, read
from models.occlusion_numbers import plan_numbers
from models.tensors import Tensors

if TYPE_CHECKING:
    from models.texts import TextEncoder

__all__ = ["Unexplainable", "answer_and_explain"]


def answer_and_explain(
    predict: Predict,
    manifest: Manifest,
    case: Tensors,
    *,
    encoder: "TextEncoder | None",
    is_late: Callable[[], bool],
) -> tuple[list[float], Explained]:
    """Ask the network for a case, and in the same runs for the case with parts of it hidden.

    Args:
        predict: Asks the network.
        manifest: Of the model.
        case: One patient's tensors.
        encoder: The model's tokenizer, where it reads texts.
        is_late: Says between two runs whether they have taken too long.

    Returns:
        One row of the output tensor, and what moved it.

    Raises:
        Unexplainable: Nothing can be hidden, it took too long, or parts can't be missing.
        ValueError: The row is no answer.
    """
    plan = plan_of(manifest, case, encoder)
    measured = measure(predict, case, plan, max_batch=manifest.limits.max_batch, is_late=is_late)
    return measured.answer.tolist(), read(manifest, plan, measured)


def plan_of(manifest: Manifest, case: Tensors, encoder: "TextEncoder | None") -> Plan:
    """Choose what is hidden: squares of the image, phrases of the text, or the numbers.

    Raises:
        Unexplainable: There is nothing to hide, or too much.
    """
    if manifest.image:
        from models.occlusion_image import plan_image  # noqa: PLC0415 - see above

        return plan_image(manifest, manifest.image, case)
    if manifest.text:
        if encoder is None:
            raise Unexplainable("the model's tokenizer is not at hand")
        from models.occlusion_text import plan_text  # noqa: PLC0415 - see above

        return plan_text(manifest, manifest.text, encoder, case)
    return plan_numbers(manifest, case)
