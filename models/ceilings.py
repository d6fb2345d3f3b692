"""The most that any gate may allow, whatever a manifest says.

A maker writes the gate of a model, so a gate alone protects nobody: with `max_loss = 0.9` all pass.
Above these ceilings a package is neither made nor taken; a site may set lower ones (`models.limits`
of its site file). Each is a share: of the metric, of the decisions, or, where an answer is a
measured quantity, of the output's range. Why each is as high as it is: docs/gate.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from models.manifest import Manifest

PRODUCT_LIMITS = "Nadi's"

_MEASURED = frozenset({"mae", "rmse"})
"""Losses in the unit of the answer; those of other metrics are shares."""


@dataclass(frozen=True)
class Ceilings:
    """What is tolerated at most.

    Attributes:
        max_loss: Of the gate's loss against fp32, on all cases.
        max_subgroup_loss: The same in a subgroup.
        max_flips: Of the share of decisions that change.
        tolerance: Of the difference of a golden answer.
        min_confidence: Least confidence of the interval of a loss.
        whose: Who set them, for messages.
    """

    max_loss: float = 0.02
    max_subgroup_loss: float = 0.05
    max_flips: float = 0.05
    tolerance: float = 0.1
    min_confidence: float = 0.9
    whose: str = PRODUCT_LIMITS

    def against(self, manifest: Manifest) -> tuple[str, ...]:
        """What a manifest allows beyond this, each with its key and how to mend it."""
        return tuple(self._against(manifest))

    def _against(self, manifest: Manifest) -> Iterator[str]:
        span, gate = _span(manifest), manifest.gate
        allowed = [("weights.tolerance", manifest.weights.tolerance, self.tolerance * span)]
        if gate:
            scale = span if gate.metric in _MEASURED else 1.0
            allowed += [
                ("gate.max_loss", gate.max_loss, self.max_loss * scale),
                ("gate.max_subgroup_loss", gate.max_subgroup_loss, self.max_subgroup_loss * scale),
                ("gate.max_flips", gate.max_flips, self.max_flips),
            ]
        for key, value, most in allowed:
            if value > most:
                yield f"{key} is {value:g}, {self.whose} limit is {most:g}"
        if gate and gate.confidence < self.min_confidence:
            least = f"at least {self.min_confidence:g} is needed"
            yield f"gate.confidence is {gate.confidence:g}, {least}"


def _span(manifest: Manifest) -> float:
    """How far the answers reach; the narrowest output counts, since one number is for all."""
    ranges = (output.range or (0.0, 1.0) for output in manifest.outputs)
    return min(high - low for low, high in ranges)
