from dataclasses import dataclass, replace
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.fhir import parse_bundle, parse_resource
from gateway.core.findings import (
    DIGEST_SYSTEM,
    RESULT_SYSTEM,
    Report,
    ResultContext,
    RuntimeFacts,
    refusal,
    report,
    result_identifier,
)
from gateway.core.write_back import (
    CONTAINED_DEVICE,
    StoredReport,
    device_condition,
    is_device,
    is_provenance,
    is_result,
    provenance_of,
    transaction,
    with_device,
)
from models.manifest import Manifest, parse
from models.registry import REFERENCE_MODELS

MANIFEST = """
manifest_version = 1
name = "toy-risk"
version = "1.2.3"
title = "Toy <risk> & more"
intended_use = "Adults."
not_for = "children & diagnosis."
demonstration_only = true
manufacturer = "Makers & Co"
licence = "Apache-2.0"
card = "card.md"
golden = "golden.json"

[weights]
file = "model.onnx"
sha256 = "{zeros}"
format = "onnx-fp32"
tolerance = 0.001
input_name = "x"
output_name = "y"

[[inputs]]
id = "creatinine"
label = "Serum creatinine"
unit = "mg/dL"
max_age_h = 24
plausible = [0.1, 50.0]
missing = "mask"
codes = [{{ system = "http://loinc.org", code = "2160-0" }}]

[[inputs]]
id = "age"
label = "Age"
source = "patient-age"
unit = "a"
unit_text = "years"
plausible = [0, 130]
missing = "mask"

[[outputs]]
name = "risk"
column = 0
code = {{ system = "https://nadi.health/fhir/sid/toy", code = "toy", display = "Toy risk" }}
unit = "1"
range = [0.0, 1.0]
summary = "Toy risk {{percent}} % ({{label}}). {{advice}} {{used}} of {{total}} inputs."

[[outputs.bands]]
at_least = 0.0
interpretation = "N"
label = "low"
advice = "Nothing."

[[outputs.bands]]
at_least = 0.5
interpretation = "H"
label = "high"
advice = "Look <again>."
""".format(zeros="0" * 64)

SECOND_OUTPUT = """
[[outputs]]
name = "other"
column = 1
code = { system = "https://nadi.health/fhir/CodeSystem/result", code = "other" }
unit = "1"
range = [0.0, 1.0]
summary = "Other {percent} %"

[[outputs.bands]]
at_least = 0.0
interpretation = "N"
label = "low"
advice = "Nothing."
"""

RUNTIME = RuntimeFacts(
    model_digest="d" * 64, runtime="onnxruntime 1.32.0", kernel_class="avx2 exact-int8"
)
IDENTIFIER = result_identifier("ehr", "key", "route", "d" * 64)
CONTEXT = ResultContext(
    identifier=IDENTIFIER,
    subject="Patient/p1",
    encounter="Encounter/e1",
    effective={"effectiveDateTime": "2026-11-20"},
    issued=datetime(2026, 11, 23, 6, 30, 0, 123456, tzinfo=UTC),
    trigger="Observation/o1/_history/3",
)


@dataclass(frozen=True)
class Used:
    id: str
    value: float | None
    unit: str
    effective: datetime | None
    sources: tuple[str, ...]
    status: str


INPUTS = (
    Used(
        "creatinine",
        1.8,
        "mg/dL",
        datetime(2026, 11, 20, tzinfo=UTC),
        ("Observation/o1/_history/3", "https://other.example/fhir/DiagnosticReport/r1"),
        "present",
    ),
    Used("age", None, "a", None, (), "missing"),
)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return parse(MANIFEST)


def make(manifest: Manifest, *outputs: float, context: ResultContext = CONTEXT) -> Report:
    return report(manifest, outputs or (0.73,), inputs=INPUTS, context=context, runtime=RUNTIME)


def refused(manifest: Manifest, context: ResultContext = CONTEXT) -> Report:
    return refusal(
        manifest,
        reason="Serum creatinine: the newest result is too old.",
        sources=("Observation/o1/_history/3",),
        is_outside_use=False,
        context=context,
        runtime=RUNTIME,
    )


def stored(report: Report) -> StoredReport:
    return StoredReport.read(report.to_json())


