"""A model of every kind of answer, and the reports it gives; shared by golden and delivery tests.

The answers are compared with the files in `tests/golden/results`. After a change that is meant,
`python -m tests.result_models` writes them anew: look at the difference before it is committed.
"""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from gateway.core.findings import (
    Report,
    ResultContext,
    RuntimeFacts,
    refusal,
    report,
    result_identifier,
)
from models.explained import Drawing, Effect, Explained
from models.manifest import Manifest, parse

GOLDEN = Path(__file__).parent / "golden" / "results"
DIGEST = "d" * 64
RUNTIME = RuntimeFacts(
    model_digest=DIGEST, runtime="onnxruntime 1.32.0", kernel_class="avx2 exact-int8"
)
CONTEXT = ResultContext(
    identifier=result_identifier("ehr", "key", "route", DIGEST),
    subject="Patient/p1",
    encounter="Encounter/e1",
    effective={"effectiveDateTime": "2026-11-20T08:00:00+05:30"},
    issued=datetime(2026, 11, 25, 6, 30, tzinfo=UTC),
    trigger="Observation/o1/_history/3",
)

_HEAD = """
manifest_version = 1
name = "{name}"
version = "1.0.0"
title = "{title}"
intended_use = "Tests."
not_for = "Patients."
demonstration_only = true
manufacturer = "Nadi"
licence = "Apache-2.0"
card = "card.md"
golden = "golden.json"
{top}
[weights]
file = "model.onnx"
sha256 = "{zeros}"
format = "onnx-fp32"
tolerance = 0.001
output_name = "y"
"""
_NUMBERS = """input_name = "x"

[[inputs]]
id = "creatinine"
label = "Creatinine in blood"
unit = "mg/dL"
max_age_h = 48
plausible = [0.1, 50.0]
missing = "mask"
baseline = 0.9
codes = [{ system = "http://loinc.org", code = "2160-0" }]

[[inputs]]
id = "age"
label = "Age"
source = "patient-age"
unit = "a"
unit_text = "years"
plausible = [0, 130]
missing = "mask"
"""
_IMAGE = """
[image]
label = "Chest X-ray"
input_name = "image"
height = 28
width = 28
modalities = ["DX", "CR"]
"""
_TEXT = f"""
[text]
label = "Referral note"
ids_name = "ids"
mask_name = "mask"
tokenizer = "tokenizer.json"
tokenizer_sha256 = "{"0" * 64}"
max_tokens = 64
languages = ["en"]
"""
_RISK = """
[[outputs]]
name = "risk"
column = 0
code = { system = "https://nadi.health/fhir/sid/output", code = "aki", display = "Kidney risk" }
outcome = { system = "http://snomed.info/sct", code = "14669001", display = "Acute kidney injury" }
unit = "{probability}"
unit_text = "probability"
range = [0, 1]
bands = [
  { at_least = 0, label = "low", advice = "None." },
  { at_least = 0.5, interpretation = "H", label = "high", advice = "Look at the urine output." },
]
summary = "Kidney injury (AI): {label}, {percent} %, from {used} of {total} inputs. {advice}"
"""
_SCORE = """
[[outputs]]
name = "total"
kind = "score"
column = 0
code = { system = "http://snomed.info/sct", code = "1104051000000101", display = "NEWS2 score" }
unit = "{score}"
range = [0, 20]
reference_range = [0, 4]
bands = [
  { at_least = 0, label = "low", advice = "Go on." },
  { at_least = 7, interpretation = "HH", label = "high", advice = "Call." },
]
summary = "NEWS2 (AI) {value}: {label}. {advice}"
"""
_REGRESSION = """
[[outputs]]
name = "filtration"
kind = "regression"
column = COLUMN
code = { system = "http://loinc.org", code = "98979-8", display = "Glomerular filtration rate" }
unit = "mL/min/{1.73_m2}"
unit_text = "mL/min/1.73 m²"
range = [0, 200]
reference_range = [60, 150]
summary = "Filtration rate (AI) {value}."
"""
_CLASSES = """
[[outputs]]
name = "specialty"
kind = "class"
column = 0
code = { system = "https://nadi.health/fhir/sid/output", code = "specialty", display = "Specialty" }
min_confidence = 0.5
classes = [
  { system = "http://snomed.info/sct", code = "394579002", display = "Cardiology", advice = "A" },
  { system = "http://snomed.info/sct", code = "394612005", display = "Urology" },
  { system = "http://snomed.info/sct", code = "394610002", display = "Neurosurgery" },
]
summary = "Specialty (AI): {label} ({percent} %). {advice}"
"""
_LABELS = """
[panel]
code = { system = "http://loinc.org", code = "18782-3", display = "Radiology findings" }
label = "Findings on a chest X-ray"

[result]
category = "imaging"
category_text = "AI reading of an image"
""" + "".join(
    f"""
[[outputs]]
name = "{name.lower()}"
column = {column}
code = {{ system = "http://snomed.info/sct", code = "{code}", display = "{name}" }}
unit = "{{probability}}"
range = [0, 1]
bands = [
  {{ at_least = 0, interpretation = "NEG", label = "not seen", advice = "None." }},
  {{ at_least = 0.5, interpretation = "POS", label = "seen", advice = "Look again." }},
]
summary = "{name}: {{label}} ({{percent}} %)."
"""
    for column, (name, code) in enumerate(
        {"Effusion": "60046008", "Cardiomegaly": "8186001"}.items()
    )
)
_AS_RISK = '\n[result]\nresource = "RiskAssessment"\n'


