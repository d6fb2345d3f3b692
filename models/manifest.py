"""What a model needs and gives, as its maker declares it in `manifest.toml`.

A manifest is the contract between a model and a hospital: which values, pixels or words go into
which tensor, in which unit, how old they may be, what is done when one is missing, and how the
answer is worded. The rules it is checked by:

* the order of `[[inputs]]` is the order of the columns of the input tensor;
* every input says where its value comes from and what happens when there is none;
* no code feeds two inputs, so that a value has one meaning;
* the outputs take every column of the output tensor once;
* an unknown key is an error: a misspelt safety limit must not be a limit that is not there.

The format is TOML, documented in `docs/models.md`. Inputs and outputs have modules of their own.
Nothing here reads a file or imports anything of ours, so that it works on a data scientist's laptop
as well as in the gateway's core.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from models.manifest_gate import Gate, GateMetric, gate_rules
from models.manifest_inputs import (
    Aggregation,
    Category,
    ImageInput,
    Input,
    InputCode,
    MissingPolicy,
    Source,
    TextInput,
)
from models.manifest_outputs import Answer, Band, ClassLabel, Output, percent
from models.manifest_terms import (
    CodeRef,
    FileName,
    Name,
    Part,
    Prose,
    Sha256,
    Text,
    Version,
    repeated,
    require,
)

__all__ = [
    "MANIFEST_FILE",
    "Aggregation",
    "Answer",
    "Band",
    "Category",
    "ClassLabel",
    "CodeRef",
    "Explanation",
    "Gate",
    "GateMetric",
    "ImageInput",
    "Input",
    "InputCode",
    "Limits",
    "Manifest",
    "ManifestError",
    "Metric",
    "MissingPolicy",
    "Output",
    "Panel",
    "ReferenceWeights",
    "Regulatory",
    "Result",
    "Source",
    "TextInput",
    "Validity",
    "Weights",
    "parse",
    "percent",
]

MANIFEST_FILE = "manifest.toml"

WeightsFormat = Literal[
    "onnx-fp32",
    "onnx-int8-qdq",
    "onnx-int8-dynamic",
    "onnx-int8-weights",
    "onnx-int4-weights",
    "tflite-fp32",
    "tflite-int8",
    "tflite-int8-dynamic",
]
Share = Annotated[float, Field(ge=0, le=1)]


class ManifestError(ValueError):
    """A manifest can't be used: the message names the file and every key that is wrong."""

    def __init__(self, file: str, problems: tuple[str, ...]) -> None:
        self.file = file
        self.problems = problems
        super().__init__("\n".join(f"{file}: {problem}" for problem in problems))


class ReferenceWeights(Part):
    """The fp32 twin that the quantized weights are checked against.

    Attributes:
        file: File name, in the folder of the manifest.
        sha256: Digest of that file.
    """

    file: FileName
    sha256: Sha256


class Weights(Part):
    """The network.

    Attributes:
        file: File name, in the folder of the manifest.
        sha256: Digest of that file; it is not loaded when this differs.
        format: What is in it.
        tolerance: Largest accepted difference of an output to the golden cases and to the twin.
        reference: The fp32 twin, if it is shipped.
        input_name: Name of the graph's input, float32 of shape (n, number of inputs); none when the
            inputs only guard an image or a text.
        output_name: Name of the graph's output, float32 of shape (n, number of columns).
        operator_domains: Domains of operators beyond those the runtime brings; a site must allow
            each of them.
    """

    file: FileName
    sha256: Sha256
    format: WeightsFormat
    tolerance: PositiveFloat
    reference: ReferenceWeights | None = None
    input_name: Text | None = None
    output_name: Text
    operator_domains: tuple[Text, ...] = ()

    @property
    def is_quantized(self) -> bool:
        """Whether the gate has to say that it is still the model."""
        return not self.format.endswith("fp32")

    @property
    def is_tflite(self) -> bool:
        """Whether LiteRT runs it; ONNX Runtime otherwise."""
        return self.format.startswith("tflite")


class Metric(Part):
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


class Limits(Part):
    """What running the model may take.

    Attributes:
        max_batch: Most cases of one run.
        timeout_s: A run that takes longer is stopped and its cases fail.
    """

    max_batch: Annotated[int, Field(ge=1, le=1024)] = 64
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 10.0