def shapes(manifest: Manifest) -> dict[str, Report]:
    bare = replace(CONTEXT, encounter=None, trigger=None)
    period = replace(CONTEXT, effective={"effectivePeriod": {"start": "2026-11-20"}})
    two = parse(MANIFEST + SECOND_OUTPUT)
    return {
        "value": make(manifest),
        "no-encounter": make(manifest, context=bare),
        "period": make(manifest, context=period),
        "components": make(two, 0.2, 0.4),
        "refusal": refused(manifest),
        "bare-refusal": refusal(
            manifest,
            reason="Age: the model was not made for such a patient.",
            sources=(),
            is_outside_use=True,
            context=bare,
            runtime=RUNTIME,
        ),
    }


@pytest.mark.parametrize(
    "shape", ["value", "no-encounter", "period", "components", "refusal", "bare-refusal"]
)
def test_every_shape_of_report_is_valid_r4(manifest: Manifest, shape: str) -> None:
    made = shapes(manifest)[shape]

    for resource in (made.observation, made.device, made.provenance):
        parse_resource(orjson.dumps(resource))

    assert parse_bundle(transaction([stored(made)], {}).body).type == "transaction"


def test_a_result_is_preliminary_labelled_and_about_the_right_patient_and_time(
    manifest: Manifest,
) -> None:
    observation = make(manifest).observation

    assert observation["status"] == "preliminary"
    assert observation["meta"]["security"][0]["code"] == "AIAST"
    assert observation["identifier"] == [{"system": RESULT_SYSTEM, "value": IDENTIFIER}]
    assert observation["subject"] == {"reference": "Patient/p1"}
    assert observation["encounter"] == {"reference": "Encounter/e1"}
    assert observation["effectiveDateTime"] == "2026-11-20"
    assert observation["issued"] == "2026-11-23T06:30:00.123+00:00"
    assert observation["interpretation"][0]["coding"][0]["code"] == "H"
    assert observation["valueQuantity"] == {
        "value": 0.73,
        "unit": "1",
        "system": "http://unitsofmeasure.org",
        "code": "1",
    }


def test_a_result_list_says_that_an_ai_estimated_it(manifest: Manifest) -> None:
    observation = make(manifest).observation

    code = observation["code"]
    assert code["text"] == "Toy risk (AI, demonstration only)"
    assert code["coding"][0]["display"] == "Toy risk"
    assert observation["category"][0]["text"] == "AI risk estimate"
    assert refused(manifest).observation["code"] == code


def test_an_output_is_named_by_its_label_and_its_unit_is_written_for_people() -> None:
    words = 'unit = "1"\nunit_text = "probability"\nlabel = "Risk of toys"\nrange'
    manifest = parse(MANIFEST.replace('unit = "1"\nrange', words))

    observation = make(manifest).observation

    assert observation["code"]["text"] == "Risk of toys (AI, demonstration only)"
    quantity = observation["valueQuantity"]
    assert (quantity["unit"], quantity["code"]) == ("probability", "1")


def test_an_output_without_display_is_named_and_marked_too() -> None:
    (component,) = make(parse(MANIFEST + SECOND_OUTPUT), 0.2, 0.4).observation["component"]

    assert component["code"]["text"] == "other (AI, demonstration only)"


def test_a_band_without_a_code_is_interpreted_in_words_only() -> None:
    manifest = parse(MANIFEST.replace('interpretation = "N"\n', ""))

    made = make(manifest, 0.2)

    assert made.observation["interpretation"] == [{"text": "low"}]
    parse_resource(orjson.dumps(made.observation))


def test_the_text_writes_units_for_people(manifest: Manifest) -> None:
    age = Used("age", 57.0, "a", None, ("Patient/p1",), "present")

    made = report(
        manifest, (0.2,), inputs=(INPUTS[0], age), context=CONTEXT, runtime=RUNTIME
    ).observation["text"]["div"]

    assert "Serum creatinine 1.8 mg/dL (2026-11-20), Age 57 years." in made


def test_a_low_risk_of_the_reference_model_promises_nothing() -> None:
    file = REFERENCE_MODELS / "ckd-risk" / "manifest.toml"
    ckd = parse(file.read_text(encoding="utf-8"))
    values = {"age": 57, "diastolic": 71, "leukocytes": 7.1, "erythrocytes": 4.9}
    inputs = [
        Used(name, value, ckd.input(name).unit, None, (), "present")
        for name, value in values.items()
    ]

    made = report(ckd, (0.0094573,), inputs=inputs, context=CONTEXT, runtime=RUNTIME).observation

    parse_resource(orjson.dumps(made))
    assert made["code"]["text"] == "Chronic kidney disease risk (AI, demonstration only)"
    assert made["valueQuantity"]["unit"] == "probability"
    assert (made["valueQuantity"]["value"], made["valueQuantity"]["code"]) == (
        0.0094573,
        "{probability}",
    )
    assert made["interpretation"] == [{"text": "low"}]
    text = made["text"]["div"]
    assert "<b>Estimated risk of chronic kidney disease (AI): low, below 1 %, from 4" in text
    assert (
        "Age 57 years, Diastolic blood pressure 71 mmHg, White blood cells 7.1 ×10³/µL, "  # noqa: RUF001
        "Red blood cells 4.9 ×10⁶/µL" in text  # noqa: RUF001
    )
    assert "\n" not in text + made["note"][0]["text"]


