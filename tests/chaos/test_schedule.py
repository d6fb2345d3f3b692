"""A seed gives the whole schedule and all stories again, and every fault is in some schedule."""

from itertools import islice

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.schedule import ON_POSTGRESQL, PROCESSES, Planned, lanes
from tests.chaos.stories import KINDS, Story, Teller

HOUR = 1200


def schedule(seed: int, *, is_postgresql: bool = False) -> dict[str, list[Planned]]:
    found = lanes(seed, is_postgresql=is_postgresql)
    return {name: list(islice(lane, HOUR)) for name, lane in found.items()}


@pytest.mark.parametrize("seed", [0, 1, 4711])
def test_a_seed_gives_the_same_schedule_again(seed: int) -> None:
    assert schedule(seed) == schedule(seed)
    assert schedule(seed) != schedule(seed + 1)


def test_every_fault_that_can_be_injected_strikes_within_an_hour() -> None:
    struck = {each.kind for lane in schedule(3, is_postgresql=True).values() for each in lane}

    assert struck == {*PROCESSES, *ON_POSTGRESQL} == FAULTS.keys() - {"freeze-ehr"}


def test_a_broker_that_nobody_of_ours_watches_over_is_not_frozen_for_good() -> None:
    found = lanes(3, is_postgresql=False, is_rabbitmq=True)

    struck = {each.kind for each in islice(found["processes"], HOUR)}

    assert struck == PROCESSES.keys() - {"stop-broker"}


def stories(seed: int) -> tuple[Teller, list[Story]]:
    teller = Teller(seed)
    return teller, list(islice(teller.stories(), 200))


def test_a_seed_tells_the_same_stories_again() -> None:
    (_, first), (_, second) = stories(5), stories(5)

    assert [each.kind for each in first] == [each.kind for each in second]
    assert [_untimed(each) for each in first] == [_untimed(each) for each in second]
    assert {each.kind for each in first} == KINDS.keys()


def _untimed(story: Story) -> list[object]:
    return [
        {**push.resource, "effectiveDateTime": "", "expected": push.expected}
        for push in (*story.chart, *story.then)
    ]


def test_everything_of_a_patient_carries_a_mark() -> None:
    teller, told = stories(6)

    for story in told:
        for push in (*story.chart, *story.then):
            assert teller.token in push.resource["id"]
            if "valueQuantity" in push.resource:
                assert repr(push.resource["valueQuantity"]["value"]).endswith(teller.tail)
            if push.resource["resourceType"] == "Patient":
                assert push.resource["birthDate"].encode() in teller.marks
                assert teller.tail in push.resource["telecom"][0]["value"]
