"""Prove that what changes in an EHR arrives here: write a probe there and wait for it.

Everything is about a made-up patient that the site file names (`test_patient`), and nothing piles
up in the EHR:

* where FHIR is asked or pushed, the probe is one Observation. It is entered in error from the
  beginning, so that no person and no model takes it for a finding; each probe is a new version of
  the same resource;
* where Atom feeds are read, the patient is saved as she is: that makes an entry, and a new version
  of her Patient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import orjson

from adapters.fhir_rest.client import FhirClient
from gateway.core import audit
from gateway.core.audit import AgentKind, AuditAgent, Source, Step
from gateway.core.clock import new_id, to_ms
from gateway.core.errors import NotFound
from gateway.store.identity import named_key
from gateway.store.unit_of_work import Store

PROBE_SYSTEM = "https://nadi.health/fhir/CodeSystem/probe"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_KEY = "probe"


@dataclass(frozen=True)
class Sent:
    """A probe on its way.

    Attributes:
        reference: `Type/id` in the EHR.
    """

    reference: str
    sent_ms: int


class Trace(Protocol):
    """What is left in an EHR, to be seen arriving here."""

    def leave(self, known: str | None, now: datetime) -> str:
        """Leave it there anew; give the reference of what changes by that.

        Args:
            known: What was given the last time; None at the first.
            now: The present.

        Raises:
            TransientError: The EHR is away.
            ProcessingError: It refuses.
        """


class ObservationTrace:
    """A new version of one Observation, written by FHIR."""

    def __init__(self, client: FhirClient, patient: str) -> None:
        """Take the client of the EHR, and `Patient/id` of the made-up patient."""
        self._client = client
        self._patient = patient

    def leave(self, known: str | None, now: datetime) -> str:
        """Write a new version, or a new resource where the EHR has none (any more)."""
        if known is not None and self._client.read(known) is not None:
            name = known.partition("/")[2]
            body = orjson.dumps(probe_resource(self._patient, now, resource_id=name))
            self._client.update(known, body)
            return known
        body = orjson.dumps(probe_resource(self._patient, now))
        written = self._client.create("Observation", body)
        if written.reference is None:
            raise NotFound("The EHR does not say where it keeps the probe.")
        return written.reference


class SavedPatientTrace:
    """The made-up patient, saved as she is."""

    def __init__(self, save: Callable[[str], None], patient: str) -> None:
        """Take what saves a patient by her id, and `Patient/id` of the made-up one."""
        self._save = save
        self._patient = patient

    def leave(self, _known: str | None, _now: datetime) -> str:
        """Save her."""
        self._save(self._patient.partition("/")[2])
        return self._patient


class DeliveryProbe:
    """Sends the probes of one feed."""

    def __init__(self, store: Store, trace: Trace, names: tuple[str, str], source: Source) -> None:
        """Take whose they are.

        Args:
            store: The database, where they have to arrive.
            trace: What is left in the EHR.
            names: Of the feed, and of its system.
            source: Who writes the audit events.
        """
        self._store = store
        self._trace = trace
        self._feed, self._system = names
        self._source = source

    def send(self) -> Sent:
        """Write a probe into the EHR.

        Raises:
            TransientError: It is away.
            ProcessingError: It refuses the probe.
        """
        with self._store.write() as uow:
            known = uow.listener_state.get(self._feed, _KEY)
            now = uow.now
            uow.audit(self._noted(now))
        reference = self._trace.leave(known["reference"] if known else None, now)
        with self._store.write() as uow:
            uow.listener_state.put(self._feed, {_KEY: {"reference": reference}})
        return Sent(reference, to_ms(now))

    def lag_ms(self, sent: Sent) -> int | None:
        """Say how long a probe took until it arrived here; None while it did not.

        Raises:
            StoreUnavailable: The database is away.
        """
        kind, _, name = sent.reference.partition("/")
        key = named_key(self._store.sealer, self._system, kind, name)
        with self._store.read() as uow:
            event = uow.events.current([key]).get(key)
        if event is None or event.received_ms < sent.sent_ms:
            return None
        return event.received_ms - sent.sent_ms

    def _noted(self, now: datetime) -> audit.AuditRecord:
        step = Step(id=new_id(), recorded=now, source=self._source)
        ehr = AuditAgent(self._system, self._system, AgentKind.SERVER)
        return audit.noted(
            step, "note", agents=[ehr], details={"what": "delivery probe", "feed": self._feed}
        )


def probe_resource(patient: str, at: datetime, *, resource_id: str | None = None) -> dict[str, Any]:
    """Write a probe.

    Args:
        patient: `Patient/id`.
        at: When it is sent; this alone tells two probes apart.
        resource_id: Of the resource that it is a new version of.
    """
    named = {"id": resource_id} if resource_id else {}
    category = {"system": _CATEGORY, "code": "laboratory"}
    code = {"system": PROBE_SYSTEM, "code": "delivery", "display": "Nadi delivery probe"}
    return {
        "resourceType": "Observation",
        **named,
        "status": "entered-in-error",
        "category": [{"coding": [category]}],
        "code": {"coding": [code], "text": "Nadi delivery probe, not a finding"},
        "subject": {"reference": patient},
        "effectiveDateTime": at.isoformat(timespec="milliseconds"),
        "valueString": "probe",
    }
