"""`nadi consent list`, `coverage` and `due`: what patients said, how many, what is to be erased.

Each look at a patient's consents is on record.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.markup import escape

from adapters.site import Site
from gateway.cli.context import AsJson, DataDir, out, print_json, table
from gateway.cli.officer import opened_by_officer
from gateway.cli.patients import patient_of, record_search, tell_of
from gateway.core.canary import CANARY_PATIENT, CANARY_SYSTEM
from gateway.core.clock import to_ms
from gateway.core.consent import ConsentRecord
from gateway.core.consent.abdm import TERMINAL, AbdmPolicy
from gateway.core.consent.record import under_policies
from gateway.core.consent.summary import Covered, Summary, coverage, summary
from gateway.core.principal import Permission
from gateway.store.patient_names import patients_named
from gateway.store.unit_of_work import UnitOfWork

_AT_ONCE = 500
_BAR = 24
_SOURCES = {"local": "staff", "fhir": "imported", "abdm": "ABDM"}
_EHR = "EHR"
_ERASURE = "kept at erasure"


def list_consents(
    patient: Annotated[str, typer.Option("--patient", help="Patient/<id> as the EHR writes it.")],
    system: Annotated[
        str | None, typer.Option("--system", help="Whose patient, if not clear.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List everything on record about a patient's consent, from every source."""
    with opened_by_officer(data_dir, Permission.READ_CONSENT) as nadi:
        known, site = patient_of(nadi, patient, system), nadi.site()
        tell_of(nadi, known)
        with nadi.store.read() as uow:
            now = uow.now
            records = _as_taken(uow.consents.of([known.key], site.abdm_policy)[known.key], site)
            forms = {f"Consent/{each.id}": each.form for each in uow.consent_acts.of([known.key])}
        with nadi.store.write() as uow:
            record_search(uow, nadi.source(), known.key, f"Consent?patient={known.key}")
    lines = [_line(each, now, forms) for each in records]
    if as_json:
        print_json(lines)
        return
    listing = table("ID", "SOURCE", "SAYS", "PURPOSES", "UNTIL", "STATE")
    for line in lines:
        purposes = ", ".join(line["purposes"]) or "any"
        says = f"{line['says']}{' (some data)' if line['limited'] else ''}"
        until = line["until"] or ""
        listing.add_row(
            line["id"], line["source"], says, escape(purposes), until, escape(line["state"])
        )
    out.print(listing if lines else "Nothing is on record of this patient's consent.")


def _line(record: ConsentRecord, now: datetime, forms: Mapping[str, str]) -> dict[str, Any]:
    found = summary(record, now)
    return {
        "id": found.ref.removeprefix("Consent/"),
        "source": _source(record, forms),
        "says": found.says,
        "limited": found.is_limited,
        "purposes": list(found.purposes),
        "until": _day(found.ends),
        "state": found.state,
    }


def _source(record: ConsentRecord, forms: Mapping[str, str]) -> str:
    if record.is_of_key:
        return _ERASURE
    form = forms.get(record.ref)
    return _SOURCES[form] if form else _EHR


def _day(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="minutes").replace("+00:00", "Z") if moment else None


# -- coverage --------------------------------------------------------------------------------


@dataclass
class _Counts:
    """What was counted: patients by purpose, consents in force by source."""

    patients: int
    by_purpose: dict[str, Counter[Covered]]
    by_source: dict[str, Counter[str]]
    ending: list[tuple[str, str, datetime]]


