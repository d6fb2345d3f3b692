"""What a hook does not bring along is asked of the EHR, if the patient's consents foresee that."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.store.audit_log import AuditFilter
from tests.cds import Ehr, cds_site, chart, request, working
from tests.conftest import Api
from tests.sandbox import TOKEN, SandboxEhr

_BODY = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 300}
AUTHORIZATION = {**_BODY, "scope": "patient/*.read", "subject": "cds"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxEhr]:
    made = SandboxEhr()
    made.start()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for part in chart(1).values():
        held = [each["resource"] for each in part["entry"]] if "entry" in part else [part]
        for each in held:
            address = f"{made.origin}/fhir/{each['resourceType']}/{each['id']}"
            httpx.put(address, json=each, headers=headers).raise_for_status()
    yield made
    made.stop()


SITE = cds_site(2000, "${CDS_TEST_EHR:-http://ehr.test}/fhir").replace(
    "auth: {kind: none}", "auth: {kind: bearer, token: env:CDS_TEST_TOKEN}"
)


asking = pytest.mark.parametrize("api", [SITE], indirect=True)


@pytest.fixture
def ehr(
    api: Api, tmp_path: Path, sandbox: SandboxEhr, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ehr]:
    monkeypatch.setenv("CDS_TEST_EHR", sandbox.origin)
    monkeypatch.setenv("CDS_TEST_TOKEN", TOKEN)
    with working(api.store, tmp_path / "imported"):
        yield Ehr(api)


def asked(sandbox: SandboxEhr, **changed: object) -> dict:
    authorized = {"fhirAuthorization": AUTHORIZATION, **changed}
    made = request(fhirServer=f"{sandbox.origin}/fhir", **authorized)
    made.pop("prefetch")
    return made


def outcomes(ehr: Ehr, event: str) -> list[str]:
    with ehr.api.store.read() as uow:
        found = uow.audit_log.search(AuditFilter(limit=1000))
    return [each.outcome for each in found if each.event == event]


@asking
def test_a_call_without_prefetch_is_answered_from_the_ehr_with_the_callers_token(
    ehr: Ehr, sandbox: SandboxEhr
):
    ehr.permit()

    card = ehr.card(asked(sandbox))

    assert card["summary"].startswith("Estimated risk of chronic kidney disease (AI): high")
    assert outcomes(ehr, "fetch") == ["0"] * 11


@asking
def test_nothing_is_asked_of_the_ehr_where_consent_forbids(ehr: Ehr, sandbox: SandboxEhr):
    ehr.permit(1, "deny")

    card = ehr.card(asked(sandbox))

    assert card["summary"].endswith("(AI): a result may follow")
    assert outcomes(ehr, "fetch") == []
    assert outcomes(ehr, "consent") == ["8"]


@asking
def test_an_ehr_that_refuses_the_token_gives_412(ehr: Ehr, sandbox: SandboxEhr):
    ehr.permit()
    wrong = {**AUTHORIZATION, "access_token": "expired"}

    answer = ehr.ask(asked(sandbox, fhirAuthorization=wrong))

    assert answer.status_code == 412
    (issue,) = answer.json()["issue"]
    assert issue["code"] == "not-found"
    assert issue["diagnostics"].startswith("The EHR did not give patient, ")
    assert " and 8 more, or not in time: " in issue["diagnostics"]
    assert outcomes(ehr, "fetch") == ["4"] * 11


@asking
def test_where_what_the_model_needs_is_nowhere_the_answer_is_412_and_says_what(ehr: Ehr):
    ehr.permit(3)
    made = request(3)
    del made["prefetch"]["patient"]["birthDate"]

    answer = ehr.ask(made)

    assert answer.status_code == 412
    assert "Age" in answer.json()["issue"][0]["diagnostics"]
