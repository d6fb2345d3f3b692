"""Where the site names a secret, what a system pushes has to be signed with it."""

import hmac

import pytest

from tests.conftest import Api
from tests.factories import SITE, creatinine, raw

SECRET = b"0123456789-of-a-subscription"
BODY = raw(creatinine(1))
JSON = {"Content-Type": "application/fhir+json"}


def signature(body: bytes, secret: bytes = SECRET) -> dict[str, str]:
    return {"X-Signature": hmac.new(secret, body, "sha256").hexdigest()}


SIGNED = SITE.replace("[push]", "[{push: {signature_secret: 'env:NADI_TEST_SECRET'}}]")


@pytest.fixture
def signing(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("NADI_TEST_SECRET", f"{SECRET.decode()}\n")
    return api


@pytest.mark.parametrize("api", [SIGNED], indirect=True)
def test_what_is_signed_is_received(signing: Api):
    headers = signing.headers() | JSON

    pushed = signing.client.post("/fhir", content=BODY, headers=headers | signature(BODY))
    deleted = signing.client.post(
        "/fhir",
        content=b"{}",
        headers=headers | signature(b"{}") | {"X-Medplum-Deleted-Resource": "Observation/o1"},
    )

    assert (pushed.status_code, deleted.status_code) == (202, 202)


@pytest.mark.parametrize("api", [SIGNED], indirect=True)
@pytest.mark.parametrize(
    "given",
    [{}, {"X-Signature": ""}, signature(BODY, b"other"), signature(BODY + b" ")],
    ids=["none", "empty", "of-another-secret", "of-another-body"],
)
def test_what_is_not_signed_so_is_refused(signing: Api, given: dict[str, str]):
    headers = signing.headers() | JSON | given

    answers = [
        signing.client.post("/fhir", content=BODY, headers=headers),
        signing.client.post("/fhir/Observation", content=BODY, headers=headers),
        signing.client.put("/fhir/Observation/o1", content=BODY, headers=headers),
        signing.client.post("/fhir", headers=headers),
        signing.client.request("DELETE", "/fhir/Observation/o1", headers=headers),
        signing.client.post(
            "/fhir", headers=headers | {"X-Medplum-Deleted-Resource": "Observation/o1"}
        ),
    ]

    assert [each.status_code for each in answers] == [403] * 6
    assert "X-Signature is not the HMAC-SHA256 of this body" in answers[0].text
    with signing.store.read() as uow:
        assert uow.events.recent(principal_id=None, limit=1) == []


def test_without_a_secret_no_signature_is_looked_at(api: Api):
    headers = api.headers() | JSON | {"X-Signature": "whatever"}

    assert api.client.post("/fhir", content=BODY, headers=headers).status_code == 202