class Explanation(Part):
    """How an answer is explained where a route asks for it: by hiding parts of the input.

    Attributes:
        max_evaluations: Most runs of the network for one explanation.
        patch_px: Side of the hidden square of an image, in pixels of the tensor.
        max_phrases: Most phrases or inputs that are named.
    """

    max_evaluations: Annotated[int, Field(ge=2, le=1024)] = 64
    patch_px: PositiveInt | None = None
    max_phrases: Annotated[int, Field(ge=1, le=20)] = 5


class Result(Part):
    """As what the answer is written into the chart.

    Attributes:
        resource: `Observation`, or `RiskAssessment` for the risk of an outcome.
        category: Code of `observation-category`.
        category_text: The category in words.
    """

    resource: Literal["Observation", "RiskAssessment"] = "Observation"
    category: Literal["survey", "imaging", "laboratory", "vital-signs", "exam"] = "survey"
    category_text: Text = "AI risk estimate"


class Panel(Part):
    """What several equal outputs (labels that may hold together) are reported under.

    Attributes:
        code: Observation.code; the outputs become its components.
        label: What a result list calls it.
    """

    code: CodeRef
    label: Text


class Regulatory(Part):
    """What an authority says of the model as a medical device.

    Attributes:
        jurisdiction: ISO 3166 code of the country.
        device_class: Class of the Medical Devices Rules, or `none` for what is no device.
        licence_number: Of the manufacturing or import licence.
        change_protocol: Identifier of the algorithm change protocol.
    """

    jurisdiction: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
    device_class: Literal["A", "B", "C", "D", "none"]
    licence_number: Text | None = None
    change_protocol: Text | None = None


class Validity(Part):
    """When the model may be used, days included.

    Attributes:
        not_before: First day.
        not_after: Last day.
    """

    not_before: date | None = None
    not_after: date | None = None

    def includes(self, day: date) -> bool:
        """Whether the model may be used on a day."""
        return (self.not_before or date.min) <= day <= (self.not_after or date.max)


