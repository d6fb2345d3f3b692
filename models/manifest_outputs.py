"""What a model answers, and how an answer is worded.

An output takes one column of the output tensor, or one per class. What the network gave is read
into an `Answer`, or is no answer at all: a number outside its range, a score that is no whole
number, classes whose probabilities do not add up are faults and never results.

Source: v3-ObservationInterpretation; FHIR R4 Observation.value[x], RiskAssessment.prediction.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.manifest_terms import CodeRef, Name, Part, Prose, Range, Text, repeated, require

Interpretation = Literal["N", "A", "AA", "L", "LL", "H", "HH", "POS", "NEG", "IND"]
Kind = Literal["probability", "score", "regression", "class"]

_PLACEHOLDERS = frozenset({"percent", "value", "label", "advice", "used", "total"})
_WHOLE = 1e-3
"""How far a score may be from a whole number, being float32."""
_TOTAL = 0.02
"""How far the probabilities of all classes may be from 1, being the sum of quantized ones."""
_ROUNDING = 1e-6
"""How far outside its range a value may lie, in parts of the range, and still be its end: what
float32 arithmetic leaves. A logistic function of a very sick patient gives 1.0000001."""
_SURE_OF_NOTHING = 0.01
_SURE = 0.99


class Band(Part):
    """A range of the output and what to call it.

    Attributes:
        at_least: Where the band begins; it ends where the next one begins.
        interpretation: Code of `v3-ObservationInterpretation`; none where each would say too much:
            a low probability of one disease is not "Normal".
        label: One or two words, for example "high".
        advice: One sentence for the clinician; a suggestion to look, never an order.
    """

    at_least: float
    interpretation: Interpretation | None = None
    label: Text
    advice: Prose


class ClassLabel(CodeRef):
    """A class that a model may choose.

    Attributes:
        label: What people call it; the display of the code when absent.
        interpretation: Code of `v3-ObservationInterpretation`, where one is true.
        advice: One sentence for the clinician.
    """

    label: Text | None = None
    interpretation: Interpretation | None = None
    advice: str = ""

    @property
    def words(self) -> str:
        """What people call it."""
        return self.label or self.display or self.code


class Output(Part):
    """One column of the output tensor; with classes, one column for each.

    Attributes:
        name: Short name.
        kind: `probability`, `score` (a whole number), `regression` (a measured quantity), or
            `class` (the likeliest of several).
        column: Its first place in the output tensor, from 0.
        code: What goes into Observation.code.
        label: What a result list calls it, where that is not the code's display; that it is an AI's
            is added to it.
        unit: UCUM code of the value; none for a class.
        unit_text: The unit as people write it, where that is not the code.
        range: What the model can answer; anything else is a fault, not a result.
        bands: Decision thresholds, ascending, the first at the low end of `range`.
        judged_by: Name of the output whose band is this one's too, where the number alone does not
            tell: a low total that one alarming part makes urgent.
        reference_range: What is usual, where that can be said.
        classes: The classes, in the order of their columns; for kind `class` only.
        min_confidence: A class less likely than this is not named: the answer is "uncertain".
        outcome: What is predicted, for a RiskAssessment.
        summary: Template of the one-glance text.
    """

    name: Name
    kind: Kind = "probability"
    column: Annotated[int, Field(ge=0)]
    code: CodeRef
    label: Text | None = None
    unit: Text | None = None
    unit_text: Text | None = None
    range: Range | None = None
    bands: tuple[Band, ...] = ()
    judged_by: Name | None = None
    reference_range: Range | None = None
    classes: tuple[ClassLabel, ...] = ()
    min_confidence: Annotated[float, Field(gt=0, lt=1)] | None = None
    outcome: CodeRef | None = None
    summary: Prose | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        require(*_kind_rules(self), *_band_rules(self), *_class_rules(self), *_summary_rules(self))
        return self

    @property
    def width(self) -> int:
        """How many columns it takes."""
        return len(self.classes) or 1

    @property
    def columns(self) -> tuple[int, ...]:
        """The columns it takes."""
        return tuple(self.column + place for place in range(self.width))

    def band(self, value: float) -> Band | None:
        """The band that a value falls into; None where the output has no bands.

        Raises:
            ValueError: The value is not a number, or outside `range`.
        """
        low, high = self.range or (0.0, 1.0)
        if not low <= value <= high:
            raise ValueError(f"output {self.name} is outside its range")
        return next((band for band in reversed(self.bands) if band.at_least <= value), None)

    def read(self, row: Sequence[float]) -> "Answer":
        """Read what the network gave.

        Args:
            row: One row of the output tensor, all its columns.

        Raises:
            ValueError: It can't be an answer: outside the range, not a number, not whole, or not a
                distribution.
        """
        if self.kind == "class":
            return self._choice([row[column] for column in self.columns])
        value = row[self.column]
        value = self._whole(value) if self.kind == "score" else self._unrounded(value)
        return Answer(self, value, self.band(value))

    def _unrounded(self, value: float) -> float:
        """Take an end of the range for what float32 arithmetic carried just beyond it."""
        low, high = self.range or (0.0, 1.0)
        end = min(max(value, low), high)
        return end if abs(value - end) <= _ROUNDING * (high - low) else value

    def _whole(self, value: float) -> float:
        if not isfinite(value) or abs(value - round(value)) > _WHOLE:
            raise ValueError(f"output {self.name} is no whole number")
        return float(round(value))

    def _choice(self, given: Sequence[float]) -> "Answer":
        shares = [self._unrounded(share) for share in given]
        likeliest = max(range(len(shares)), key=lambda place: shares[place])
        for share in shares:
            self.band(share)
        if not abs(sum(shares) - 1) <= _TOTAL:
            raise ValueError(f"output {self.name}: the classes' probabilities don't add up to 1")
        is_sure = shares[likeliest] >= (self.min_confidence or 0)
        chosen = self.classes[likeliest] if is_sure else None
        return Answer(self, shares[likeliest], None, chosen, tuple(shares))


@dataclass(frozen=True)
class Answer:
    """What one output says of one patient.

    Attributes:
        output: Which output.
        value: The number; for a class, the probability of the likeliest.
        band: The band it falls into, where there are bands.
        chosen: The class, for kind `class`; None when none is likely enough.
        shares: The probability of each class, in their order.
    """

    output: Output
    value: float
    band: Band | None
    chosen: ClassLabel | None = None
    shares: tuple[float, ...] = ()

    @property
    def is_uncertain(self) -> bool:
        """Whether a class was asked for and none is likely enough to be named."""
        return self.output.kind == "class" and self.chosen is None

    @property
    def label(self) -> str:
        """The word for it."""
        if self.output.kind == "class":
            return self.chosen.words if self.chosen else "uncertain"
        return self.band.label if self.band else ""

    @property
    def advice(self) -> str:
        """The sentence for the clinician; empty where the manifest has none."""
        if self.chosen:
            return self.chosen.advice
        return self.band.advice if self.band else ""

    @property
    def interpretation(self) -> Interpretation | None:
        """Code of `v3-ObservationInterpretation`, where the manifest has one."""
        if self.is_uncertain:
            return "IND"
        said = self.chosen or self.band
        return said.interpretation if said else None

    def describe(self, *, used: int, total: int) -> str:
        """The text a clinician reads, from the output's template; empty where it has none.

        Args:
            used: How many inputs had a value.
            total: How many inputs the model knows.
        """
        template = self.output.summary or ""
        filled = template.format(
            percent=percent(self.value),
            value=f"{self.value:.3g}",
            label=self.label,
            advice=self.advice,
            used=used,
            total=total,
        )
        # Where there is no advice the template leaves two spaces.
        return " ".join(filled.split())


def percent(probability: float) -> str:
    """A probability for people: whole per cent, and never a claim of certainty.

    >>> [percent(each) for each in (0.0, 0.42, 0.999)]
    ['below 1', '42', 'above 99']
    """
    if probability < _SURE_OF_NOTHING:
        return "below 1"
    if probability > _SURE:
        return "above 99"
    return f"{100 * probability:.0f}"


def _kind_rules(each: Output) -> tuple[tuple[bool, str], ...]:
    measured = each.kind != "class"
    is_share = each.kind == "probability"
    return (
        ((each.unit is not None) == measured, "unit: for every kind but class, and only there"),
        ((each.range is not None) == measured, "range: for every kind but class, and only there"),
        (not is_share or each.range == (0, 1), "range: of a probability it is [0, 1]"),
        (not is_share or bool(each.bands), "bands: a probability needs them"),
        (measured or each.reference_range is None, "reference_range: not for a class"),
    )


def _band_rules(each: Output) -> tuple[tuple[bool, str], ...]:
    starts = [band.at_least for band in each.bands]
    low = each.range[0] if each.range else None
    return (
        (starts == sorted(set(starts)), "bands: at_least must ascend"),
        (not starts or starts[0] == low, "bands: the first must begin at the low end of range"),
        (not starts or each.judged_by is None, "judged_by: not with bands of its own"),
    )


def _class_rules(each: Output) -> tuple[tuple[bool, str], ...]:
    chooses = each.kind == "class"
    codes = [label.key for label in each.classes]
    return (
        ((len(codes) > 1) == chooses, "classes: two or more for kind class, and only there"),
        (chooses or each.min_confidence is None, "min_confidence: only for kind class"),
        (not repeated(codes), f"classes: code used twice: {repeated(codes)}"),
    )


def _summary_rules(each: Output) -> tuple[tuple[bool, str], ...]:
    template = each.summary or ""
    fields = {name for _, name, _, _ in string.Formatter().parse(template) if name}
    allowed = ", ".join(sorted(_PLACEHOLDERS))
    return ((fields <= _PLACEHOLDERS, f"summary: only {allowed} may stand in braces"),)
