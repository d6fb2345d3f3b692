"""When a quantized model counts as the model still: the table `[gate]` of a manifest."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from models.manifest_outputs import Output
from models.manifest_terms import Part

GateMetric = Literal["auroc", "accuracy", "macro-f1", "mae", "rmse"]
Share = Annotated[float, Field(ge=0, le=1)]

_TWO = 2


class Gate(Part):
    """When the quantized form counts as the model still.

    Attributes:
        metric: What is compared; for `mae` and `rmse` less is better, for the others more.
        max_loss: Largest accepted loss against fp32, as the bound of its one-sided interval.
        max_subgroup_loss: The same for each subgroup (sex, age band) that is large enough.
        max_flips: Largest share of decisions that change at the output's thresholds.
        confidence: Of the interval.
        threshold: From which probability a condition counts as there, for `accuracy` and
            `macro-f1`; where two bands meet, when absent.
    """

    metric: GateMetric
    max_loss: PositiveFloat = 0.005
    max_subgroup_loss: PositiveFloat = 0.02
    max_flips: Share = 0.02
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None


def gate_rules(gate: Gate | None, outputs: Sequence[Output]) -> tuple[tuple[bool, str], ...]:
    """What must hold between a gate and the answers it judges, and what to say where not."""
    if gate is None:
        return ()
    is_chance = outputs[0].kind == "probability"
    is_measured = outputs[0].kind in {"score", "regression"}
    needs_cut = is_chance and gate.metric in {"accuracy", "macro-f1"}
    has_cut = gate.threshold or all(len(each.bands) == _TWO for each in outputs)
    fits = gate.metric == "accuracy" or is_measured == (gate.metric in {"mae", "rmse"})
    return (
        (bool(has_cut) or not needs_cut, "gate.threshold: needed where there are not two bands"),
        (is_chance or gate.threshold is None, "gate.threshold: only for a probability"),
        (fits, f"gate.metric: {gate.metric} means nothing for the first output"),
    )
