"""Bundles: cut into their entries, and put together again byte for byte."""

from gateway.api.entries import with_refusals
from gateway.core.errors import ContentError
from gateway.core.fhir import parse_bundle, resource_type_of
from gateway.store.events import cut_bundle
from tests.factories import bundle, consent, creatinine, patient, raw
from tests.fuzz.target import Target, shared


def run(data: bytes) -> None:
    """Cut a Bundle; what stands where a resource stood gives it back."""
    resource_type_of(data)
    parsed = with_refusals(parse_bundle(data))
    held = {str(each.index): each.resource.raw for each in parsed.entries if each.resource}
    parts = cut_bundle(data, [(content, index) for index, content in held.items()])
    together = [held[part] if isinstance(part, str) else part for part in parts]
    assert b"".join(together) == data


def seeds() -> list[bytes]:
    """Give Bundles of each kind, and official ones."""
    kinds = ("collection", "transaction", "batch", "history")
    made = [raw(bundle(patient(1), creatinine(1), consent(1), kind=kind)) for kind in kinds]
    return [*made, b'{"resourceType":"Bundle","type":"batch"}', *shared("r4-examples/Bundle*.json")]


TARGET = Target(run, seeds, (ContentError,))
