"""What a model needs and gives, as its maker declares it in `manifest.toml`.

A manifest is the contract between a model and a hospital: which values go into which tensor, in
which unit, how old they may be, what is done when one is missing, and how the answer is worded.
The rules it is checked by:

* the order of `[[inputs]]` is the order of the columns of the input tensor;
* every input says where its value comes from and what happens when there is none;
* no code feeds two inputs, so that a value has one meaning;
* an unknown key is an error: a misspelt safety limit must not be a limit that is not there.

The format is TOML, documented in `docs/models.md`. This module reads no file and imports nothing
of ours, so that it works on a data scientist's laptop as well as in the gateway's core.

Source: units are UCUM codes (https://ucum.org/ucum); codes are FHIR R4 `Coding` pairs.
"""

import string
import tomllib
from collections import Counter
from collections.abc import Hashable, Sequence
from math import inf
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Prose = Annotated[Text, AfterValidator(lambda text: " ".join(text.split()))]
"""Sentences for people: a line break of the TOML file is a space."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Source = Literal["observation", "patient-age", "patient-sex"]
Aggregation = Literal["latest", "mean", "min", "max"]
MissingPolicy = Literal["refuse", "mask", "impute"]
Interpretation = Literal["N", "A", "AA", "L", "LL", "H", "HH", "POS", "NEG", "IND"]
WeightsFormat = Literal["onnx-int8-qdq", "onnx-fp32"]

_PLACEHOLDERS = frozenset({"percent", "value", "label", "advice", "used", "total"})


class ManifestError(ValueError):
    """A manifest can't be used: the message names the file and every key that is wrong."""

    def __init__(self, file: str, problems: tuple[str, ...]) -> None:
        self.file = file
        self.problems = problems
        super().__init__("\n".join(f"{file}: {problem}" for problem in problems))


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] >= bounds[1]:
        raise ValueError("the low bound must be below the high bound")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
