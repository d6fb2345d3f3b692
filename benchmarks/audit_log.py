"""A long audit log for benchmarks: the events of a busy year, appended as the processes do it.

The events are made by the functions that the gateway makes them with, and appended by the same unit
of work, so that every index is kept as it is in service. Who and what is drawn from a seed.

Of a hundred jobs about ten are refused. Beside each hundred jobs about five people look something
up, at any hour; now and then somebody breaks the glass, or the configuration is changed.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.cli.prepare import prepare_data
from gateway.core import audit
from gateway.core.audit import AgentKind, AuditAgent, AuditedModel, AuditRecord, Outcome
from gateway.core.clock import new_id, to_ms
from gateway.core.consent import ConsentDecision
from gateway.settings import Settings
from gateway.store.engine import insert_all
from gateway.store.installation import Installation, open_installation
from gateway.store.sealing import Place
from gateway.store.tables import events
from gateway.store.unit_of_work import UnitOfWork

_BATCH = 5000
_START = datetime(2026, 1, 1, tzinfo=UTC)
_YEAR_S = 365 * 86_400
_SOURCE = audit.Source("site", "api")
_SENDER = AuditAgent("01a0-sender", "the EHR", AgentKind.CLIENT, role="ehr")
_SINK = AuditAgent("ehr", "ehr", AgentKind.SERVER)
_ADMIN = AuditAgent("os-user:root", "root", AgentKind.USER, role="operator")
_MODELS = tuple(
    AuditedModel(f"{name}@1.0.0", name.ljust(64, "0"), "onnxruntime 1.32", "avx512-vnni")
    for name in ("usual-model", "second-model", "third-model", "fourth-model", "rare-model")
)
# How often, of all jobs, or of what is seldom.
_REFUSED, _LOOKED_UP, _SELDOM, _CONFIGURED = 0.1, 0.05, 0.0005, 0.5
_WEIGHTS = (50, 20, 20, 9.9, 0.1)
_REASONS = (
    "Consent/{}: denies TREAT.",
    "No consent on record applies; the route's default is to deny.",
    "Consent/{}: has expired. No consent on record applies; the route's default is to deny.",
)


@dataclass
class Year:
    """Draws the events of a year.

    Attributes:
        events: About how many; they are spread over the year.
        patients: Keys of the patients, drawn from evenly.
    """

    events: int
    patients: list[str]
    clinicians: list[AuditAgent]
    random: random.Random
    made: int = 0

    @property
    def now(self) -> datetime:
        """When the next event happens."""
        return _START + timedelta(seconds=_YEAR_S * self.made / self.events)

    def batches(self) -> Iterator[list[AuditRecord]]:
        """Give the events, in lists as large as one transaction takes."""
        batch: list[AuditRecord] = []
        while self.made < self.events:
            batch += self._job()
            if self.random.random() < _LOOKED_UP:
                batch += self._look()
            if self.random.random() < _SELDOM:
                batch += self._seldom()
            if len(batch) >= _BATCH:
                yield batch
                batch = []
        yield batch

    def _step(self, patient: str | None, **more: object) -> audit.Step:
        self.made += 1
        fields: dict[str, object] = {"id": new_id(), "recorded": self.now, "source": _SOURCE}
        return audit.Step(**fields, patient_key=patient, **more)  # type: ignore[arg-type]

    def _job(self) -> list[AuditRecord]:
        patient = self.random.choice(self.patients)
        [model] = self.random.choices(_MODELS, _WEIGHTS)
        event, job = new_id(), new_id()
        ids: dict[str, object] = {"job_id": job, "event_id": event}
        step = self._step(patient, event_id=event, request_id=event)
        received = audit.received(
            step, sender=_SENDER, resource_type="Observation", sha256=job.ljust(64, "0")
        )
        if self.random.random() < _REFUSED:
            return [received, *self._refused(patient, model, ids)]
        return [received, *self._run(patient, model, ids)]

    def _decided(
        self, patient: str, ids: dict[str, object], stage: str, user: AuditAgent, reason: str = ""
    ) -> AuditRecord:
        told = reason or "Consent/c1: permits TREAT."
        decision = ConsentDecision(not reason, "TREAT", (told,), ("Consent/c1",))
        return audit.consent_decided(self._step(patient, **ids), decision, stage=stage, user=user)

    def _changed(
        self, patient: str, ids: dict[str, object], verb: audit.JobEvent, told: tuple[str, str]
    ) -> AuditRecord:
        state, status = told
        return audit.job_changed(
            self._step(patient, **ids), verb, state=state, business_status=status
        )

    def _refused(
        self, patient: str, model: AuditedModel, ids: dict[str, object]
    ) -> list[AuditRecord]:
        reason = self.random.choice(_REASONS).format(new_id())
        failed: dict[str, object] = {"outcome": Outcome.MINOR_FAILURE, "reason": reason}
        return [
            self._decided(patient, ids, "admit", _as_user(model), reason),
            self._changed(patient, {**ids, **failed}, "refuse", ("rejected", "consent-denied")),
        ]

    def _run(self, patient: str, model: AuditedModel, ids: dict[str, object]) -> list[AuditRecord]:
        result = new_id()
        inputs = [f"{self.random.getrandbits(256):064x}" for _ in range(10)]
        return [
            self._decided(patient, ids, "admit", _as_user(model)),
            self._changed(patient, ids, "admit", ("ready", "queued")),
            self._decided(patient, ids, "infer", _as_user(model)),
            audit.inferred(self._step(patient, **ids), model=model, inputs=inputs, result=result),
            self._decided(patient, ids, "deliver", _SINK),
            audit.delivered(
                self._step(patient, **ids),
                ehr=_SINK,
                result=audit.DeliveredResult(result, "Observation"),
                http_status=201,
                attempt=1,
            ),
            self._changed(patient, ids, "complete", ("completed", "delivered")),
        ]

    def _look(self) -> list[AuditRecord]:
        patient = self.random.choice(self.patients)
        who = self.random.choice(self.clinicians)
        query = f"Observation?patient-key={patient}&_count=50"
        return [audit.queried(self._step(patient), agents=[who], query=query)]

    def _seldom(self) -> list[AuditRecord]:
        if self.random.random() < _CONFIGURED:
            version = self.made
            step = self._step(None)
            return [audit.configured(step, by=_ADMIN, version=version, sha256="0" * 64)]
        doctor = self.random.choice(self.clinicians)
        glass = AuditAgent(
            doctor.identifier, doctor.name, AgentKind.USER, role="clinician", purpose="BTG"
        )
        step = self._step(self.random.choice(self.patients), reason="The patient is unconscious.")
        return [audit.noted(step, "break-glass", agents=[glass])]


def _as_user(model: AuditedModel) -> AuditAgent:
    return AuditAgent(model.digest, model.name, AgentKind.USER)


def year(length: int) -> Year:
    """Make the year of a hospital that has a patient for every fifty events."""
    seeded = random.Random(20261126)  # noqa: S311 - a benchmark has to repeat itself
    patients = [f"{seeded.getrandbits(256):064x}" for _ in range(max(10, length // 50))]
    clinicians = [
        AuditAgent(f"cred-{number:03}", f"Dr {number:03}", AgentKind.CLIENT, role="clinician")
        for number in range(200)
    ]
    return Year(length, patients, clinicians, seeded)


@dataclass(frozen=True)
class Filled:
    """A log that was filled.

    Attributes:
        append_us: CPU per event to append it, in microseconds; None when it was there already.
    """

    installation: Installation
    year: Year
    append_us: float | None


def filled(folder: Path, length: int, tell: Callable[[int], None]) -> Filled:
    """Open the log of a folder, filling it first if it is not there.

    Args:
        folder: Data folder; kept, so that the next run needs not fill it again.
        length: How many events it has, or is to have.
        tell: Told how many were appended so far.
    """
    is_there = folder.exists()
    if not is_there:
        prepare_data(Settings(data_dir=folder), sandbox=True)
    nadi = open_installation(Settings(data_dir=folder))
    drawn = year(length)
    if is_there:
        return Filled(nadi, drawn, None)
    _receive_patients(nadi, drawn.patients)
    spent = 0.0
    for batch in drawn.batches():
        began = time.process_time()
        with nadi.store.write() as uow:
            uow.audit(*batch)
        spent += time.process_time() - began
        with nadi.store.write() as uow:
            uow.audit_log.integrate(nadi.keys.signing, nadi.keys.origin)
        tell(drawn.made)
    return Filled(nadi, drawn, 1e6 * spent / drawn.made)


def _receive_patients(nadi: Installation, keys: list[str]) -> None:
    """Keep how the EHR names each patient, as it is kept with everything received."""
    with nadi.store.write() as uow:
        uow.patient_keys.load(keys, create=True)
        insert_all(uow.connection, events, [_patient_row(uow, key) for key in keys])


def _patient_row(uow: UnitOfWork, key: str) -> dict[str, object]:
    name = new_id()
    place, reference = Place("events", "patient_ref", name), f"Patient/{key[:12]}".encode()
    return {
        "id": name,
        "dedupe_key": key,
        "system": "ehr",
        "principal_id": _SENDER.identifier,
        "resource_type": "Patient",
        "patient_key": key,
        "patient_ref": uow.patient_keys.seal(key, place, reference),
        "codes": "",
        "is_current": True,
        "sha256": key,
        "payload": b"",
        "received_ms": to_ms(_START),
    }
