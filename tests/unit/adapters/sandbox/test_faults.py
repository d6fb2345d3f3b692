from typing import Any

import pytest

from adapters.sandbox.faults import FaultKnobs, Faults
from adapters.sandbox.refusal import Refusal

OBSERVATION = {
    "resourceType": "Observation",
    "meta": {"security": [{"code": "AIAST"}], "tag": [{"code": "t"}]},
    "identifier": [{"system": "s", "value": "1"}],
    "device": {"reference": "Device/1"},
}


def set_faults(ehr: Any, **faults: Any) -> None:
    assert ehr.ask("POST", "/sandbox/faults", json=faults).status_code == 200


def test_faults_are_set_and_shown_and_others_stay(ehr) -> None:
    set_faults(ehr, slow_ms=1)
    set_faults(ehr, error_rate=0.5)

    shown = ehr.ask("GET", "/sandbox/faults").json()

    assert (shown["slow_ms"], shown["error_rate"], shown["down"]) == (1, 0.5, "no")


@pytest.mark.parametrize(
    "changes", [{"down": "a bit"}, {"error_rate": 2}, {"slow_ms": -1}, {"colour": 1}]
)
def test_faults_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    knobs = FaultKnobs()

    with pytest.raises(Refusal):
        knobs.turn(changes)

    assert knobs.current == Faults()


def test_an_ehr_that_is_down_answers_503_and_comes_back(ehr) -> None:
    set_faults(ehr, down="503", retry_after_s=7)
    away = ehr.ask("GET", "/fhir/metadata")
    set_faults(ehr, down="no")

    back = ehr.ask("GET", "/fhir/metadata")

    assert (away.status_code, away.headers["retry-after"]) == (503, "7")
    assert back.status_code == 200


def test_errors_come_at_their_rate_and_do_nothing(ehr) -> None:
    set_faults(ehr, error_rate=0.5, error_statuses=[500, 429], seed=3)

    answers = [ehr.ask("POST", "/fhir/Observation", json=OBSERVATION) for _ in range(60)]

    statuses = [each.status_code for each in answers]
    assert set(statuses) == {201, 500, 429}
    assert 15 <= statuses.count(201) <= 45
    limited = [each for each in answers if each.status_code == 429]
    assert all(each.headers["retry-after"] == "1" for each in limited)
    set_faults(ehr, error_rate=0)
    stats = ehr.ask("GET", "/sandbox/stats").json()
    assert stats["resources"]["Observation"] == statuses.count(201)


def test_a_write_may_be_done_and_answered_with_an_error(ehr) -> None:
    set_faults(ehr, fail_after_commit_rate=1, error_statuses=[500])
    failed = ehr.ask("POST", "/fhir/Observation", json=OBSERVATION)
    set_faults(ehr, fail_after_commit_rate=0)

    stats = ehr.ask("GET", "/sandbox/stats").json()

    assert failed.status_code == 500
    assert stats["resources"]["Observation"] == 1


def test_an_ehr_may_let_nothing_be_read_or_searched_and_take_what_is_written(ehr) -> None:
    set_faults(ehr, no_reads=True)
    condition = {"If-None-Exist": "identifier=s|1"}

    written = ehr.ask("POST", "/fhir/Observation", json=OBSERVATION, headers=condition)

    place = written.headers["location"].partition("/_history/")[0].rpartition("/fhir")[2]
    asked = [
        ehr.ask("GET", f"/fhir{place}"),
        ehr.ask("GET", "/fhir/Observation"),
        ehr.ask("POST", "/fhir/Observation/_search"),
    ]
    assert written.status_code == 201
    assert [each.status_code for each in asked] == [404, 404, 404]


def test_a_number_is_kept_in_the_unit_of_its_code(ehr) -> None:
    set_faults(ehr, units_by_code={"risk": "%"})
    number = {"value": 0.2, "unit": "probability", "code": "{probability}"}
    coded = {name: {"coding": [{"code": name}]} for name in ("risk", "other")}

    kept = [
        ehr.ask(
            "POST",
            "/fhir/Observation",
            json={**OBSERVATION, "code": code, "valueQuantity": number},
        ).json()["valueQuantity"]
        for code in coded.values()
    ]

    assert kept == [{"value": 0.2, "unit": "%"}, number]


def test_a_page_holds_no_more_than_its_most_whatever_is_asked(ehr) -> None:
    for _ in range(3):
        ehr.ask("POST", "/fhir/Observation", json=OBSERVATION)
    set_faults(ehr, max_page_size=2)

    pages = [ehr.ask("GET", f"/fhir/Observation{asked}").json() for asked in ("", "?_count=100")]

    assert [len(page["entry"]) for page in pages] == [2, 2]


def test_a_put_to_an_unknown_id_is_refused_as_the_ehr_does_it(ehr) -> None:
    set_faults(ehr, no_update_create=True, unknown_id_status=404)

    answer = ehr.ask("PUT", "/fhir/Observation/mine", json={**OBSERVATION, "id": "mine"})

    assert answer.status_code == 404


def test_the_same_seed_gives_the_same_dice() -> None:
    def throws() -> list[bool]:
        knobs = FaultKnobs()
        knobs.turn({"seed": 5})
        return [knobs.strikes(0.5) for _ in range(40)]

    assert throws() == throws()


def test_elements_are_lost_in_silence(ehr) -> None:
    set_faults(ehr, drop_elements=["device", "meta.security", "Observation.identifier"])

    answer = ehr.ask("POST", "/fhir/Observation", json=OBSERVATION)

    written = answer.json()
    assert answer.status_code == 201
    assert {"device", "identifier"}.isdisjoint(written)
    assert "security" not in written["meta"]
    assert written["meta"]["tag"] == [{"code": "t"}]
    patient = {"resourceType": "Patient", "identifier": OBSERVATION["identifier"]}
    assert "identifier" in ehr.ask("POST", "/fhir/Patient", json=patient).json()


def test_without_conditional_create_there_are_copies(ehr) -> None:
    set_faults(ehr, no_conditional_create=True)

    for _ in range(2):
        ehr.ask(
            "POST",
            "/fhir/Observation",
            json=OBSERVATION,
            headers={"If-None-Exist": "identifier=s|1"},
        )

    assert ehr.ask("GET", "/sandbox/stats").json()["duplicates"] == {"Observation": 1}


def test_an_ehr_may_lack_types_and_choose_ids_itself(ehr) -> None:
    set_faults(ehr, unsupported_types=["Provenance"], no_update_create=True)

    provenance = ehr.ask("POST", "/fhir/Provenance", json={"resourceType": "Provenance"})
    put = ehr.ask("PUT", "/fhir/Observation/a", json=OBSERVATION)

    assert (provenance.status_code, put.status_code) == (404, 405)


def test_unknown_parameters_can_be_ignored(ehr) -> None:
    set_faults(ehr, ignore_unknown_params=True)
    ehr.put(OBSERVATION | {"id": "a"})

    assert ehr.ids("/fhir/Observation?colour=red") == ["a"]
