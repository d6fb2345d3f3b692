from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.sandbox.ward import Ward, ward
from adapters.sandbox.ward_labs import LOCAL_CODES
from gateway.core.consent import ConsentRequest, decide, read_consent
from gateway.core.fhir import parse_resource
from models import manifest
from workers.features import Refusal, extract

START = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def forty() -> Ward:
    return ward(40, seed=1, start=START)


def test_every_resource_is_valid_r4(forty: Ward) -> None:
    for event in forty.timeline:
        parse_resource(orjson.dumps(event.resource))


def test_the_same_seed_gives_the_same_ward_and_another_gives_another(forty: Ward) -> None:
    assert ward(40, seed=1, start=START) == forty
    assert ward(40, seed=2, start=START) != forty


def test_a_patient_comes_before_consent_before_results_before_creatinine(forty: Ward) -> None:
    order = {"patient": 0, "consent": 1, "vital": 2, "lab": 2, "revocation": 3}
    for patient_id in forty.expectations:
        own = [event for event in forty.timeline if event.patient_id == patient_id]

        ranks = [4 if event.is_trigger else order[event.kind] for event in own]

        assert ranks == sorted(ranks)
        assert ranks[0] == 0
        assert ranks[-1] == 4


def test_offsets_and_ages_run_forward_and_nothing_lies_in_the_future(forty: Ward) -> None:
    offsets = [event.offset_s for event in forty.timeline]
    updates = [event.resource["meta"]["lastUpdated"] for event in forty.timeline]

    assert offsets == sorted(offsets)
    assert updates == sorted(updates)
    for event in forty.timeline:
        changed = event.resource["meta"]["lastUpdated"]
        assert changed < START.isoformat()
        assert event.resource.get("effectiveDateTime", "") <= changed


def test_most_permit_and_every_case_is_there(forty: Ward) -> None:
    counts = Counter(forty.expectations.values())

    assert counts["result"] >= 22
    assert counts["consent-denied"] >= 8
    assert {each for each in counts if each.startswith("refused:")} == {
        "refused:input-implausible",
        "refused:unit-unknown",
        "refused:too-few-inputs",
    }
    assert any(event.kind == "revocation" for event in forty.timeline)


def test_consents_mean_what_is_expected_of_them() -> None:
    some = ward(300, seed=7, start=START)
    for patient_id, expectation in some.expectations.items():
        newest = {
            event.resource["id"]: event.resource
            for event in some.timeline
            if event.patient_id == patient_id and event.resource["resourceType"] == "Consent"
        }
        about = f"Patient/{patient_id}"
        records = [read_consent(each, name, patient=about) for name, each in newest.items()]

        decision = decide(ConsentRequest(about, "TREAT", START), records)

        assert decision.is_permitted == (expectation != "consent-denied")


def test_one_result_is_expected_per_creatinine_of_those_who_permit(forty: Ward) -> None:
    triggers = Counter(event.patient_id for event in forty.timeline if event.is_trigger)

    for patient_id, expected in forty.expected_results.items():
        is_result = forty.expectations[patient_id] == "result"
        assert expected == (triggers[patient_id] if is_result else 0)
    assert max(triggers.values()) == 2


def test_the_first_model_makes_of_the_results_what_is_expected() -> None:
    folder = Path(__file__).parents[4] / "models" / "reference" / "ckd-risk"
    needs = manifest.parse((folder / "manifest.toml").read_text())
    some = ward(60, seed=5, start=START)
    pushed: dict[str, list[dict[str, Any]]] = {}
    found: dict[str, set[str]] = {}
    for event in some.timeline:
        record = pushed.setdefault(event.patient_id, [])
        record.append(event.resource)
        if event.is_trigger:
            outcome = extract(
                needs,
                [each for each in record if each["resourceType"] == "Observation"],
                patient=record[0],
                at=datetime.fromisoformat(event.resource["effectiveDateTime"]),
                local_codes=LOCAL_CODES,
            )
            said = f"refused:{outcome.reason}" if isinstance(outcome, Refusal) else "result"
            found.setdefault(event.patient_id, set()).add(said)

    agrees = {
        patient_id: found[patient_id] == {expectation}
        for patient_id, expectation in some.expectations.items()
        if expectation != "consent-denied"
    }

    assert all(agrees.values()), [found[name] for name, is_so in agrees.items() if not is_so]


def test_identifiers_can_belong_to_nobody_and_all_are_adults(forty: Ward) -> None:
    people = [event.resource for event in forty.timeline if event.kind == "patient"]

    assert len({each["identifier"][0]["value"] for each in people}) == 40
    assert all(each["identifier"][0]["value"].startswith("00-") for each in people)
    assert all(each["telecom"][0]["value"].startswith("+91 00") for each in people)
    assert all(date.fromisoformat(each["birthDate"]).year <= START.year - 18 for each in people)


def test_labs_come_in_mixed_codes_and_units() -> None:
    quantities = {
        (coding["code"], event.resource["valueQuantity"]["unit"])
        for event in ward(60, seed=3, start=START).timeline
        if event.kind == "lab"
        for coding in event.resource["code"]["coding"]
    }

    assert {("2160-0", "mg/dL"), ("14682-9", "µmol/L"), ("718-7", "g/L"), ("718-7", "gm%")} <= (
        quantities
    )
    assert {("TLC", "10*3/uL"), ("14749-6", "mmol/L"), ("2951-2", "mEq/L")} <= quantities


@pytest.mark.parametrize("patients", [0, 1, 5])
def test_small_wards_work_too(patients: int) -> None:
    assert len(ward(patients, seed=1, start=START).expectations) == patients
