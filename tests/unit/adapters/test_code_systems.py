"""A code system that is written almost right is known for what it was meant to be."""

import pytest

from adapters.code_systems import meant_system
from adapters.hl7v2.tables import known_code_systems

LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://loinc.org", LOINC),
        ("http://loinc.org/", LOINC),
        ("http://www.loinc.org", LOINC),
        ("http://LOINC.org", LOINC),
        ("http://loinc.com", LOINC),
        ("http://lonic.org", LOINC),
        ("loinc.org", LOINC),
        ("https://loinc.org/2160-0/", LOINC),
        ("urn:oid:2.16.840.1.113883.6.1", LOINC),
        ("https://snomed.info/sct", SNOMED),
        ("http://snomed.info/sct/", SNOMED),
        ("http://snomed.info", SNOMED),
        ("http://snomed.org/sct", SNOMED),
        ("http://snomedct.info/sct", SNOMED),
        ("http://snomed.info/SCT", SNOMED),
        ("https://unitsofmeasure.org", UCUM),
        ("http://unitofmeasure.org", UCUM),
        ("http://ucum.org", UCUM),
        ("https://hl7.org/fhir/sid/icd-10", "http://hl7.org/fhir/sid/icd-10"),
        ("http://hl7.org/fhir/sid/icd-10-cm/", "http://hl7.org/fhir/sid/icd-10-cm"),
        ("http://whocc.no/atc", "http://www.whocc.no/atc"),
        (
            "https://terminology.hl7.org/CodeSystem/observation-category",
            "http://terminology.hl7.org/CodeSystem/observation-category",
        ),
    ],
)
def test_what_was_meant_is_found(written: str, meant: str) -> None:
    assert meant_system(written) == meant


@pytest.mark.parametrize("system", sorted(known_code_systems()))
def test_what_is_right_is_left_alone(system: str) -> None:
    assert meant_system(system) is None


@pytest.mark.parametrize(
    "system",
    [
        "",
        "final",
        "2160-0",
        "urn:oid:1.2.3",
        "https://hospital.example/lab-codes",
        "http://clinic.org",
        "http://loinc.org/vs/LL379-9",
        "http://snomed.info/sct/45991000052106",
        "http://hl7.org/fhir/sid/icd-10-nl",
        "http://terminology.hl7.org/CodeSystem/v3-ActReason",
        "https://terminology.hl7.example/CodeSystem/a",
        "https://nadi.health/fhir/codes",
    ],
)
def test_what_is_another_is_left_alone(system: str) -> None:
    assert meant_system(system) is None
