"""`nadi patient hold`, `lift` and `holds`: what must be kept although its time is over."""

from rich.markup import escape

from gateway.cli.context import (
    AsJson,
    DataDir,
    explained,
    iso,
    moment,
    operator,
    out,
    print_json,
    table,
)
from gateway.cli.officer import opened_for_rights
from gateway.cli.patient_erase import Law, Reason, Reference, System
from gateway.cli.patients import patient_of
from gateway.core.audit import Step
from gateway.core.audit_rights import changed
from gateway.core.clock import new_id
from gateway.core.errors import Erased, NotFound, OnHold
from gateway.store.erasures import LegalHold
from gateway.store.evidence import PLACED
from gateway.store.patient_names import patients_named
from gateway.store.unit_of_work import UnitOfWork


@explained
def hold(
    reference: Reference,
    *,
    reason: Reason,
    law: Law,
    system: System = None,
    data_dir: DataDir = None,
) -> None:
    """Keep what is held of a patient until the hold is lifted: neither erasure nor retention."""
    with opened_for_rights(data_dir) as nadi:
        patient, source = patient_of(nadi, reference, system), nadi.source()
        with nadi.store.write() as uow:
            if uow.erasures.closed([patient.key]):
                raise Erased
            if uow.erasures.holds([patient.key]):
                raise OnHold("A legal hold is in force on this patient already.")
            placed = LegalHold(
                id=new_id(),
                patient_key=patient.key,
                placed_ms=uow.now_ms,
                placed_by=operator().identifier,
                reason=reason,
                law=law,
            )
            uow.erasures.place(placed)
            step = Step(id=new_id(), recorded=uow.now, source=source, patient_key=patient.key)
            details = {"what": PLACED, "why": reason, "law": law}
            uow.audit(changed(step, "hold", by=operator(), about=placed.id, details=details))
    out.print(f"[green]✓[/] What is held of {escape(reference)} is kept until it is lifted.")


@explained
def lift(
    reference: Reference,
    *,
    reason: Reason,
    system: System = None,
    data_dir: DataDir = None,
) -> None:
    """Lift the hold on a patient; what had its time is then removed by the next run."""
    with opened_for_rights(data_dir) as nadi:
        patient, source = patient_of(nadi, reference, system), nadi.source()
        with nadi.store.write() as uow:
            found = uow.erasures.holds([patient.key]).get(patient.key)
            if found is None:
                raise NotFound("No legal hold is in force on this patient.")
            uow.erasures.lift(found.id, operator().identifier)
            step = Step(id=new_id(), recorded=uow.now, source=source, patient_key=patient.key)
            details = {"what": "lifted", "why": reason}
            uow.audit(changed(step, "hold", by=operator(), about=found.id, details=details))
    out.print(f"[green]✓[/] The hold on {escape(reference)} is lifted.")


@explained
def holds(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the holds in force."""
    with opened_for_rights(data_dir) as nadi, nadi.store.read() as uow:
        found = uow.erasures.in_force()
        names = patients_named(uow, [each.patient_key for each in found])
        people = {each.placed_by: _name_of(uow, each.placed_by) for each in found}
    if as_json:
        print_json([_as_json(each, names, people) for each in found])
        return
    listing = table("SINCE", "PATIENT", "BY", "WHY", "LAW")
    for each in found:
        who = names.get(each.patient_key, each.patient_key[:16])
        words = (who, people[each.placed_by], each.reason, each.law)
        listing.add_row(moment(each.placed_ms), *map(escape, words))
    out.print(listing if found else "  no hold is in force")


def _name_of(uow: UnitOfWork, who: str) -> str:
    """Name who did something: by their credential, or else by their login."""
    credential = uow.credentials.find(who)
    return credential.name if credential else who.removeprefix("os-user:")


def _as_json(each: LegalHold, names: dict[str, str], people: dict[str, str]) -> dict[str, object]:
    return {
        "id": each.id,
        "patient": names.get(each.patient_key),
        "patient_key": each.patient_key,
        "placed_at": iso(each.placed_ms),
        "placed_by": people[each.placed_by],
        "reason": each.reason,
        "law": each.law,
    }