def test_derived_from_names_only_types_that_r4_allows_and_provenance_names_all(
    manifest: Manifest,
) -> None:
    made = make(manifest)

    assert made.observation["derivedFrom"] == [{"reference": "Observation/o1/_history/3"}]
    assert made.provenance is not None
    sources = [e["what"]["reference"] for e in made.provenance["entity"] if e["role"] == "source"]
    assert sources == [
        "Observation/o1/_history/3",
        "https://other.example/fhir/DiagnosticReport/r1",
    ]


def test_provenance_names_model_digest_runtime_kernels_and_the_ai(manifest: Manifest) -> None:
    provenance = make(manifest).provenance

    assert provenance is not None
    author, assembler = provenance["agent"]
    assert author["role"][0]["coding"][0]["code"] == "Artificial-Intelligence"
    assert assembler["who"]["identifier"]["value"] == "onnxruntime/1.32.0/avx2/exact-int8"
    assert provenance["entity"][-1]["what"]["identifier"] == {
        "system": DIGEST_SYSTEM,
        "value": "d" * 64,
    }
    assert provenance["reason"][0]["coding"][0]["code"] == "AIAST"


def test_a_route_without_provenance_gets_none(manifest: Manifest) -> None:
    made = make(manifest, context=replace(CONTEXT, with_provenance=False))

    assert made.provenance is None
    assert provenance_of(made, "Observation/1") is None
    assert with_device(made, "Device/1").observation["device"] == {"reference": "Device/1"}


def test_the_text_tells_the_finding_first_and_is_escaped(manifest: Manifest) -> None:
    text = make(manifest).observation["text"]

    paragraphs = ["".join(each.itertext()) for each in ET.fromstring(text["div"])]  # noqa: S314
    assert paragraphs[0] == "Toy risk 73 % (high). Look <again>. 1 of 2 inputs."
    assert paragraphs[1] == "Based on: Serum creatinine 1.8 mg/dL (2026-11-20)."
    assert "not yet reviewed by a clinician" in paragraphs[2]
    assert paragraphs[3].startswith("Demonstration only: not a medical device.")


def test_a_result_says_after_its_advice_in_whom_the_model_does_harm(manifest: Manifest) -> None:
    cautious = manifest.model_copy(update={"contraindications": ("Dialysis.", "A <graft>.")})

    made = make(cautious)

    paragraphs = [
        "".join(each.itertext())
        for each in ET.fromstring(made.observation["text"]["div"])  # noqa: S314
    ]
    said = "Contraindications: Dialysis. A <graft>."
    assert paragraphs[1] == said
    assert made.observation["note"][1] == {"text": said}
    assert said in made.device["note"][0]["text"]
    parse_resource(orjson.dumps(made.observation))


@pytest.mark.parametrize(
    ("model", "row"),
    [("note-specialty", [0.9] + [0.1 / 12] * 12), ("note-specialty", [1 / 13] * 13)],
    ids=["said", "uncertain"],
)
def test_a_desk_for_a_note_is_never_named_without_saying_that_emergencies_are_not_for_it(
    model: str, row: list[float]
) -> None:
    specialty = parse((REFERENCE_MODELS / model / "manifest.toml").read_text(encoding="utf-8"))

    made = report(specialty, row, inputs=(), context=CONTEXT, runtime=RUNTIME).observation

    found, cautions, *_ = ["".join(each.itertext()) for each in ET.fromstring(made["text"]["div"])]  # noqa: S314
    assert "Not for emergencies: urgency is not read." in found
    assert "  " not in found
    assert cautions.startswith("Contraindications: Notes of emergencies:")
    assert made["note"][0]["text"].startswith(
        "Demonstration only: not a medical device. Not for: Emergencies"
    )