_CAUTION = 'contraindications = ["Dialysis.", "Pregnancy."]'


def _model(name: str, title: str, body: str, top: str = "") -> Manifest:
    head = _HEAD.format(name=name, title=title, top=top, zeros="0" * 64)
    return parse(head + body)


RISK = _model("kidney", "Kidney risk", _NUMBERS + _RISK, _CAUTION)
RISK_ASSESSMENT = _model("kidney", "Kidney risk", _NUMBERS + _RISK + _AS_RISK, _CAUTION)
BESIDE = _model("kidney", "Kidney risk", _NUMBERS + _RISK + _REGRESSION.replace("COLUMN", "1"))
SCORE = _model("news", "Early warning score", _NUMBERS + _SCORE)
REGRESSION = _model("filtration", "Filtration", _NUMBERS + _REGRESSION.replace("COLUMN", "0"))
CLASSES = _model("specialty", "Specialty of a note", _TEXT + _CLASSES)
LABELS = _model("chest", "Chest X-ray reader", _IMAGE + _LABELS)

#: A PNG of one black pixel.
PNG = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
MAPPED = Explained(
    parts="squares",
    output=LABELS.outputs[0],
    subject="Effusion",
    effects=(Effect("0:0", 0.42, 1.9), Effect("0:14", -0.03, -0.2)),
    total=0.7,
    most=5,
    drawing=Drawing(PNG, 1, 1),
)
MOVED = Explained(
    parts="inputs",
    output=RISK.outputs[0],
    effects=(Effect("Creatinine in blood", 0.31), Effect("Age", 0.12)),
    total=0.43,
    most=5,
)


@dataclass(frozen=True)
class Used:
    """One input as a model was given it."""

    id: str
    value: float | None
    unit: str
    effective: datetime | None
    sources: tuple[str, ...]
    status: str = "present"


NUMBERS = (
    Used("creatinine", 1.8, "mg/dL", CONTEXT.issued, ("Observation/o1/_history/3",)),
    Used("age", 64.0, "a", None, ("Patient/p1/_history/1",)),
)
IMAGE = (Used("image", None, "", CONTEXT.issued, ("Media/m1/_history/1",)),)
NOTE = (Used("text", None, "", CONTEXT.issued, ("DocumentReference/n1/_history/2",)),)


def context_of(route: str) -> ResultContext:
    """The same patient and event, by another route."""
    return replace(CONTEXT, identifier=result_identifier("ehr", "key", route, DIGEST))


def made(
    manifest: Manifest,
    *row: float,
    inputs: tuple[Used, ...] = NUMBERS,
    context: ResultContext = CONTEXT,
    explained: Explained | None = None,
) -> Report:
    """The report of one row of a model's output tensor."""
    return report(
        manifest, row, inputs=inputs, context=context, runtime=RUNTIME, explained=explained
    )


def with_map() -> Report:
    """A report with an occlusion map of one black pixel."""
    return made(LABELS, 0.81, 0.12, inputs=IMAGE, context=context_of("chest"), explained=MAPPED)


def reports() -> Mapping[str, Report]:
    """A report of every kind, by the name of its golden file."""
    image_context = replace(CONTEXT, trigger=None)
    return {
        "probability": made(RISK, 0.73),
        "score": made(SCORE, 7.0),
        "regression": made(REGRESSION, 48.25),
        "class": made(CLASSES, 0.83, 0.1, 0.07, inputs=NOTE),
        "uncertain": made(CLASSES, 0.4, 0.35, 0.25, inputs=NOTE),
        "labels": report(
            LABELS, (0.81, 0.12), inputs=IMAGE, context=image_context, runtime=RUNTIME
        ),
        "beside": made(BESIDE, 0.73, 48.25),
        "risk-assessment": made(RISK_ASSESSMENT, 0.73, explained=MOVED),
        "mapped": with_map(),
        "refusal": refusal(
            LABELS,
            reason="Chest X-ray: the image is blank.",
            sources=("Media/m1/_history/1",),
            is_outside_use=False,
            context=image_context,
            runtime=RUNTIME,
        ),
    }


def resources() -> Mapping[str, dict[str, Any]]:
    """Every resource that has a golden file, by the name of it."""
    results = {name: report.result for name, report in reports().items()}
    (media,) = with_map().attachments
    return {**results, "media": media}


def golden(name: str) -> dict[str, Any]:
    """The resource that a golden file holds."""
    found: dict[str, Any] = orjson.loads((GOLDEN / f"{name}.json").read_bytes())
    return found


def write_golden() -> None:
    """Write every golden file anew."""
    for name, resource in resources().items():
        text = orjson.dumps(resource, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        (GOLDEN / f"{name}.json").write_bytes(text)


if __name__ == "__main__":
    write_golden()
