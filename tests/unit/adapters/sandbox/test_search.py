from typing import Any

import pytest

from adapters.sandbox.refusal import Refusal
from adapters.sandbox.search import parse_pairs, parse_query, run
from adapters.sandbox.store import Store

LOINC = "http://loinc.org"


def observation(code: str, patient: str, effective: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}, {"system": "l", "code": f"L{code}"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": effective,
        **more,
    }


@pytest.fixture(scope="module")
def store() -> Store:
    filled = Store()
    day, device = "2026-03-0", {"device": {"reference": "http://ehr.test/fhir/Device/d/_history/2"}}
    filled.put(observation("1", "p", f"{day}1", identifier=[{"system": "s", "value": "a,b"}]), "o1")
    filled.put(observation("2", "p", f"{day}3T10:00:00+05:30", **device), "o2")
    filled.put(observation("1", "q", f"{day}2", meta={"tag": [{"code": "t"}]}), "o3")
    period = {"start": "2026-03-04", "end": "2026-03-06"}
    filled.put(
        {"resourceType": "Observation", "status": "preliminary", "effectivePeriod": period}, "o4"
    )
    filled.put({"resourceType": "Observation", "status": "final"}, "o5")
    filled.put({"resourceType": "Provenance", "target": [{"reference": "Observation/o1"}]}, "v")
    filled.put(
        {"resourceType": "Patient", "active": True, "name": [{"family": "Nāyar", "given": ["Bi"]}]},
        "p",
    )
    filled.put({"resourceType": "Basic", "subject": {"reference": "Patient/p"}}, "b")
    return filled


def found(store: Store, resource_type: str, query: str) -> list[str]:
    return [each.id for each in run(store, parse_query(resource_type, parse_pairs(query)))]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["o5", "o4", "o3", "o2", "o1"]),
        ("_id=o2,o1,nothing", ["o2", "o1"]),
        ("patient=p", ["o2", "o1"]),
        ("subject=Patient/p", ["o2", "o1"]),
        ("patient=http://other.test/Patient/q", ["o3"]),
        ("code=http://loinc.org|1", ["o3", "o1"]),
        ("code=http://loinc.org|1,l|L2", ["o3", "o2", "o1"]),
        ("code=L2", ["o2"]),
        ("code=l|", ["o3", "o2", "o1"]),
        ("code=http://loinc.org|L2", []),
        ("code=1&patient=p", ["o1"]),
        ("identifier=s|a\\,b", ["o1"]),
        ("identifier=a\\,b", ["o1"]),
        ("identifier=t|a\\,b", []),
        ("device=d", ["o2"]),
        ("device=Device/d", ["o2"]),
        ("_tag=t", ["o3"]),
        ("status=preliminary", ["o4"]),
        ("date=ge2026-03-02&date=lt2026-03-03", ["o3"]),
        ("date=2026-03-03", ["o2"]),
        ("date=gt2026-03-03", ["o4"]),
        ("date=le2026-03-01", ["o1"]),
        ("date=sa2026-03-03", ["o4"]),
        ("date=eb2026-03-02", ["o1"]),
        ("date=2026", ["o4", "o3", "o2", "o1"]),
        ("date=ne2026", []),
        ("_sort=date", ["o1", "o3", "o2", "o4", "o5"]),
        ("_sort=-date", ["o4", "o2", "o3", "o1", "o5"]),
        ("_sort=_lastUpdated&patient=p", ["o1", "o2"]),
        ("_sort=-_id&status=final", ["o5", "o3", "o2", "o1"]),
        ("_lastUpdated=gt2100-01-01", []),
        ("_lastUpdated=lt2100-01-01&patient=q", ["o3"]),
        ("_lastUpdated=ge2020-01-01&patient=q&_format=json", ["o3"]),
    ],
)
def test_a_search_finds_what_it_says(store: Store, query: str, ids: list[str]) -> None:
    assert found(store, "Observation", query) == ids


@pytest.mark.parametrize(
    ("resource_type", "query", "ids"),
    [
        ("Provenance", "target=Observation/o1", ["v"]),
        ("Provenance", "target=Observation/o2", []),
        ("Patient", "name=nā", ["p"]),
        ("Patient", "family=yar", []),
        ("Basic", "patient=p", ["b"]),
    ],
)
def test_other_types_have_their_own_parameters(
    store: Store, resource_type: str, query: str, ids: list[str]
) -> None:
    assert found(store, resource_type, query) == ids


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("colour=red", "not-supported"),
        ("patient:missing=true", "not-supported"),
        ("date=soon", "value"),
        ("_count=many", "value"),
        ("_sort=code", "not-supported"),
        ("_summary=text", "not-supported"),
        ("_include=Observation:code", "not-supported"),
        ("_include=Patient:subject", "not-supported"),
    ],
)
def test_what_it_does_not_know_is_refused(query: str, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_query("Observation", parse_pairs(query))

    assert (refused.value.status, refused.value.code) == (400, code)


def test_a_loose_ehr_ignores_what_it_does_not_know_and_matches_everything(store: Store) -> None:
    query = parse_query("Observation", [("colour", "red")], ignore_unknown=True)

    assert len(run(store, query)) == 5


def test_a_parameter_can_be_made_to_match_everything(store: Store) -> None:
    query = parse_query("Observation", [("identifier", "none|1")], ignored=("identifier",))

    assert len(run(store, query)) == 5
