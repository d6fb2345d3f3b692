"""What it costs to know what is on record: looked up, unsealed and read, per patient.

Every point of a job's life looks up the consents in force of its batch's patients, in the
transaction that decides. `cold` unseals, verifies and reads each; `warm` is what a process pays
that has read the same versions before. SQLite; processor time.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.figures import Rows
from gateway.core.admission import Arrival
from gateway.core.audit import AgentKind, AuditAgent, Source
from gateway.core.clock import new_id
from gateway.core.consent.local import LocalConsent
from gateway.core.event import facts
from gateway.core.jobs import EventId
from gateway.store.consenting import record
from gateway.store.identity import dedupe_key, resource_key
from gateway.store.registering import Actor
from gateway.store.sealing import MasterKey, Sealer
from gateway.store.tables import metadata
from gateway.store.unit_of_work import Store

_PATIENTS, _ROUNDS = 192, 3
_BATCHES = (1, 16, 64)
_ACTOR = Actor(Source("site", "bench"), AuditAgent("bench", "bench", AgentKind.USER), "bench")

Json = dict[str, Any]


def rows(consent: Json) -> Rows:
    """Measure, and lay out microseconds per patient.

    Args:
        consent: A FHIR Consent, as an EHR pushes one.
    """
    batches = [f"{how}, {size} at once" for how in ("cold", "warm") for size in _BATCHES]
    laid: Rows = [("on record", *batches)]
    fillers: dict[str, Callable[[Store], None]] = {
        "nothing": lambda _: None,
        "one Consent of the EHR": lambda store: _push(store, consent),
        "one permit by staff": _record,
    }
    for name, fill in fillers.items():
        with tempfile.TemporaryDirectory() as folder:
            store = _opened(Path(folder))
            fill(store)
            times = [_us(store, size, warm=warm) for warm in (False, True) for size in _BATCHES]
            store.close()
        laid.append((name, *(f"{each:.0f}" for each in times)))
    return laid


def _opened(folder: Path) -> Store:
    key = Ed25519PrivateKey.generate()
    sealer = Sealer(MasterKey(b"b" * 32))
    store = Store(f"sqlite:///{folder}/nadi.db", sealer, consents=key)
    metadata.create_all(store.engine)
    return store


def _names() -> Sequence[str]:
    return [f"Patient/p{number}" for number in range(_PATIENTS)]


def _push(store: Store, consent: Json) -> None:
    arrivals = [_arrival(store, {**consent, "id": new_id()}, name) for name in _names()]
    with store.write() as uow:
        uow.events.add([(each, True) for each in arrivals])


def _arrival(store: Store, consent: Json, patient: str) -> Arrival:
    content = {**consent, "patient": {"reference": patient}}
    raw, told = orjson.dumps(content), facts(content)
    digest = sha256(raw).hexdigest()
    return Arrival(
        id=EventId(new_id()),
        system="ehr",
        principal_id="bench",
        principal_name="bench",
        address=None,
        is_update=False,
        request_id="r",
        facts=told,
        content=content,
        raw=raw,
        sha256=digest,
        dedupe_key=dedupe_key(store.sealer, "ehr", told, digest),
        resource_key=resource_key(store.sealer, "ehr", told),
        patient_key=store.sealer.patient_key("ehr", patient),
    )


def _record(store: Store) -> None:
    with store.write() as uow:
        for name in _names():
            said = LocalConsent(
                patient=name,
                system="ehr",
                decision="permit",
                purposes=("TREAT",),
                means="paper",
                recorded_at="2026-11-25T08:00:00Z",
                recorded_by="bench",
            )
            record(uow, said, store.sealer.patient_key("ehr", name), _ACTOR)


def _us(store: Store, size: int, *, warm: bool) -> float:
    """Give the median over all batches, in microseconds per patient."""
    keys = [store.sealer.patient_key("ehr", name) for name in _names()]
    taken = []
    for _ in range(_ROUNDS):
        for first in range(0, len(keys), size):
            if not warm:
                store.forget_opened()
            batch = keys[first : first + size]
            with store.read() as uow:
                begun = time.thread_time()
                uow.consents.of(batch)
                taken.append((time.thread_time() - begun) / len(batch) * 1e6)
    return median(taken)
