from dataclasses import replace

import pytest

from gateway.core.routing import Route, leading_type, matching_routes
from tests.factories import creatinine

ROUTE = Route(
    name="ckd-risk",
    source="ehr",
    match="Observation",
    resource_type="Observation",
    model="ckd-risk@1",
    purpose="TREAT",
    consent_default="deny",
    sink="ehr",
    with_provenance=True,
    report_refusals=False,
    trigger=lambda content: content["status"] == "final",
)


def never(_content: object) -> bool:
    raise AssertionError("a resource of another type or source is not evaluated")


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("Observation.where(code.exists())", "Observation"),
        ("  Patient", "Patient"),
        ("code.exists()", None),
        ("", None),
        ("%resource", None),
    ],
)
def test_the_type_a_trigger_starts_with_is_read(match: str, expected: str | None):
    assert leading_type(match) == expected


def test_routes_that_match_come_in_the_order_of_the_site_file():
    routes = [replace(ROUTE, name="b"), replace(ROUTE, name="a", resource_type=None)]

    found = matching_routes(routes, "ehr", "Observation", creatinine())

    assert [route.name for route in found] == ["b", "a"]


def test_a_trigger_that_says_no_does_not_match():
    assert matching_routes([ROUTE], "ehr", "Observation", creatinine(status="registered")) == ()


@pytest.mark.parametrize(("system", "kind"), [("lab", "Observation"), ("ehr", "Patient")])
def test_other_systems_and_types_pass_unevaluated(system: str, kind: str):
    assert matching_routes([replace(ROUTE, trigger=never)], system, kind, creatinine()) == ()