"""A closed interval `[low, high]`."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CodeRef(_Part):
    """A code in its system: what FHIR calls a Coding.

    Attributes:
        system: Canonical URI of the code system, for example `http://loinc.org`.
        code: The code.
        display: The words people read; never matched on.
    """

    system: Text
    code: Text
    display: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """System and code, the pair that is compared."""
        return (self.system, self.code)


class InputCode(CodeRef):
    """A code that feeds an input.

    Attributes:
        molar_mass_g_per_mol: Molar mass of what is measured *under this code*, where it is not the
            input's own: urea nitrogen (28.01) for an input of urea (60.06).
    """

    molar_mass_g_per_mol: PositiveFloat | None = None


class Category(CodeRef):
    """The number that stands for a coded answer, for example 2 for "++" on a test strip.

    Attributes:
        value: What the model is given, in the input's unit.
    """

    value: float


class Input(_Part):
    """One column of the input tensor.

    Attributes:
        id: Short name, used in reasons and in the audit trail.
        label: The words a clinician knows it by.
        source: Where the value comes from.
        codes: Codes of the Observation, or of the component, that hold the value.
        panels: Codes of Observations that hold it as a component; used when asking an EHR.
        unit: UCUM code of the unit the model was trained in.
        unit_text: The unit as people write it, where that is not the code: "mmHg" for `mm[Hg]`.
        molar_mass_g_per_mol: Lets mass and substance concentrations convert into each other.
        valence: Charge of the ion; lets equivalents and moles convert into each other.
        max_age_h: A value older than this, in hours before the event, is stale.
        aggregation: How several values become one.
        look_back_h: The window of `mean`, `min` and `max`, in hours before the event.
        plausible: What a living person can have; outside it the value is taken for an error.
        intended: What the model was made for; outside it the model refuses.
        missing: `refuse` the case, `mask` (NaN reaches the model) or `impute` a constant.
        impute_value: The constant of `impute`, in `unit`.
        impute_reason: Why this constant is defensible; required with it.
        categories: Numbers for coded answers (Observation) or for Patient.gender (`patient-sex`).
    """

    id: Name
    label: Text
    source: Source = "observation"
    codes: tuple[InputCode, ...] = ()
    panels: tuple[CodeRef, ...] = ()
    unit: Text
    unit_text: Text | None = None
    molar_mass_g_per_mol: PositiveFloat | None = None
    valence: PositiveInt | None = None
    max_age_h: PositiveFloat | None = None
    aggregation: Aggregation = "latest"
    look_back_h: PositiveFloat | None = None
    plausible: Range
    intended: Range | None = None
    missing: MissingPolicy
    impute_value: float | None = None
    impute_reason: str = ""
    categories: tuple[Category, ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        _require(*_source_rules(self), *_window_rules(self), *_missing_rules(self))
        return self

    def is_plausible(self, value: float) -> bool:
        """Whether a living person can have this value, given in `unit`."""
        return self.plausible[0] <= value <= self.plausible[1]

    def is_intended(self, value: float) -> bool:
        """Whether the model was made for this value, given in `unit`."""
        return self.intended is None or self.intended[0] <= value <= self.intended[1]


class Band(_Part):
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


class Output(_Part):
    """One column of the output tensor.

    Attributes:
        name: Short name.
        column: Its place in the output tensor, from 0.
        code: What goes into Observation.code.
        label: What a result list calls it, where that is not the code's display; that it is an AI's
            is added to it.
        unit: UCUM code of the value.
        unit_text: The unit as people write it, where that is not the code.
        range: What the model can answer; anything else is a fault, not a result.
        bands: Decision thresholds, ascending, the first at the low end of `range`.
        summary: Template of the one-glance text.
    """

    name: Name
    column: Annotated[int, Field(ge=0)]
    code: CodeRef
    label: Text | None = None
    unit: Text
    unit_text: Text | None = None
    range: Range
    bands: Annotated[tuple[Band, ...], Field(min_length=1)]
    summary: Prose

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        starts = [band.at_least for band in self.bands]
        fields = {name for _, name, _, _ in string.Formatter().parse(self.summary) if name}
        _require(
            (starts == sorted(set(starts)), "bands: at_least must ascend"),
            (starts[0] == self.range[0], "bands: the first must begin at the low end of range"),
            (
                fields <= _PLACEHOLDERS,
                f"summary: only {', '.join(sorted(_PLACEHOLDERS))} may stand in braces",
            ),
        )
        return self

    def band(self, value: float) -> Band:
        """The band that a value falls into.

        Raises:
            ValueError: The value is not a number, or outside `range`.
        """
        if not self.range[0] <= value <= self.range[1]:
            raise ValueError(f"output {self.name} is outside its range")
        return next(band for band in reversed(self.bands) if band.at_least <= value)

    def describe(self, value: float, *, used: int, total: int) -> str:
        """The text a clinician reads, from the template `summary`.

        Args:
            value: The output.
            used: How many inputs had a value.
            total: How many inputs the model knows.

        Raises:
            ValueError: The value is not a number, or outside `range`.
        """
        band = self.band(value)
        return self.summary.format(
            percent=percent(value),
            value=f"{value:.3g}",
            label=band.label,
            advice=band.advice,
            used=used,
            total=total,
        )


class ReferenceWeights(_Part):
    """The fp32 twin that the quantized weights are checked against.

    Attributes:
        file: File name, in the folder of the manifest.
        sha256: Digest of that file.
    """

    file: FileName
    sha256: Sha256


class Weights(_Part):
    """The network.

    Attributes:
        file: File name, in the folder of the manifest.
        sha256: Digest of that file; it is not loaded when this differs.
        format: What is in it.
        tolerance: Largest accepted difference of an output to the golden cases and to the twin.
        reference: The fp32 twin, if it is shipped.
        input_name: Name of the graph's input, float32 of shape (n, number of inputs).
        output_name: Name of the graph's output, float32 of shape (n, number of outputs).
    """

    file: FileName
    sha256: Sha256
    format: WeightsFormat
    tolerance: PositiveFloat
    reference: ReferenceWeights | None = None
    input_name: Text
    output_name: Text


class Metric(_Part):
    """A measured quality of the model.

    Attributes:
        name: What was measured, for example `auroc`.
        value: The estimate.
        ci95: Its 95 % confidence interval, where there is one.
        cohort: On whom, and how many.
        method: How.
    """

    name: Name
    value: float
    ci95: tuple[float, float] | None = None
    cohort: Text
    method: Text


class Manifest(_Part):
    """Everything a gateway has to know of a model without opening it.

    Attributes:
        manifest_version: Version of this format.
        name: Name of the model, unique in an installation.
        version: Semantic version of the model.
        title: The name people read.
        intended_use: For whom, by whom, for what.
        not_for: What it must not be used for.
        demonstration_only: True for what is not a medical device.
        manufacturer: Who answers for it.
        licence: SPDX identifier.
        card: File name of the model card.
        golden: File name of the golden cases.
        weights: The network.
        inputs: Columns of the input tensor, in order.
        min_present: The model refuses with fewer Observation inputs than this.
        any_of: Of each group of input ids at least one must have a value.
        outputs: Columns of the output tensor.
        metrics: Measured quality.
    """

    manifest_version: Literal[1]
    name: Name
    version: Version
    title: Text
    intended_use: Prose
    not_for: Prose
    demonstration_only: bool
    manufacturer: Text
    licence: Text
    card: FileName
    golden: FileName
    weights: Weights
    inputs: Annotated[tuple[Input, ...], Field(min_length=1)]
    min_present: Annotated[int, Field(ge=0)] = 0
    any_of: tuple[tuple[Name, ...], ...] = ()
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]
    metrics: tuple[Metric, ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        ids = [each.id for each in self.inputs]
        codes = [code.key for each in self.inputs for code in each.codes]
        columns = [output.column for output in self.outputs]
        observed = sum(each.source == "observation" for each in self.inputs)
        unknown = {name for group in self.any_of for name in group} - set(ids)
        _require(
            (not _repeated(ids), f"inputs: id used twice: {_repeated(ids)}"),
            (not _repeated(codes), f"inputs: code feeds two inputs: {_repeated(codes)}"),
            (sorted(columns) == list(range(len(columns))), "outputs: columns must be 0, 1, 2 …"),
            (self.min_present <= observed, "min_present: more than there are observation inputs"),
            (not unknown, f"any_of: no input is called {', '.join(sorted(unknown))}"),
        )
        return self

    @property
    def width(self) -> int:
        """Number of columns of the input tensor."""
        return len(self.inputs)

    @property
    def look_back_h(self) -> float:
        """How far back, in hours before the event, a value can still matter to this model."""
        return max((each.look_back_h or each.max_age_h or 0.0) for each in self.inputs)

    def input(self, input_id: str) -> Input:
        """The input of this id.

        Raises:
            KeyError: There is none.
        """
        for each in self.inputs:
            if each.id == input_id:
                return each
        raise KeyError(input_id)


def parse(text: str, *, file: str = "manifest.toml") -> Manifest:
    """Read a manifest.

    Args:
        text: The TOML document.
        file: Its name, for error messages.

    Raises:
        ManifestError: Not TOML, or a key is missing, unknown or wrong; all problems are named.
    """
    try:
        return Manifest.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(file, (f"not valid TOML: {error}",)) from error
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        problems = tuple(f"{_path(each['loc'])}: {each['msg']}" for each in found)
        raise ManifestError(file, problems) from error


def percent(probability: float) -> str:
    """A probability for people: whole per cent, and never a claim of certainty.

    >>> [percent(each) for each in (0.0, 0.42, 0.999)]
    ['below 1', '42', 'above 99']
    """
    if probability < 0.01:  # noqa: PLR2004 - one per cent, the resolution people are shown
        return "below 1"
    if probability > 0.99:  # noqa: PLR2004
        return "above 99"
    return f"{100 * probability:.0f}"


def _source_rules(each: Input) -> tuple[tuple[bool, str], ...]:
    observed = each.source == "observation"
    sexed = each.source == "patient-sex"
    return (
        (bool(each.codes) == observed, "codes: for source observation, and only there"),
        (observed or not each.panels, "panels: only for source observation"),
        (not sexed or bool(each.categories), "categories: source patient-sex needs them"),
    )


def _window_rules(each: Input) -> tuple[tuple[bool, str], ...]:
    observed = each.source == "observation"
    windowed = each.aggregation != "latest"
    too_short = (each.look_back_h or inf) < (each.max_age_h or 0)
    return (
        ((each.max_age_h is not None) == observed, "max_age_h: for source observation, only there"),
        (observed or not windowed, "aggregation: only for source observation"),
        (
            (each.look_back_h is not None) == windowed,
            "look_back_h: for aggregation mean, min and max, and only there",
        ),
        (not too_short, "look_back_h: must not be shorter than max_age_h"),
    )


def _missing_rules(each: Input) -> tuple[tuple[bool, str], ...]:
    imputed = each.missing == "impute"
    constant = each.impute_value
    own_mass = any(code.molar_mass_g_per_mol for code in each.codes)
    return (
        ((constant is not None) == imputed, "impute_value: for missing impute, and only there"),
        (bool(each.impute_reason) == imputed, "impute_reason: for missing impute, and only there"),
        (constant is None or each.is_plausible(constant), "impute_value: must be plausible"),
        (
            not own_mass or each.molar_mass_g_per_mol is not None,
            "molar_mass_g_per_mol: a code has its own, so the input needs one too",
        ),
    )


def _require(*rules: tuple[bool, str]) -> None:
    broken = [message for holds, message in rules if not holds]
    if broken:
        raise ValueError("; ".join(broken))


def _repeated(values: Sequence[Hashable]) -> list[Hashable]:
    return [value for value, count in Counter(values).items() if count > 1]


def _path(location: tuple[int | str, ...]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).lstrip(".") or "manifest"
