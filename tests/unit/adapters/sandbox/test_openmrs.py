"""What is entered by OpenMRS's REST interface is there by FHIR, and an entry of the feeds."""

import pytest

REST = "/openmrs/ws/rest/v1"
VISIT = f"{REST}/bahmnicore/bahmniencounter"
PERSON = {
    "names": [{"givenName": "Asha", "familyName": "Rao"}],
    "gender": "F",
    "birthdate": "1961-06-15T00:00:00.000+0530",
}
CREATININE = {
    "uuid": "c1000000-0000-4000-8000-000000000001",
    "name": "Creatinine",
    "units": "mg/dL",
    "mappings": [{"source": "LOINC", "code": "2160-0"}, {"source": "ICD-10-WHO", "code": "N18"}],
}


def registered(ehr) -> str:
    answer = ehr.ask("POST", f"{REST}/patient", json={"person": PERSON})
    assert answer.status_code == 201
    return answer.json()["uuid"]


def entries(ehr, feed: str) -> int:
    return ehr.ask("GET", f"/openmrs/ws/atomfeed/{feed}/recent").text.count("<entry>")


def test_who_is_registered_is_a_patient_and_an_entry(ehr):
    name = registered(ehr)

    found = ehr.ask("GET", f"/fhir/Patient/{name}").json()
    assert (found["gender"], found["birthDate"]) == ("female", "1961-06-15")
    assert found["name"] == [{"given": ["Asha"], "family": "Rao"}]
    assert [entries(ehr, feed) for feed in ("patient", "encounter", "lab", "drug")] == [1, 0, 0, 0]


def test_a_visit_is_one_entry_and_its_results_have_the_codes_of_their_concepts(ehr):
    result = {"concept": CREATININE, "value": 1.5, "observationDateTime": "2026-11-26T09:00+0530"}

    said = {"patientUuid": registered(ehr), "observations": [result, result]}
    visit = ehr.ask("POST", VISIT, json=said).json()

    ids = ehr.ids(f"/fhir/Observation?encounter={visit['encounterUuid']}")
    assert sorted(ids) == sorted(each["uuid"] for each in visit["observations"])
    found = ehr.ask("GET", f"/fhir/Observation/{ids[0]}").json()
    assert found["code"]["coding"] == [
        {"code": CREATININE["uuid"], "display": "Creatinine"},
        {"system": "http://loinc.org", "code": "2160-0"},
    ]
    assert found["valueQuantity"] == {"value": 1.5, "unit": "mg/dL"}
    assert found["effectiveDateTime"] == "2026-11-26T09:00:00+05:30"
    assert entries(ehr, "encounter") == 1


def test_a_result_that_is_changed_is_voided_and_another_takes_its_place(ehr):
    said = {"patientUuid": registered(ehr), "observations": [{"concept": CREATININE, "value": 1.5}]}
    first = ehr.ask("POST", VISIT, json=said).json()
    old = first["observations"][0]["uuid"]

    changed = {"uuid": old, "concept": CREATININE, "value": 1.9}
    again = {**said, "encounterUuid": first["encounterUuid"], "observations": [changed]}
    answer = ehr.ask("POST", VISIT, json=again).json()

    assert ehr.ask("GET", f"/fhir/Observation/{old}").status_code == 410
    new = answer["observations"][0]["uuid"]
    assert ehr.ids(f"/fhir/Observation?encounter={first['encounterUuid']}") == [new]


@pytest.mark.parametrize(
    ("path", "said", "status"),
    [
        ("patient", {}, 400),
        ("patient", [], 400),
        ("patient", {"person": {"names": "Asha"}}, 400),
        ("patient/nobody", {}, 404),
        ("bahmnicore/bahmniencounter", {"patientUuid": "nobody"}, 404),
    ],
)
def test_what_can_not_be_saved_is_refused_and_makes_no_entry(ehr, path: str, said, status: int):
    assert ehr.ask("POST", f"{REST}/{path}", json=said).status_code == status

    assert entries(ehr, "patient") == entries(ehr, "encounter") == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"encounterUuid": "none"},
        {"observations": [{"uuid": "none", "concept": CREATININE}]},
        {"observations": [{"value": 1}]},
        {"observations": [{"concept": CREATININE, "observationDateTime": "yesterday"}]},
    ],
    ids=["no such visit", "no such result", "no concept", "no time"],
)
def test_a_visit_that_can_not_be_saved_leaves_nothing(ehr, changed: dict):
    said = {"patientUuid": registered(ehr), **changed}

    assert ehr.ask("POST", VISIT, json=said).status_code in {400, 404}

    assert entries(ehr, "encounter") == 0
    assert ehr.ids("/fhir/Encounter") == ehr.ids("/fhir/Observation") == []


def test_what_is_no_json_is_refused(ehr):
    assert ehr.ask("POST", f"{REST}/patient", content=b"{").status_code == 400


def test_what_is_written_by_fhir_makes_no_entry(ehr):
    ehr.put({"resourceType": "Patient", "id": "p"})
    ehr.put({"resourceType": "Encounter", "id": "e", "status": "unknown", "class": {"code": "AMB"}})

    assert entries(ehr, "patient") == entries(ehr, "encounter") == 0
