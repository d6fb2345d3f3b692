"""What became of a card is kept once, sealed, and on record."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.audited import bodies
from tests.cds import SERVICE, Ehr, cds_site, request, working
from tests.conftest import Api

PATH = f"/cds-services/{SERVICE}/feedback"
NOTE = "Mrs. Rao is on dialysis"
site = pytest.mark.parametrize("api", [cds_site()], indirect=True)


@pytest.fixture
def ehr(api: Api, tmp_path: Path) -> Iterator[Ehr]:
    with working(api.store, tmp_path / "imported"):
        yield Ehr(api)


def overridden(card: object, **changed: object) -> dict:
    reason = {
        "system": "https://nadi.health/fhir/CodeSystem/cds-override-reason",
        "code": "already-known",
    }
    said = {
        "card": card,
        "outcome": "overridden",
        "overrideReason": {"reason": reason, "userComment": NOTE},
        "outcomeTimestamp": "2026-11-26T10:00:00Z",
        **changed,
    }
    return {"feedback": [said]}


def shown(ehr: Ehr) -> str:
    ehr.permit()
    return str(ehr.card(request())["uuid"])


@site
def test_an_overridden_card_is_kept_with_its_reason_and_its_comment_sealed(ehr: Ehr):
    card = shown(ehr)

    answers = [ehr.post(PATH, overridden(card)).status_code for _ in range(2)]

    assert answers == [200, 200]
    with ehr.api.store.read() as uow:
        (kept,) = uow.cds.listed(route="ckd-risk")
        said = orjson.loads(uow.cds.said(kept))
        [audited] = bodies(uow.connection, "event = 'feedback'")
    assert (kept.job_id, kept.outcome, kept.reason) == (card, "overridden", "already-known")
    assert said["overrideReason"]["userComment"] == NOTE
    assert NOTE.encode() not in kept.said
    assert b"Rao" not in audited
    assert b"already-known" in audited


@site
def test_an_accepted_card_is_kept(ehr: Ehr):
    said = {
        "card": shown(ehr),
        "outcome": "accepted",
        "acceptedSuggestions": [{"id": "s1"}],
        "outcomeTimestamp": "2026-11-26T10:00:00+05:30",
    }

    assert ehr.post(PATH, {"feedback": [said]}).status_code == 200

    with ehr.api.store.read() as uow:
        (kept,) = uow.cds.listed()
    assert (kept.outcome, kept.reason, kept.client) == ("accepted", "", "ehr/cds-hooks")


@site
def test_what_was_said_of_an_erased_patient_is_removed(ehr: Ehr):
    ehr.post(PATH, overridden(shown(ehr)))
    key = ehr.api.store.sealer.patient_key("ehr", "Patient/p1")

    with ehr.api.store.write() as uow:
        uow.erasures.empty(key, [])

    with ehr.api.store.read() as uow:
        assert uow.cds.listed() == []


@site
@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"card": "01a216b9-a192-74b3-b690-000000000000"}, "feedback[0].card"),
        ({"card": 7}, "feedback[0].card"),
        ({"outcome": "ignored"}, "feedback[0].outcome"),
        ({"outcomeTimestamp": "yesterday"}, "feedback[0].outcomeTimestamp"),
        ({"outcomeTimestamp": None}, "feedback[0].outcomeTimestamp"),
        ({"overrideReason": "no"}, "feedback[0].overrideReason"),
    ],
    ids=["unknown card", "no card", "outcome", "no time", "null", "reason"],
)
def test_feedback_that_is_none_is_explained_and_nothing_is_kept(
    api: Api, changed: dict, place: str
):
    answer = Ehr(api).post(PATH, overridden(**{"card": "x", **changed}))

    assert answer.status_code in {400, 404, 422}
    assert answer.json()["issue"][0]["expression"] == [place]
    assert NOTE not in answer.text
    with api.store.read() as uow:
        assert uow.cds.listed() == []


@site
@pytest.mark.parametrize("body", [b"{", b"{}", b'{"feedback": []}', b'{"feedback": [1]}'])
def test_a_body_without_feedback_is_refused(api: Api, body: bytes):
    assert Ehr(api).post(PATH, body).status_code == 400
