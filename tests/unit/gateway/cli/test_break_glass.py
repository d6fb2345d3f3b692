"""Break-glass used and reviewed by two credentials at one login: both views say so."""

import json
from pathlib import Path

import pytest

from gateway.breaking import review
from gateway.cli.context import login
from gateway.cli.doctor_privacy import same_logins
from gateway.core.audit import Source
from gateway.core.principal import Principal, Role
from gateway.store.break_glass import ReviewVerdict
from tests.commands import Run
from tests.installation import Installation, consent, creatinine, installation

ASKED = ("run", "Patient/p1", "--route", "ckd-risk", "--reason", "Unconscious", "--json")
VERDICT = ("--verdict", "justified", "--comment", "Confirmed.")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glass") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(consent("p1", rule="deny"), creatinine("p1"))
    return folder


def broken(nadi: Installation, run: Run) -> str:
    token = nadi.folder / "credentials" / "clinician.token"
    return str(json.loads(run("break-glass", *ASKED, credential=token).stdout)["review"])


def warned(nadi: Installation) -> str:
    with nadi.store.read() as uow:
        return same_logins(uow)


def test_a_use_and_its_review_by_one_login_are_told_in_the_view_and_by_doctor(
    nadi: Installation, run: Run
) -> None:
    use = broken(nadi, run)
    assert warned(nadi) == ""

    run("break-glass", "review", use, *VERDICT)

    assert f"both by login {login()}" in run("audit", "break-glass").stdout
    assert f"Use and review were both by login {login()}" in warned(nadi)


def test_a_review_from_elsewhere_is_not_held_against_anybody(nadi: Installation, run: Run) -> None:
    use = broken(nadi, run)
    with nadi.store.write() as uow:
        officer_id, _ = uow.credentials.add("dr-sen", Role.COMPLIANCE)
    review(
        nadi.store,
        Source("sandbox", "api"),
        use,
        reviewer=Principal(officer_id, "dr-sen", Role.COMPLIANCE, None),
        verdict=ReviewVerdict.JUSTIFIED,
        comment="Confirmed.",
    )

    assert "both by login" not in run("audit", "break-glass").stdout
    assert warned(nadi) == ""
