import pytest

from gateway.core.lanes import LANES, Lane, most_urgent, stated_lane


def test_the_lanes_are_the_codes_of_request_priority_the_most_urgent_first() -> None:
    assert [lane.code for lane in sorted(Lane)] == ["stat", "asap", "urgent", "routine"]
    assert LANES["stat"] is Lane.STAT


@pytest.mark.parametrize(
    ("resource", "lane"),
    [
        ({"resourceType": "ServiceRequest", "priority": "stat"}, Lane.STAT),
        ({"resourceType": "Task", "priority": "asap"}, Lane.ASAP),
        ({"resourceType": "Communication", "priority": "urgent"}, Lane.URGENT),
        ({"resourceType": "ServiceRequest"}, None),
        ({"resourceType": "ServiceRequest", "priority": "yesterday"}, None),
        ({"resourceType": "Encounter", "priority": {"coding": [{"code": "S"}]}}, None),
        ({"resourceType": "Appointment", "priority": 1}, None),
    ],
    ids=["service request", "task", "communication", "silent", "unknown", "concept", "number"],
)
def test_a_resource_says_how_urgent_it_is_only_in_the_codes_of_a_request(resource, lane) -> None:
    assert stated_lane(resource) is lane


def test_the_most_urgent_that_is_stated_holds_and_routine_where_nothing_is() -> None:
    assert most_urgent(None, Lane.ROUTINE, Lane.ASAP) is Lane.ASAP
    assert most_urgent(None, None) is Lane.ROUTINE
