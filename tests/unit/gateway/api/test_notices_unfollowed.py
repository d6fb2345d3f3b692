"""Notices of a system that no listener follows: refused, where a 2xx would lose something."""

import pytest

from gateway.core.fhir import parse_resource
from tests.conftest import Api
from tests.factories import creatinine, raw
from tests.notifications import notification


@pytest.mark.parametrize("events", [[(1, "Observation/o1")], [(1, None)]], ids=["id", "empty"])
def test_what_only_points_at_something_is_refused(
    api: Api, events: list[tuple[object, str | None]]
):
    answer = api.post(raw(notification("event-notification", total=1, events=events)))

    assert answer.status_code == 422
    parse_resource(answer.content, expected_type="OperationOutcome")


def test_a_ping_is_refused(api: Api):
    assert api.client.post("/fhir", headers=api.headers()).status_code == 422


def test_what_brings_everything_is_taken_and_nothing_is_kept(api: Api):
    full = notification("event-notification", total=1, resources=[creatinine(1)])

    assert api.post(raw(full)).json()["entry"][0]["response"]["status"] == "202"
    assert api.post(raw(notification("heartbeat", total=1))).status_code == 200

    with api.store.read() as uow:
        assert uow.notices.depths() == {}
