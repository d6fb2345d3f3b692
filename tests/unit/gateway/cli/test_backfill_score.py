"""`nadi backfill score` on a ward whose fates are known: it has to find each of them."""

import json
from collections import Counter

import pytest

from adapters.sandbox.ward import ward
from gateway.store.audit_log import AuditFilter
from tests.commands import Run
from tests.installation import Installation

COMMAND = ("backfill",)
PATIENTS = 40


@pytest.fixture
def played(nadi: Installation) -> Counter[str]:
    """Receive a ward; give how many creatinines there are of each fate."""
    made = ward(PATIENTS, 7)
    nadi.receive(*(event.resource for event in made.timeline))
    return Counter(
        made.expectations[event.patient_id].removeprefix("refused:").replace("result", "scored")
        for event in made.timeline
        if event.is_trigger
    )


def test_every_event_gets_the_fate_it_would_have_had(played: Counter[str], run: Run, tmp_path):
    lines = tmp_path / "scores.ndjson"

    said = json.loads(run("score", "--route", "ckd-risk", "--lines", str(lines), "--json").stdout)

    found = {name: count for name, count in said["outcomes"].items() if name != "not-matched"}
    assert found == played
    assert (said["matched"], set(said) >= {"p5", "p50", "p95"}) == (played.total(), True)
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    assert Counter(each["outcome"] for each in written) == said["outcomes"]
    assert all(0 <= each["value"] <= 100 for each in written if each["outcome"] == "scored")
    assert lines.stat().st_mode & 0o077 == 0
    assert "ward7" not in lines.read_text()


@pytest.mark.usefixtures("played")
def test_nothing_is_stored_and_whose_data_was_read_is_on_record(nadi: Installation, run: Run):
    with nadi.store.read() as uow:
        before = uow.connection.exec_driver_sql("select count(*) from jobs").scalar()

    run("score", "--route", "ckd-risk")

    with nadi.store.read() as uow:
        after = uow.connection.exec_driver_sql("select count(*) from jobs").scalar()
        records = uow.audit_log.search(AuditFilter(limit=5000))
        results = uow.connection.exec_driver_sql("select count(*) from deliveries").scalar()
    asked = {each.patient_key for each in records if each.event == "query"}
    assert (after, results, len(asked)) == (before, 0, PATIENTS)


def test_of_two_results_of_one_time_each_is_scored_by_its_own_value(
    nadi: Installation, run: Run, tmp_path
):
    made = ward(PATIENTS, 7)
    someone = next(name for name, fate in made.expectations.items() if fate == "result")
    chart = [event for event in made.timeline if event.patient_id == someone]
    first = next(event.resource for event in chart if event.is_trigger)
    value = first["valueQuantity"]["value"]
    second = first | {
        "id": "zz-second",
        "valueQuantity": first["valueQuantity"] | {"value": value * 2},
    }
    nadi.receive(*(event.resource for event in chart), second)
    lines = tmp_path / "scores.ndjson"

    run("score", "--route", "ckd-risk", "--lines", str(lines))

    written = [json.loads(line) for line in lines.read_text().splitlines()]
    values = [each["value"] for each in written if each["outcome"] == "scored"]
    assert len(values) == 2
    assert len(set(values)) == 2


@pytest.mark.usefixtures("played")
def test_only_what_is_asked_for_is_scored(run: Run):
    asked = ("score", "--route", "ckd-risk", "--since", "2999-01-01", "--json")

    assert json.loads(run(*asked).stdout) == {"matched": 0, "outcomes": {}}


def test_an_unknown_route_and_a_file_that_is_there_are_refused(run: Run, tmp_path):
    (tmp_path / "there").touch()

    assert "no route" in run("score", "--route", "nothing", code=1).stderr
    refused = run("score", "--route", "ckd-risk", "--lines", str(tmp_path / "there"), code=1)
    assert "can't be written" in refused.stderr
