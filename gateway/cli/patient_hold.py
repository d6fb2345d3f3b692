"""`nadi patient hold`, `lift` and `holds`: what must be kept although its time is over."""

from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.context import (
    AsJson,
    DataDir,
    explained,
    iso,
    login,
    moment,
    opened,
    operator,
    out,
    print_json,
    table,
)
from gateway.cli.patients import patient_of
from gateway.core.audit import Step
from gateway.core.audit_rights import hold_changed
from gateway.core.clock import new_id
from gateway.core.errors import Erased, NotFound, OnHold
from gateway.store.erasures import LegalHold
from gateway.store.evidence import PLACED
from gateway.store.patient_names import patients_named

Reference = Annotated[str, typer.Argument(metavar="PATIENT", help="Patient/<id>, as the EHR says.")]
System = Annotated[
    str | None, typer.Option("--system", help="Whose patient it is, if that is not clear.")
]
Reason = Annotated[
    str, typer.Option("--reason", help="Why, for the record; never name the patient in it.")
]


@explained
def hold(
    reference: Reference,
    *,
    reason: Reason,
    law: Annotated[str, typer.Option("--law", help="The order or provision it rests on.")],
    system: System = None,
    data_dir: DataDir = None,
) -> None:
    """Keep what is held of a patient until the hold is lifted: neither erasure nor retention."""
    with opened(data_dir) as nadi:
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
                placed_by=login(),
                reason=reason,
                law=law,
            )
            uow.erasures.place(placed)
            step = Step(id=new_id(), recorded=uow.now, source=source, patient_key=patient.key)
            details = {"what": PLACED, "why": reason, "law": law}
            uow.audit(hold_changed(step, by=operator(), hold_id=placed.id, details=details))
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
    with opened(data_dir) as nadi:
        patient, source = patient_of(nadi, reference, system), nadi.source()
        with nadi.store.write() as uow:
            found = uow.erasures.holds([patient.key]).get(patient.key)
            if found is None:
                raise NotFound("No legal hold is in force on this patient.")
            uow.erasures.lift(found.id, login())
            step = Step(id=new_id(), recorded=uow.now, source=source, patient_key=patient.key)
            details = {"what": "lifted", "why": reason}
            uow.audit(hold_changed(step, by=operator(), hold_id=found.id, details=details))
    out.print(f"[green]✓[/] The hold on {escape(reference)} is lifted.")


@explained
def holds(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the holds in force."""
    with opened(data_dir) as nadi, nadi.store.read() as uow:
        found = uow.erasures.in_force()
        names = patients_named(uow, [each.patient_key for each in found])
    if as_json:
        print_json([_as_json(each, names) for each in found])
        return
    listing = table("SINCE", "PATIENT", "BY", "WHY", "LAW")
    for each in found:
        who = names.get(each.patient_key, each.patient_key[:16])
        words = (who, each.placed_by, each.reason, each.law)
        listing.add_row(moment(each.placed_ms), *map(escape, words))
    out.print(listing if found else "  no hold is in force")


def _as_json(each: LegalHold, names: dict[str, str]) -> dict[str, object]:
    return {
        "id": each.id,
        "patient": names.get(each.patient_key),
        "patient_key": each.patient_key,
        "placed_at": iso(each.placed_ms),
        "placed_by": each.placed_by,
        "reason": each.reason,
        "law": each.law,
    }
