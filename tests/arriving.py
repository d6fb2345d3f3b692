"""Resources as the receiving step hands them to the store."""

from dataclasses import replace
from hashlib import sha256

from gateway.core.admission import Arrival
from gateway.core.clock import new_id
from gateway.core.event import facts
from gateway.core.jobs import EventId
from gateway.store.identity import dedupe_key, resource_key
from gateway.store.unit_of_work import Store
from tests.factories import Json, raw


def arrival(store: Store, content: Json, **changed: object) -> Arrival:
    """An arrival as the receiving step would make it."""
    body, read, sealer = raw(content), facts(content), store.sealer
    digest = sha256(body).hexdigest()
    made = Arrival(
        id=EventId(new_id()),
        system="ehr",
        principal_id="principal-1",
        principal_name="ehr",
        address=None,
        is_update=False,
        request_id="r",
        facts=read,
        content=content,
        raw=body,
        sha256=digest,
        dedupe_key=dedupe_key(sealer, "ehr", read, digest),
        resource_key=resource_key(sealer, "ehr", read),
        patient_key=sealer.patient_key("ehr", read.patient) if read.patient else None,
    )
    return replace(made, **changed)


def add(store: Store, *contents: Json, is_current: bool = True) -> list[Arrival]:
    """Store resources as received from the system `ehr`."""
    arrivals = [arrival(store, content) for content in contents]
    with store.write() as uow:
        uow.events.add([(each, is_current) for each in arrivals])
    return arrivals
