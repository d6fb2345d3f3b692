"""From `Patient/<id>`, as the EHR writes it, to the key by which Nadi knows the patient."""

import re
from dataclasses import dataclass

from gateway.cli.context import EXIT_USAGE, Opened, err, fail, moment, operator
from gateway.core import audit
from gateway.core.clock import new_id
from gateway.store.patient_names import on_record
from gateway.store.unit_of_work import UnitOfWork

#: FHIR R4 `id`; no EHR can send another.
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class KnownPatient:
    """A patient of one system.

    Attributes:
        key: Keyed hash.
    """

    system: str
    key: str


def patient_of(nadi: Opened, reference: str, system: str | None) -> KnownPatient:
    """Find the key of a patient; it ends here when it is not clear whose patient that is."""
    kind, _, number = reference.rpartition("/")
    if kind not in ("", "Patient") or not _ID.fullmatch(number):
        fail("Name the patient by the id that the EHR uses: Patient/<id>.", code=EXIT_USAGE)
    systems = nadi.site().of_patients
    chosen = system or (systems[0] if len(systems) == 1 else None)
    if chosen is None:
        fail(f"Say with --system whose patient: {', '.join(systems) or 'none'}.", code=EXIT_USAGE)
    return KnownPatient(chosen, nadi.store.sealer.patient_key(chosen, f"Patient/{number}"))


def tell_of(nadi: Opened, known: KnownPatient) -> None:
    """Warn, on standard error, of a patient who was erased or of whom nothing is on record."""
    with nadi.store.read() as uow:
        erased = uow.erasures.closed([known.key]).get(known.key)
        is_known = known.key in on_record(uow, [known.key])
    if erased is not None:
        when = moment(erased.erased_ms)
        err.print(f"[yellow]![/] What was held of this patient was erased on {when}.")
    elif not is_known:
        err.print(
            f"[yellow]![/] Nothing was ever received of this patient from system '{known.system}': "
            "is the id right?",
            soft_wrap=True,
        )


def record_search(
    uow: UnitOfWork, source: audit.Source, patient_key: str | None, query: str
) -> None:
    """Put on record that somebody at this machine looked something up, a patient's or not."""
    step = audit.Step(id=new_id(), recorded=uow.now, source=source, patient_key=patient_key)
    uow.audit(audit.queried(step, agents=[operator()], query=query))