def show_coverage(
    days: Annotated[int, typer.Option("--days", min=1, help="How soon is soon.")] = 30,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say how many patients have decided what, by purpose and source, and what ends soon.

    The canary is not among them.
    """
    with opened_by_officer(data_dir, Permission.READ_CONSENT) as nadi:
        site = nadi.site()
        with nadi.store.read() as uow:
            counts = _counted(uow, site, timedelta(days=days))
        with nadi.store.write() as uow:
            record_search(uow, nadi.source(), None, "Consent?_summary=count")
    if as_json:
        print_json(_as_json(counts))
        return
    _show_purposes(counts)
    _show_sources(counts)
    _show_ending(counts, days)


def _counted(uow: UnitOfWork, site: Site, soon: timedelta) -> _Counts:
    purposes = sorted({route.purpose for route in site.routes}) or ["TREAT"]
    forms = {f"Consent/{each.id}": each.form for each in uow.consent_acts.every()}
    counts = _Counts(0, {each: Counter() for each in purposes}, {}, [])
    for records in _of_everybody(uow, site):
        counts.patients += 1
        for purpose in purposes:
            counts.by_purpose[purpose][coverage(records, purpose, uow.now)] += 1
        for record in records:
            line, source = summary(record, uow.now), _source(record, forms)
            if line.is_in_force:
                counts.by_source.setdefault(source, Counter())[line.says] += 1
                if line.ends is not None and line.ends <= uow.now + soon:
                    counts.ending.append((record.ref.removeprefix("Consent/"), source, line.ends))
    counts.ending.sort(key=lambda each: each[2])
    return counts


def _of_everybody(uow: UnitOfWork, site: Site) -> Iterator[Sequence[ConsentRecord]]:
    hers = uow.sealer.patient_key(CANARY_SYSTEM, CANARY_PATIENT)
    keys = [key for key in uow.consents.patients() if key != hers]
    for first in range(0, len(keys), _AT_ONCE):
        found = uow.consents.of(keys[first : first + _AT_ONCE], site.abdm_policy)
        yield from (_as_taken(records, site) for records in found.values())


def _as_taken(records: Sequence[ConsentRecord], site: Site) -> list[ConsentRecord]:
    """Give consents as the site takes their policies."""
    return [under_policies(each, site.consent.policies) for each in records]


def _as_json(counts: _Counts) -> dict[str, Any]:
    return {
        "patients": counts.patients,
        "purposes": {
            purpose: {str(each): found[each] for each in Covered}
            for purpose, found in counts.by_purpose.items()
        },
        "sources": {
            source: {str(says): count for says, count in sorted(found.items())}
            for source, found in sorted(counts.by_source.items())
        },
        "ending": [
            {"id": consent_id, "source": source, "until": _day(ends)}
            for consent_id, source, ends in counts.ending
        ],
    }


def _show_purposes(counts: _Counts) -> None:
    listing = table("PURPOSE", "PATIENTS WHO", "COUNT", "", title=f"{counts.patients} patients")
    for purpose, found in counts.by_purpose.items():
        for index, each in enumerate(Covered):
            share = found[each] / counts.patients if counts.patients else 0
            bar = "█" * round(share * _BAR)
            colour = _COLOURS.get(each, "dim")
            name = purpose if index == 0 else ""
            listing.add_row(name, _WHO[each], str(found[each]), f"[{colour}]{bar}[/] {share:.0%}")
    out.print(listing)


_WHO = {
    Covered.REFUSES_AI: "refuse all AI",
    Covered.DENIED: "deny it",
    Covered.PERMITTED: "permit it",
    Covered.LIMITED: "permit it for some data",
    Covered.ENDED: "no longer permit it",
    Covered.NOT_IN_FORCE: "have only consents that are over, inactive or yet to begin",
    Covered.NOTHING: "have said nothing of it",
}
_COLOURS = {Covered.PERMITTED: "green", Covered.DENIED: "red", Covered.REFUSES_AI: "red"}


def _show_sources(counts: _Counts) -> None:
    listing = table("SOURCE", "SAYS", "COUNT", title="Consents in force")
    for source, found in sorted(counts.by_source.items()):
        for says, count in sorted(found.items()):
            listing.add_row(source, says, str(count))
    out.print(listing if counts.by_source else "No consent is in force.")


def _show_ending(counts: _Counts, days: int) -> None:
    listing = table("ID", "SOURCE", "UNTIL", title=f"End within {days} days")
    for consent_id, source, ends in counts.ending:
        listing.add_row(consent_id, source, _day(ends) or "")
    out.print(listing if counts.ending else f"None ends within {days} days.")


# -- what is to be erased --------------------------------------------------------------------


def due(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List ABDM artefacts that have ended: what was had under them is to be erased."""
    with opened_by_officer(data_dir, Permission.READ_CONSENT) as nadi:
        policy = nadi.site().abdm_policy
        with nadi.store.read() as uow:
            ended = list(_ended(uow, policy))
            names = patients_named(uow, [key for _, key in ended if key])
        with nadi.store.write() as uow:
            for key in {key for _, key in ended if key}:
                record_search(uow, nadi.source(), key, f"Consent?patient={key}&status=inactive")
    lines = [
        {
            "id": line.ref.removeprefix("Consent/"),
            "since": _day(line.ends),
            "state": line.state,
            "patient": names.get(key or ""),
            "patient_key": key,
        }
        for line, key in ended
    ]
    if as_json:
        print_json(lines)
        return
    listing = table("ID", "ERASE AT", "STATE", "PATIENT")
    for each in lines:
        who = each["patient"] or each["patient_key"] or ""
        values = (each["id"], each["since"] or "", each["state"], who)
        listing.add_row(*(escape(str(value)) for value in values))
    out.print(listing if lines else "Nothing is due to be erased.")


def _ended(uow: UnitOfWork, policy: AbdmPolicy | None) -> Iterator[tuple[Summary, str | None]]:
    for consent in uow.consent_acts.every():
        if consent.form == "abdm":
            record = uow.consents.record_of(consent, policy)
            until = record.terms.until
            if until is not None and (to_ms(until) <= uow.now_ms or _is_over(record)):
                yield summary(record, uow.now), consent.patient_key


def _is_over(record: ConsentRecord) -> bool:
    """Say whether an artefact was ended before its time."""
    return record.terms.stopped in TERMINAL.values()