def test_a_coded_answer_is_told_in_words_and_a_bare_number_without_a_unit() -> None:
    file = REFERENCE_MODELS / "liver-risk" / "manifest.toml"
    liver = parse(file.read_text(encoding="utf-8"))
    inputs = [
        Used("sex", 0.0, "1", None, (), "present"),
        Used("albumin-globulin", 1.3, "1", None, (), "present"),
        Used("albumin", 4.1, "g/dL", None, (), "present"),
    ]

    text = report(liver, (0.6,), inputs=inputs, context=CONTEXT, runtime=RUNTIME).observation

    assert "Based on: Sex male, Albumin to globulin ratio 1.3, Albumin 4.1 g/dL." in str(
        text["text"]["div"]
    )


def test_a_model_that_is_a_product_says_what_it_is_not_for(manifest: Manifest) -> None:
    product = manifest.model_copy(update={"demonstration_only": False})

    observation = make(product).observation

    assert observation["note"] == [{"text": "Not for: children & diagnosis."}]
    assert observation["code"]["text"] == "Toy risk (AI)"


def test_a_refusal_has_a_reason_and_no_value(manifest: Manifest) -> None:
    made = refused(manifest)

    assert "valueQuantity" not in made.observation
    absent = made.observation["dataAbsentReason"]
    assert absent["coding"][0]["code"] == "not-performed"
    assert absent["text"] == "Serum creatinine: the newest result is too old."
    assert made.identifier == IDENTIFIER


def test_the_same_cause_gives_the_same_report_byte_for_byte(manifest: Manifest) -> None:
    assert make(manifest).to_json() == make(parse(MANIFEST)).to_json()


def test_an_output_outside_its_range_is_no_result(manifest: Manifest) -> None:
    with pytest.raises(ValueError, match="outside its range"):
        make(manifest, float("nan"))


def test_a_report_is_read_back_as_it_was_written(manifest: Manifest) -> None:
    made = make(manifest)

    assert Report.from_json(made.to_json()) == made


@given(st.lists(st.text(max_size=8), min_size=4, max_size=4), st.integers(0, 3))
def test_results_of_different_causes_have_different_identifiers(
    cause: list[str], changed: int
) -> None:
    other = [*cause]
    other[changed] += "x"

    assert result_identifier(*cause) == result_identifier(*cause)
    assert result_identifier(*cause) != result_identifier(*other)


def test_a_transaction_holds_a_shared_device_once_and_knows_its_observations(
    manifest: Manifest,
) -> None:
    other = make(manifest, context=replace(CONTEXT, identifier=result_identifier(*"abcd")))

    made = transaction([stored(make(manifest)), stored(other)], {})

    entries = orjson.loads(made.body)["entry"]
    types = [entry["resource"]["resourceType"] for entry in entries]
    assert types == ["Device", "Observation", "Observation", "Provenance", "Provenance"]
    assert (made.results, made.size) == ((1, 2), 5)
    assert entries[0]["request"]["ifNoneExist"] == device_condition("d" * 64)
    assert entries[1]["resource"]["device"]["reference"] == entries[0]["fullUrl"]
    assert entries[3]["resource"]["target"][0]["reference"] == entries[1]["fullUrl"]
    assert entries[3]["request"]["ifNoneExist"] == f"_tag={RESULT_SYSTEM}|{IDENTIFIER}"


def test_resources_written_one_by_one_refer_to_their_places_in_the_ehr(
    manifest: Manifest,
) -> None:
    placed = with_device(make(manifest), "Device/7")
    provenance = provenance_of(placed, "Observation/8")

    assert placed.observation["device"] == {"reference": "Device/7"}
    assert provenance is not None
    assert provenance["agent"][0]["who"]["reference"] == "Device/7"
    assert provenance["target"] == [{"reference": "Observation/8"}]
    assert len(provenance["agent"]) == 2


def test_a_report_that_carries_its_device_is_valid_r4(manifest: Manifest) -> None:
    placed = with_device(make(manifest), CONTAINED_DEVICE)

    parse_resource(orjson.dumps(placed.observation))
    parse_resource(orjson.dumps(provenance_of(placed, "Observation/8")))


def test_what_an_ehr_gives_is_recognised_by_its_own_marks_only(manifest: Manifest) -> None:
    made = make(manifest)

    assert is_result(made.observation, IDENTIFIER)
    assert not is_result({"resourceType": "Observation"}, IDENTIFIER)
    assert is_device(made.device, "d" * 64)
    assert not is_device(made.device, "e" * 64)
    assert is_provenance(made.provenance or {}, IDENTIFIER)
    assert not is_provenance({"meta": {}}, IDENTIFIER)
