"""`nadi worklist`: list, show, sign off as a clinician, have tried again."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.core.delivery import NewDelivery
from gateway.core.jobs import JobId
from tests.commands import Run
from tests.installation import Installation, consent, creatinine, installation
from tests.listed import keep_here
from tests.result_models import RISK, context_of, made

COMMAND = ("worklist",)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worklist") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(consent("p1"), creatinine("p1"), creatinine("p1", 2))
        for job_id, patient_key in ready(nadi):
            report = made(RISK, 0.7, context=context_of(job_id))
            with nadi.store.write() as uow:
                new = NewDelivery(
                    job_id=JobId(job_id),
                    system="ehr",
                    patient_key=patient_key,
                    identifier=report.identifier,
                    body=report.to_json(),
                )
                uow.deliveries.add([new])
            keep_here(nadi.store, JobId(job_id))
    return folder


def ready(nadi: Installation) -> list[tuple[str, str]]:
    with nadi.store.read() as uow:
        query = "select id, patient_key from jobs where state = 'ready'"
        return [(row[0], row[1]) for row in uow.connection.execute(sa.text(query))]


def items(run: Run) -> list[str]:
    return [each["id"] for each in json.loads(run("list", "--json").stdout)]


def test_items_are_listed_and_shown_without_their_results(run: Run):
    first, *_ = items(run)

    assert first in run("list").stdout
    assert "1 of 2" in run("list", "--limit", "1").stdout
    assert "on-worklist" in run("show", first).stdout
    shown = json.loads(run("show", first, "--json").stdout)
    assert (shown["id"], shown["status"]) == (first, "requested")


def test_a_misspelt_system_is_told_and_one_without_items_too(run: Run):
    unknown = run("retry", "--system", "ehrr", code=1)

    assert "There is no system 'ehrr' in the site file; known: ehr." in unknown.output


def test_a_clinician_signs_off_and_nobody_else(nadi: Installation, run: Run):
    first, second = items(run)
    folder = nadi.folder / "credentials"
    refused = run("sign-off", first, credential=folder / "operator.token", code=1)
    assert "this takes role clinician" in refused.stderr

    clinician = folder / "clinician.token"
    run("sign-off", first, "--reason", "entered-by-hand", credential=clinician)
    run("sign-off", first, credential=clinician)
    stale = run("sign-off", second, "--seen", "7-on-worklist", credential=clinician, code=1)

    assert "not any more as you saw it" in stale.stderr
    assert items(run) == [second]
    assert "entered-by-hand" in run("show", first).stdout


def test_everything_of_a_system_is_tried_again_and_what_left_the_list_is_told(run: Run):
    listed = items(run)

    assert run("retry", "--system", "ehr").stdout.count("is tried again") == len(listed)

    assert items(run) == []
    assert "not on the worklist" in run("retry", listed[0], code=1).stderr
    assert "Name items, or a system" in run("retry", code=2).stderr
