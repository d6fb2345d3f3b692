"""The report that the gate was passed, as a package carries it: read, held to its gate, and told.

A report says "accepted"; whoever takes a model sees what that means: what was measured, on how many
cases, on which of them, and what was allowed. A report whose figures don't agree with what it says,
that lacks kernels which the file may meet, or that was made on the cases the model was fitted to,
is none.
"""

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from models.gate import EVERYONE
from models.manifest import Gate, Weights
from models.report_words import is_fitted_on
from models.statistics import Estimate

_ONNX_SETTINGS = frozenset({"vnni", "avx2-exact", "avx2"})
_TFLITE_SETTINGS = frozenset({"litert"})


class ReportUnusable(ValueError):
    """Something is no report on which a package could rest; the message says why."""


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Compared(_Read):
    """What was measured of one group under one setting; see `models.gate.Comparison`."""

    setting: str
    group: str
    cases: int
    fp32: Estimate
    int8: Estimate
    loss: float
    loss_bound: float
    flips: float


class EvaluationReport(_Read):
    """What counts of the report that `nadi models evaluate`, or a model's `train.py`, writes."""

    accepted: bool
    weights_sha256: str
    gate: dict[str, object]
    reasons: tuple[str, ...] = ()
    comparisons: tuple[Compared, ...] = ()
    split: str | None = None
    method: str | None = None

    @property
    def overall(self) -> tuple[Compared, ...]:
        """All cases, under each setting."""
        return tuple(each for each in self.comparisons if each.group == EVERYONE)

    @property
    def worst_group(self) -> Compared | None:
        """The subgroup and setting with the largest loss; None where there are no subgroups."""
        groups = [each for each in self.comparisons if each.group != EVERYONE]
        return max(groups, key=lambda each: each.loss_bound, default=None)

    def insist_on(self, weights: Weights, gate: Gate | None) -> None:
        """Insist that it is about these weights and this gate, and shows that they passed it.

        Raises:
            ReportUnusable: It is not, or does not.
        """
        if self.weights_sha256 != weights.sha256:
            raise ReportUnusable("it is about other weights")
        if gate is None or self.gate != gate.model_dump(mode="json"):
            raise ReportUnusable("it judged by another gate than the manifest's")
        if self.split and is_fitted_on(self.split):
            raise ReportUnusable(
                f"it judged on the split {self.split}, which the model was fitted to; name one "
                "that neither training nor quantizing saw"
            )
        if missing := _settings_of(weights) - {each.setting for each in self.overall}:
            raise ReportUnusable(f"it has no figures for the kernels {', '.join(sorted(missing))}")
        if wrong := next(self._beyond(gate), None):
            raise ReportUnusable(f"it says accepted, but {wrong}")

    def told(self, gate: Gate) -> dict[str, str]:
        """What was measured and what was allowed, in words, the most important first."""
        worst = max(self.overall, key=lambda each: each.loss_bound)
        flips = max(each.flips for each in self.overall)
        said = {
            gate.metric: f"fp32 {_estimate(worst.fp32)}, this form {_estimate(worst.int8)}",
            "loss": f"{worst.loss:z.4f}, at most {worst.loss_bound:z.4f} with "
            f"{gate.confidence:.0%} confidence; allowed {gate.max_loss:g}",
        }
        if group := self.worst_group:
            said["worst subgroup"] = (
                f"{group.group}, {group.cases} cases: at most {group.loss_bound:z.4f}; "
                f"allowed {gate.max_subgroup_loss:g}"
            )
        how = self.method or f"split {self.split or 'not named'}"
        return said | {
            "decisions that change": f"{flips:.1%}; allowed {gate.max_flips:.1%}",
            "cases": f"{worst.cases}, {how}",
            "kernels": ", ".join(each.setting for each in self.overall),
        }

    def _beyond(self, gate: Gate) -> Iterator[str]:
        for each in self.comparisons:
            most = gate.max_loss if each.group == EVERYONE else gate.max_subgroup_loss
            where = f"{each.setting}, {each.group}"
            if not each.loss_bound <= most:
                yield f"{where}: the loss is up to {each.loss_bound:z.4f}, allowed is {most:g}"
            if each.group == EVERYONE and not each.flips <= gate.max_flips:
                yield f"{where}: {each.flips:.1%} of the decisions change"


def read_report(content: bytes) -> EvaluationReport:
    """Read a report.

    Raises:
        ReportUnusable: It is none.
    """
    try:
        return EvaluationReport.model_validate_json(content)
    except ValidationError as error:
        raise ReportUnusable("it is no report of the gate") from error


def one_line(told: Mapping[str, str]) -> str:
    """What `EvaluationReport.told` gives, for one line."""
    return "; ".join(f"{what} {said}" for what, said in told.items())


def _settings_of(weights: Weights) -> frozenset[str]:
    return _TFLITE_SETTINGS if weights.is_tflite else _ONNX_SETTINGS


def _estimate(measured: Estimate) -> str:
    return f"{measured.value:.4f} ({measured.low:.4f} to {measured.high:.4f})"
