"""What `nadi consent import` says of each patient afterwards: were they received, what holds now.

A signed file names patients by ids that may be another hospital's. So it is said of whom no system
ever sent anything, and, of everybody in the file, what is permitted and what is denied from now on,
by these consents or others.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.markup import escape

from adapters.site import Site
from gateway.cli.consent_stop import ground
from gateway.cli.context import err, out, table
from gateway.deciding import Denied, Still, holding
from gateway.store.patient_names import received
from gateway.store.unit_of_work import UnitOfWork

_NAMED = 10


@dataclass(frozen=True)
class AfterImport:
    """How it stands with a patient after an import.

    Attributes:
        patient: `Patient/<id>`.
        received: Whether a system ever sent anything of the patient.
        permitted: What is permitted now.
        denied: What is denied now.
    """

    patient: str
    received: bool
    permitted: list[Still]
    denied: list[Denied]


def after_import(uow: UnitOfWork, site: Site, whose: Mapping[str, str]) -> list[AfterImport]:
    """Find how it stands with the patients of a file.

    Args:
        uow: Reads.
        site: In force.
        whose: Reference by key of the patients.
    """
    known = received(uow, whose)
    return [
        AfterImport(reference, key in known, *holding(uow, site, key, reference))
        for key, reference in whose.items()
    ]


def warn_of_strangers(told: list[AfterImport]) -> None:
    """Warn, on standard error, of patients of whom nothing was ever received."""
    strangers = [each.patient for each in told if not each.received]
    if not strangers:
        return
    more = f" and {len(strangers) - _NAMED} more" if len(strangers) > _NAMED else ""
    names = escape(", ".join(strangers[:_NAMED]))
    err.print(
        f"[yellow]![/] Nothing was ever received of {names}{more}. Are the ids right, and is it "
        "the right --system? Their consents are kept for when something comes.",
        soft_wrap=True,
    )


def show_after_import(told: list[AfterImport]) -> None:
    """Show what is permitted and denied now."""
    if not told:
        return
    listing = table("PATIENT", "RECEIVED", "PERMITTED NOW", "DENIED NOW")
    for each in told:
        listing.add_row(
            escape(each.patient),
            "yes" if each.received else "[yellow]never[/]",
            "\n".join(escape(_permitted(still)) for still in each.permitted) or "nothing",
            "\n".join(", ".join(denied.purposes) for denied in each.denied) or "nothing",
        )
    out.print(listing)
    out.print("Why: nadi consent explain --patient PATIENT --purpose PURPOSE")


def _permitted(still: Still) -> str:
    data = " (some data)" if still.is_limited else ""
    return f"{', '.join(still.purposes)}{data}: {ground(still)}"
