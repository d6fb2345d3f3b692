"""`nadi consent record` and `revoke`: what a patient says to staff, and takes back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, time, tzinfo
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape

from gateway.cli.consent_stop import (
    denied_all_the_same,
    settled,
    show_denied,
    show_still_held,
    show_stopped,
    still_held,
)
from gateway.cli.context import (
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    fail,
    out,
    print_json,
)
from gateway.cli.officer import opened_for_consents
from gateway.cli.patients import KnownPatient, patient_of, tell_of
from gateway.core.consent.local import (
    DECISIONS,
    MEANS,
    Guardian,
    LocalConsent,
    Notice,
    insist_on_recordable,
)
from gateway.core.errors import Erased
from gateway.deciding import Denied, Still
from gateway.store import consenting
from gateway.store.registering import Actor
from gateway.store.unit_of_work import UnitOfWork
from gateway.withdrawal import withdraw

Decision = Annotated[
    str, typer.Argument(metavar=f"[{'|'.join(DECISIONS)}]", help="What the patient says.")
]
Patient = Annotated[str, typer.Option("--patient", help="Patient/<id> as the EHR writes it.")]
How = Annotated[str, typer.Option("--how", help=f"How it was said: {', '.join(MEANS)}.")]
Purposes = Annotated[
    list[str] | None,
    typer.Option("--purpose", help="v3-ActReason code; may be given several times."),
]
Starts = Annotated[str | None, typer.Option("--from", help="First day, YYYY-MM-DD, at the site.")]
Ends = Annotated[str | None, typer.Option("--until", help="Last day, YYYY-MM-DD, at the site.")]
NoticeVersion = Annotated[
    str | None, typer.Option("--notice", help="Version of the notice that was given.")
]
Language = Annotated[str | None, typer.Option("--language", help="Of the notice: en, hi.")]
GuardianName = Annotated[str | None, typer.Option("--guardian", help="Who consents for a minor.")]
VerifiedBy = Annotated[
    str, typer.Option("--verified-by", help="What the guardian can be verified by.")
]
Exemption = Annotated[
    str | None, typer.Option("--exemption", help="Why a minor needs no guardian here.")
]
BirthDate = Annotated[
    str | None, typer.Option("--birth-date", help="If no Patient was received: YYYY-MM-DD.")
]
Content = Annotated[
    Path | None,
    typer.Option("--content", help="FHIR Consent (JSON) that states limits.", dir_okay=False),
]
System = Annotated[str | None, typer.Option("--system", help="Whose patient, if not clear.")]


def record(  # noqa: PLR0913 - each is an option of the command line
    decision: Decision,
    *,
    patient: Patient,
    how: How,
    purpose: Purposes = None,
    starts: Starts = None,
    ends: Ends = None,
    notice: NoticeVersion = None,
    language: Language = None,
    guardian: GuardianName = None,
    verified_by: VerifiedBy = "",
    exemption: Exemption = None,
    birth_date: BirthDate = None,
    content: Content = None,
    system: System = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Record what a patient said: a permit, a denial, or a refusal of all AI."""
    _insist_on_words(decision, how, notice, language)
    with opened_for_consents(data_dir) as (nadi, actor):
        known = patient_of(nadi, patient, system)
        tell_of(nadi, known)
        zone = _zone(nadi)
        given = {
            "patient": f"Patient/{patient.rpartition('/')[2]}",
            "system": known.system,
            "decision": decision,
            "purposes": tuple(dict.fromkeys(purpose or ())),
            "starts": _of_day(starts, _MORNING, zone),
            "ends": _of_day(ends, _NIGHT, zone),
            "notice": Notice(version=notice, language=language) if notice and language else None,
            "guardian": _guardian(guardian, verified_by, exemption),
            "means": how,
            "content": _content(content),
        }
        done = _recorded(nadi, actor, known, given, birth_date)
    if as_json:
        told: dict[str, Any] = {
            "id": done.consent_id,
            "decision": decision,
            "stopped": done.stopped,
        }
        told["still_permitted"] = [asdict(each) for each in done.still]
        print_json({**told, "still_denied": [asdict(each) for each in done.denied]})
        return
    out.print(f"[green]✓[/] Recorded as [bold]{done.consent_id}[/]: {escape(decision)}.")
    show_stopped(done.stopped)
    show_still_held(done.still)
    show_denied(done.denied)