class Manifest(Part):
    """Everything a gateway has to know of a model without opening it.

    Attributes:
        manifest_version: Version of this format.
        name: Name of the model, unique in an installation.
        version: Semantic version of the model.
        title: The name people read.
        intended_use: For whom, by whom, for what.
        not_for: What it must not be used for.
        contraindications: Patients or situations in which it does harm, one by one.
        demonstration_only: True for what is not a medical device.
        manufacturer: Who answers for it.
        licence: SPDX identifier.
        licence_file: File name of the licence's text.
        card: File name of the model card.
        golden: File name of the golden cases.
        evaluation: File name of the evaluation report of the gate.
        regulatory: What an authority says of it.
        validity: When it may be used; any time when absent.
        weights: The network.
        inputs: Numbers: columns of the input tensor in order, or guards.
        image: How an image becomes a tensor.
        text: How a text becomes tensors.
        min_present: The model refuses with fewer Observation inputs than this.
        any_of: Of each group of input ids at least one must have a value.
        outputs: What the columns of the output tensor mean.
        panel: What the outputs are reported under, when none of them is the chief one.
        result: As what the answer is written.
        limits: What a run may take.
        gate: When a quantized form is accepted.
        explanation: How an answer is explained.
        metrics: Measured quality.
    """

    manifest_version: Literal[1]
    name: Name
    version: Version
    title: Text
    intended_use: Prose
    not_for: Prose
    contraindications: tuple[Prose, ...] = ()
    demonstration_only: bool
    manufacturer: Text
    licence: Text
    licence_file: FileName | None = None
    card: FileName
    golden: FileName
    evaluation: FileName | None = None
    regulatory: Regulatory | None = None
    validity: Validity = Validity()
    weights: Weights
    inputs: tuple[Input, ...] = ()
    image: ImageInput | None = None
    text: TextInput | None = None
    min_present: Annotated[int, Field(ge=0)] = 0
    any_of: tuple[tuple[Name, ...], ...] = ()
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]
    panel: Panel | None = None
    result: Result = Result()
    limits: Limits = Limits()
    gate: Gate | None = None
    explanation: Explanation = Explanation()
    metrics: tuple[Metric, ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        require(*_input_rules(self), *_output_rules(self), *gate_rules(self.gate, self.outputs))
        return self

    @property
    def width(self) -> int:
        """Number of columns of the input tensor of numbers; 0 where the inputs only guard."""
        return len(self.inputs) if self.weights.input_name else 0

    @property
    def output_width(self) -> int:
        """Number of columns of the output tensor."""
        return sum(each.width for each in self.outputs)

    @property
    def look_back_h(self) -> float:
        """How far back, in hours before the event, a value can still matter to this model."""
        hours = ((each.look_back_h or each.max_age_h or 0.0) for each in self.inputs)
        return max(hours, default=0.0)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of every file that belongs to the model, the manifest first, each once."""
        named = (
            MANIFEST_FILE,
            self.weights.file,
            self.weights.reference.file if self.weights.reference else None,
            self.text.tokenizer if self.text else None,
            self.golden,
            self.card,
            self.evaluation,
            self.licence_file,
        )
        return tuple(dict.fromkeys(name for name in named if name))

    def read(self, row: Sequence[float]) -> tuple[Answer, ...]:
        """Read what the network gave, in the order of the outputs.

        Args:
            row: One row of the output tensor, all its columns.

        Raises:
            ValueError: It can't be an answer, see `Output.read`.
        """
        read = {each.name: each.read(row) for each in self.outputs}
        return tuple(
            replace(answer, band=read[answer.output.judged_by].band)
            if answer.output.judged_by
            else answer
            for answer in read.values()
        )

    def input(self, input_id: str) -> Input:
        """The input of this id.

        Raises:
            KeyError: There is none.
        """
        for each in self.inputs:
            if each.id == input_id:
                return each
        raise KeyError(input_id)


def parse(text: str, *, file: str = MANIFEST_FILE) -> Manifest:
    """Read a manifest.

    Args:
        text: The TOML document.
        file: Its name, for error messages.

    Raises:
        ManifestError: Not TOML, or a key is missing, unknown or wrong; all problems are named.
    """
    try:
        return Manifest.model_validate(_decoded(text, file))
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        problems = tuple(f"{_path(each['loc'])}: {each['msg']}" for each in found)
        raise ManifestError(file, problems) from error


def _decoded(text: str, file: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(file, (f"not valid TOML: {error}",)) from error
    except RecursionError as error:
        raise ManifestError(file, ("nested deeper than a manifest is",)) from error
    except ValueError as error:  # of more digits than Python turns into a number
        raise ManifestError(file, ("a number has too many digits",)) from error


def _input_rules(each: Manifest) -> tuple[tuple[bool, str], ...]:
    ids = [given.id for given in each.inputs]
    codes = [code.key for given in each.inputs for code in given.codes]
    observed = sum(given.source == "observation" for given in each.inputs)
    unknown = {name for group in each.any_of for name in group} - set(ids)
    has_numbers = bool(ids) and each.weights.input_name is not None
    is_fed = has_numbers or each.image is not None or each.text is not None
    return (
        (is_fed, "inputs: needed with weights.input_name, or [image], or [text]"),
        (bool(ids) or each.weights.input_name is None, "weights.input_name: there are no inputs"),
        (each.image is None or each.text is None, "image: not together with text"),
        (not repeated(ids), f"inputs: id used twice: {repeated(ids)}"),
        (not repeated(codes), f"inputs: code feeds two inputs: {repeated(codes)}"),
        (each.min_present <= observed, "min_present: more than there are observation inputs"),
        (not unknown, f"any_of: no input is called {', '.join(sorted(unknown))}"),
    )


def _output_rules(each: Manifest) -> tuple[tuple[bool, str], ...]:
    columns = [column for output in each.outputs for column in output.columns]
    told = each.outputs if each.panel else each.outputs[:1]
    is_risk = each.result.resource == "RiskAssessment"
    predicts = all(output.kind == "probability" and output.outcome for output in each.outputs)
    names = [output.name for output in each.outputs]
    judges = {output.judged_by for output in each.outputs} - {None}
    return (
        (not repeated(names), f"outputs: name used twice: {repeated(names)}"),
        (
            judges <= {output.name for output in each.outputs if output.bands},
            "judged_by: must name an output that has bands",
        ),
        (sorted(columns) == list(range(len(columns))), "outputs: columns must be 0, 1, 2 …"),
        (
            all(output.summary for output in told),
            "outputs: the first needs a summary; with panel, each does",
        ),
        (not is_risk or predicts, "result: a RiskAssessment needs probabilities with an outcome"),
        (not is_risk or each.panel is None, "panel: not with a RiskAssessment"),
    )


def _path(location: tuple[int | str, ...]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).lstrip(".") or "manifest"
