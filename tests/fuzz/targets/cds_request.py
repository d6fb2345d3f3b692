"""Calls of CDS services: what they bring is a Bundle of the bytes that came, entry by entry."""

from gateway.core.cds.prefetch import Template, taken_of
from gateway.core.cds.request import bundle_of, read_request
from gateway.core.errors import ContentError
from gateway.core.fhir import parse_bundle
from tests.cds import request
from tests.factories import bundle, creatinine, raw
from tests.fuzz.target import Target

_ASKED = (
    Template("patient", "Patient"),
    Template("creatinine", "Observation", (("code", "x"),)),
    Template("sodium", "Observation", (("code", "y"),), most=2),
)


def run(data: bytes) -> None:
    """Read a call; each resource that is taken stands in the Bundle as it came."""
    read = read_request(data)
    brought = [*read.orders, *taken_of(read.prefetch, _ASKED)]
    assert all(each.raw in data for each in brought)
    parsed = parse_bundle(bundle_of(brought))
    assert len(parsed.entries) == len(brought)
    kept = [(one.resource, two) for one, two in zip(parsed.entries, brought, strict=True)]
    assert all(resource is None or resource.raw == two.raw for resource, two in kept)


def seeds() -> list[bytes]:
    """Give calls of hooks with and without orders."""
    order = {"resourceType": "ServiceRequest", "id": "s1", "status": "draft", "intent": "order"}
    sign = request(hook="order-sign")
    sign["context"]["draftOrders"] = bundle({**order, "subject": {"reference": "Patient/p1"}})
    few = request(prefetch={"creatinine": bundle(creatinine()), "sodium": None})
    return [raw(few), raw(sign), raw(request())]


TARGET = Target(run, seeds, (ContentError,))