@dataclass(frozen=True)
class Done:
    """What came of a record: its consent, and how many jobs it stopped.

    Attributes:
        still: What is permitted all the same after a no.
        denied: What is not permitted all the same after a permit.
    """

    consent_id: str
    stopped: int
    still: list[Still] = field(default_factory=list)
    denied: list[Denied] = field(default_factory=list)


def _zone(nadi: Opened) -> tzinfo:
    """Give the zone whose days a patient and the staff mean: the site's, else UTC as FHIR reads."""
    hours = nadi.site().hours
    return hours.zone if hours else UTC


def _of_day(written: str | None, at: time, zone: tzinfo) -> str | None:
    """Give the first or last second of a day as a FHIR dateTime; what is no day stays as it is."""
    try:
        day = date.fromisoformat(written or "")
    except ValueError:
        return written
    return datetime.combine(day, at, tzinfo=zone).isoformat()


_MORNING, _NIGHT = time(0, 0, 0), time(23, 59, 59)


def _insist_on_words(decision: str, how: str, notice: str | None, language: str | None) -> None:
    if decision not in DECISIONS:
        fail(f"'{decision}' is none of {', '.join(DECISIONS)}.", code=EXIT_USAGE)
    if how not in MEANS:
        fail(f"'{how}' is none of {', '.join(MEANS)}.", code=EXIT_USAGE)
    if (notice is None) != (language is None):
        fail("Give --notice and --language together.", code=EXIT_USAGE)


def _guardian(name: str | None, verified_by: str, exemption: str | None) -> Guardian | None:
    if name is not None and exemption is not None:
        fail("Give either --guardian or --exemption.", code=EXIT_USAGE)
    if exemption is not None:
        return Guardian(name="", verified_by=exemption)
    return Guardian(name=name, verified_by=verified_by) if name is not None else None


def _content(path: Path | None) -> Mapping[str, Any] | None:
    if path is None:
        return None
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        fail(f"{path} can't be read as JSON.", code=EXIT_USAGE)
    if not isinstance(found, dict) or found.get("resourceType") != "Consent":
        fail(f"{path} holds no FHIR Consent.", code=EXIT_USAGE)
    return found


def _recorded(
    nadi: Opened,
    actor: Actor,
    known: KnownPatient,
    given: Mapping[str, Any],
    birth_date: str | None,
) -> Done:
    """Check and record; both in one transaction, so that what was checked is what is recorded."""
    site = nadi.site()
    with nadi.store.write() as uow:
        if uow.erasures.closed([known.key]):
            raise Erased
        at = uow.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        consent = LocalConsent(**given, recorded_at=at, recorded_by=actor.by.identifier)
        born = _born(uow, consent, birth_date)
        insist_on_recordable(consent, notices=site.notices, birth_date=born, now=uow.now)
        consent_id = consenting.record(uow, consent, known.key, actor)
        whose = {known.key: consent.patient}
        stopped = len(withdraw(uow, site, actor.source, whose))
    stopped += settled(nadi, actor.source, whose, about=consent_id)
    if consent.decision == "permit":
        denied = denied_all_the_same(nadi, whose, consent.purposes)
        return Done(consent_id, stopped, denied=denied)
    return Done(consent_id, stopped, still=still_held(nadi, whose))


def _born(uow: UnitOfWork, consent: LocalConsent, told: str | None) -> date | None:
    """Take the date of birth that was received; what staff say counts only where there is none."""
    received = consenting.birth_date_of(uow, consent.system, consent.patient)
    if received is not None or told is None:
        return received
    born = consenting.latest_day(told)
    if born is None:
        fail("--birth-date has to be YYYY-MM-DD.", code=EXIT_USAGE)
    return born


def revoke(
    consent_id: Annotated[str, typer.Argument(metavar="ID", help="Of the consent.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept sealed with the consent.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take back what was recorded or imported here; it never holds again."""
    if not reason.strip():
        fail("Say why with --reason.", code=EXIT_USAGE)
    with opened_for_consents(data_dir) as (nadi, actor):
        with nadi.store.write() as uow:
            found = consenting.revoke(uow, consent_id, reason.strip(), actor)
            whose = consenting.whose(uow, found)
            stopped = len(withdraw(uow, nadi.site(), actor.source, whose))
        stopped += settled(nadi, actor.source, whose, about=found.id)
        still = still_held(nadi, whose)
    if as_json:
        told = {"id": found.id, "form": found.form, "revoked": True, "stopped": stopped}
        print_json({**told, "still_permitted": [asdict(each) for each in still]})
        return
    out.print(f"[green]✓[/] {found.id} is taken back.")
    show_stopped(stopped)
    show_still_held(still)
