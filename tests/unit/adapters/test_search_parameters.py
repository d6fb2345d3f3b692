"""Searches that a site file asks for are checked against the search parameters of FHIR R4."""

import csv
from pathlib import Path

import pytest

from adapters.search_parameters import include_problems, parameters_of, search_problems
from adapters.site_trigger import resource_types

TABLE = Path(__file__).resolve().parents[3] / "adapters" / "search_parameters.csv"
KINDS = {
    "composite",
    "date",
    "number",
    "quantity",
    "reference",
    "special",
    "string",
    "token",
    "uri",
}


@pytest.mark.parametrize(
    "search",
    [
        "Observation",
        "Observation?category=laboratory",
        "Observation?category=laboratory&code=http://loinc.org|2160-0&status:not=cancelled",
        "Observation?code:in=http://example.org/vs&value-quantity=gt5&date:missing=false",
        "Observation?subject:Patient.identifier=7&patient=7&performer:identifier=a|b",
        "Observation?encounter.location.name:contains=ward&_tag=x&_profile=http://a/b",
        "Observation?_has:Provenance:target:agent=Device/a",
        "Patient?_has:Observation:patient:_has:AuditEvent:entity:agent=7&_list=42",
        "Patient?general-practitioner._has:PractitionerRole:practitioner:active=true",
        "Patient?family:exact=Rao&birthdate=ge2000&_text=a&_filter=x",
        "Consent?status=active",
    ],
)
def test_what_the_standard_has_is_let_pass(search: str) -> None:
    assert list(search_problems(search)) == []


@pytest.mark.parametrize(
    ("search", "said"),
    [
        (
            "Observation?catgory=laboratory",
            "Observation has no search parameter 'catgory'; did you mean 'category'? One of",
        ),
        ("Patient?category=a", "Patient has no search parameter 'category'"),
        ("Observation?_tga=a", "'_tga'; did you mean '_tag'?"),
        ("Observation?code", "'code' has no value: write code=…"),
        ("Observation?code=", "'code' has no value"),
        (
            "Observation?_lastUpdated=ge2020",
            "'_lastUpdated' does not belong here: Nadi asks for it",
        ),
        ("Observation?_include=Observation:subject", "write it under `include`"),
        ("Observation?_summary=true", "a model needs whole resources"),
        ("Observation?code:exact=a", "'code' has no modifier 'exact'"),
        ("Observation?status:nott=a", "'nott'; did you mean 'not'?"),
        ("Observation?subject:Patiant=7", "'subject' has no modifier 'Patiant'"),
        ("Observation?code.name=a", "'code' is no reference: nothing may follow it by a dot"),
        ("Observation?subject:Patiant.name=a", "type 'Patiant'; did you mean 'Patient'?"),
        ("Observation?subject:Patient.nmae=a", "Patient has no search parameter 'nmae'"),
        ("Observation?subject.nmae=a", "no resource type has a search parameter 'nmae'"),
        ("Patient?_has:Observation:patient=7", "_has is written as _has:Type:reference:parameter"),
        ("Patient?_has:Observaton:patient:code=7", "did you mean 'Observation'?"),
        ("Patient?_has:Observation:patiant:code=7", "did you mean 'patient'?"),
        ("Patient?_has:Observation:patient:cod=7", "did you mean 'code'?"),
    ],
)
def test_what_no_ehr_would_understand_is_named(search: str, said: str) -> None:
    assert any(said in each for each in search_problems(search))


def test_a_parameter_of_the_ehr_s_own_is_let_pass_for_its_type_alone() -> None:
    own = ["Observation:ward"]

    assert list(search_problems("Observation?ward=3&ward:in=x&ward.name=y", own)) == []
    assert list(include_problems("Observation:ward", own)) == []
    assert "Patient has no search parameter 'ward'" in next(search_problems("Patient?ward=3", own))


def test_an_include_is_a_reference_of_its_type() -> None:
    assert list(include_problems("Observation:subject")) == []
    assert list(include_problems("Observation:code")) == [
        "'code' of Observation points at no other resource"
    ]
    (said,) = include_problems("Observation:subjekt")
    assert said.startswith("Observation has no search parameter 'subjekt'; did you mean 'subject'?")


def test_the_table_knows_types_of_the_standard_alone_and_those_that_models_read() -> None:
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    types = {row["type"] for row in rows}
    assert types - {"Resource", "DomainResource"} <= resource_types()
    assert {row["kind"] for row in rows} <= KINDS
    assert parameters_of("Observation").items() >= {
        ("code", "token"),
        ("date", "date"),
        ("subject", "reference"),
        ("code-value-quantity", "composite"),
        ("_id", "token"),
    }
    # These are searched by what every type has, and by nothing else.
    assert parameters_of("Binary").keys() == parameters_of("OperationOutcome").keys()
