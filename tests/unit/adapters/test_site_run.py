"""The keys `priority` and `run` of a route, and `rate` of a system."""

import pytest

from adapters.site import SiteInvalid, load_site
from gateway.core.lanes import Lane

SITE = """
site: heavy
systems:
  ehr: {{kind: fhir-rest, base_url: "http://ehr.test/fhir"{rate}}}
routes:
  toy:
    source: ehr
    match: "Observation.code.coding.where(code='1')"
    consent: {{purpose: TREAT}}
    model: toy@1
    sink: {{system: ehr}}
    {route}
{more}
"""


def site(route: str = "", rate: str = "", more: str = ""):
    return load_site(SITE.format(route=route, rate=rate, more=more))


def problems(**parts: str) -> str:
    with pytest.raises(SiteInvalid) as refused:
        site(**parts)
    return str(refused.value)


def test_a_route_is_routine_and_runs_at_any_time_unless_the_file_says_otherwise() -> None:
    route = site().routes[0]

    assert (route.lane, route.window) == (Lane.ROUTINE, None)
    assert site().systems["ehr"].per_second is None


def test_a_route_has_a_priority_and_hours_in_the_zone_of_the_site() -> None:
    hours = 'hours: {timezone: Asia/Kolkata, days: [mon], start: "08:00", end: "17:00"}'
    route = site('priority: urgent\n    run: {between: ["20:00", "06:00"]}', more=hours).routes[0]

    assert route.lane is Lane.URGENT
    assert route.window is not None
    assert route.window.words == "20:00 to 06:00 (Asia/Kolkata)"


def test_a_route_may_name_a_zone_of_its_own() -> None:
    route = site('run: {between: ["20:00", "06:00"], timezone: Europe/Paris}').routes[0]

    assert route.window is not None
    assert route.window.zone.key == "Europe/Paris"


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ('run: {between: ["20:00", "06:00"]}', "time zone"),
        ('run: {between: ["20:00", "20:00"], timezone: UTC}', "empty"),
        ('run: {between: ["20:00"], timezone: UTC}', "at least 2"),
        ('run: {between: ["24:00", "06:00"], timezone: UTC}', "two times of day"),
        ('run: {between: ["20:00", "06:00"], timezone: Mars/Base}', "unknown time zone"),
        ('run: {betwen: ["20:00", "06:00"]}', "did you mean"),
        ("priority: soon", "'stat', 'asap', 'urgent' or 'routine'"),
    ],
    ids=["no zone", "empty", "one", "no hour", "no such zone", "misspelt", "priority"],
)
def test_what_can_not_be_is_refused_with_its_reason(route: str, says: str) -> None:
    assert says in problems(route=route)


def test_a_rate_is_at_least_one_request_in_two_seconds() -> None:
    assert site(rate=", rate: {per_second: 20}").systems["ehr"].per_second == 20
    assert "0.5" in problems(rate=", rate: {per_second: 0.1}")
