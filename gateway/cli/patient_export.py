"""`nadi patient export`: everything that is held of a patient, as a folder or ZIP, signed.

It takes a credential of role compliance, since it reads her part of the audit log; it is on record.
"""

import re
from collections.abc import Iterator, Sequence
from html import unescape
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape

from gateway.api.patient_names_told import Called
from gateway.cli.audit_search import LogExport
from gateway.cli.bundle import insist_on_new, write_bundle
from gateway.cli.context import (
    DataDir,
    Opened,
    explained,
    iso,
    operator,
    out,
    zone_of,
)
from gateway.cli.officer import opened_by_officer
from gateway.cli.patient_erase import Reference, System
from gateway.cli.patients import KnownPatient, patient_of
from gateway.core import audit
from gateway.core.audit_entry import Entry, read_entry
from gateway.core.audit_export import ExportFormat
from gateway.core.clock import from_ms, new_id, utc_now
from gateway.core.consent.statement import StatementForged
from gateway.core.consent.summary import summary
from gateway.core.errors import Erased, NotFound, Unsealable
from gateway.core.findings import Report
from gateway.core.jobs import Job
from gateway.core.patient_copy import PatientCopy, ResultLine, cover
from gateway.core.patient_report import without_ids
from gateway.core.purposes import told_to_patient
from gateway.core.step_words import step_in_words
from gateway.core.task import job_task
from gateway.store.audit_search import AuditFilter
from gateway.store.events import Event
from gateway.store.jobs import JobFilter
from gateway.store.unit_of_work import UnitOfWork

_FORMAT = "nadi-patient-copy-1"
_PAGE = 500
_MOST_ACCESSES = 200
_TAG = re.compile(r"<[^>]*>")

Json = dict[str, Any]


@explained
def export(
    reference: Reference,
    *,
    to: Annotated[Path, typer.Option("--out", help="A new folder, or a new file ending in .zip.")],
    system: System = None,
    data_dir: DataDir = None,
) -> None:
    """Give everything held of a patient: resources, results, consents, and her trail, proven."""
    insist_on_new(to)
    with opened_by_officer(data_dir) as nadi:
        patient = patient_of(nadi, reference, system)
        with nadi.store.read() as uow:
            if uow.erasures.closed([patient.key]):
                raise Erased(
                    "What was held of this patient was erased; her trail can be exported "
                    "with `nadi audit export --patient`."
                )
            if not any(uow.erasures.held(patient.key).values()):
                raise NotFound("Nothing is held of this patient.")
        digest = write_bundle(nadi, to, _FORMAT, _Copy(nadi, patient, reference).write)
        _record(nadi, patient, digest)
    out.print(
        f"[green]✓[/] {escape(str(to))}: begin with index.html. Hand it over to nobody but the "
        "patient, or whom she named.",
        soft_wrap=True,
    )


def _record(nadi: Opened, patient: KnownPatient, digest: str) -> None:
    source = nadi.source()
    with nadi.store.write() as uow:
        step = audit.Step(id=new_id(), recorded=uow.now, source=source, patient_key=patient.key)
        details = {"what": "everything held of the patient", "sha256": digest}
        uow.audit(audit.noted(step, "export", agents=[operator()], details=details))


class _Copy:
    """Writes the files of one patient."""

    def __init__(self, nadi: Opened, patient: KnownPatient, reference: str) -> None:
        self._nadi, self._patient = nadi, patient
        self._reference = f"Patient/{reference.rpartition('/')[2]}"

    def write(self, folder: Path) -> None:
        """Write everything into a folder."""
        wanted = AuditFilter(patient_key=self._patient.key)
        LogExport(self._nadi, wanted, folder / "audit.ndjson", ExportFormat.NDJSON).run()
        site = self._nadi.site()
        with self._nadi.store.read() as uow:
            types = self._received(uow, folder)
            jobs = list(_jobs(uow, self._patient.key))
            results = list(_results(uow, jobs))
            consents = list(_consents(uow, self._patient.key))
            uses = list(_uses(uow, self._patient.key))
            cards = list(_cards(uow, self._patient.key))
            called = Called(uow, site)
            accesses, in_all = self._accesses(uow, called)
        _write_json(folder / "jobs.json", [job_task(job) for job in jobs])
        _write_json(folder / "results.json", results)
        _write_json(folder / "consents.json", consents)
        _write_json(folder / "break-glass.json", uses)
        _write_json(folder / "cards.json", cards)
        copy = PatientCopy(
            made_at=utc_now(),
            reference=self._reference,
            site=site.name or "site",
            privacy=site.privacy,
            types=types,
            results=_lines(jobs, results, called),
            consents=len(consents),
            access=accesses,
            access_in_all=in_all,
        )
        (folder / "index.html").write_text(cover(copy, zone_of(self._nadi)), encoding="utf-8")

    def _received(self, uow: UnitOfWork, folder: Path) -> dict[str, int]:
        """Write each resource as received; what had its time is named and has no file."""
        (folder / "received").mkdir(mode=0o700)
        told: list[Json] = []
        types: dict[str, int] = {}
        for event in uow.events.of_patient(self._patient.key):
            name = f"received/{event.resource_type}-{event.id}.json"
            if not event.is_erased:
                (folder / name).write_bytes(uow.events.content(event))
                types[event.resource_type] = types.get(event.resource_type, 0) + 1
            told.append(_told(event, None if event.is_erased else name))
        _write_json(folder / "received.json", told)
        return dict(sorted(types.items()))

    def _accesses(
        self, uow: UnitOfWork, called: Called
    ) -> tuple[list[tuple[str, str, str, str]], int]:
        wanted = AuditFilter(patient_key=self._patient.key, limit=_MOST_ACCESSES)
        zone = zone_of(self._nadi)
        rows = []
        for row in uow.audit_log.search(wanted):
            entry = read_entry(row.seq, row.event, row.body)
            when = entry.at.astimezone(zone).strftime("%d %b %Y %H:%M %Z")
            rows.append((when, _who(entry, called), _what(entry), entry.ended))
        return rows, uow.audit_log.count(wanted)


def _who(entry: Entry, called: Called) -> str:
    """Name who did it; a process of our own is no name to a patient."""
    names = (
        "this system"
        if each.identifier == entry.process
        else called.party(each.identifier, each.name)
        for each in entry.doers
    )
    return ", ".join(names)


def _what(entry: Entry) -> str:
    """Say what was done in no word of a machine."""
    words = step_in_words(entry.event)
    if entry.event == "consent":
        verdict = "permitted" if entry.outcome == "0" else "refused"
        return f"{words} for {told_to_patient(entry.purpose)}: {verdict}"
    return f"{words}: {entry.data_type}" if entry.event in _TYPED and entry.data_type else words


#: Steps in which a patient wants to know what kind of data it was.
_TYPED = frozenset({"receive", "read", "deliver"})


def _told(event: Event, file: str | None) -> Json:
    return {
        "file": file,
        "type": event.resource_type,
        "version": event.version_id,
        "received": iso(event.received_ms),
        "from": event.system,
        "is_current": event.is_current,
        "sha256": event.sha256,
        "removed": event.is_erased,
    }


def _jobs(uow: UnitOfWork, patient_key: str) -> Iterator[Job]:
    before: str | None = None
    while True:
        wanted = JobFilter(patient_key=patient_key, before_id=before, limit=_PAGE)
        page = uow.jobs.find(wanted)
        yield from page
        if len(page) < _PAGE:
            return
        before = page[-1].id


def _results(uow: UnitOfWork, jobs: Sequence[Job]) -> Iterator[Json]:
    for job_id, delivery in uow.deliveries.of_jobs([job.id for job in jobs]).items():
        told: Json = {
            "job": job_id,
            "identifier": delivery.identifier,
            "state": delivery.state.value,
            "written_to": delivery.system,
            "delivered": iso(delivery.delivered_ms) if delivery.delivered_ms else None,
        }
        if not delivery.body:
            yield {**told, "removed": True}
            continue
        report = Report.from_json(uow.deliveries.body(delivery))
        place = uow.deliveries.location(delivery)
        yield {**told, "location": place, "result": report.result, "device": report.device}


def _consents(uow: UnitOfWork, patient_key: str) -> Iterator[Json]:
    """Give what staff recorded or imported; Consents that were pushed are among the received."""
    for consent in uow.consent_acts.of([patient_key]):
        told: Json = {"id": consent.id, "form": consent.form, "at": iso(consent.recorded_ms)}
        try:
            acts = uow.consent_acts.open(consent)
        except (Unsealable, StatementForged) as error:
            yield {**told, "unreadable": type(error).__name__}
            continue
        yield {**told, "acts": [{"act": each.kind, "statement": each.statement} for each in acts]}
    _, left = uow.consents.recorded(patient_key)
    for refusal in left:
        yield {
            "id": refusal.ref.removeprefix("Consent/"),
            "form": "kept-at-erasure",
            "says": str(summary(refusal, uow.now).says),
            "status": refusal.status,
        }


def _uses(uow: UnitOfWork, patient_key: str) -> Iterator[Json]:
    """Give the uses of break-glass on her data, and why."""
    for use in uow.break_glass.of_patient(patient_key):
        yield {
            "at": iso(use.used_ms),
            "by": use.clinician,
            "route": use.route,
            "why": uow.break_glass.reason(use),
            "reviewed": iso(use.reviewed_ms) if use.reviewed_ms else None,
            "verdict": use.verdict,
            "comment": uow.break_glass.comment(use),
        }


def _cards(uow: UnitOfWork, patient_key: str) -> Iterator[Json]:
    """Give what clinicians said of cards with her results."""
    for kept in uow.cds.of_patient(patient_key):
        said = uow.cds.said(kept)
        yield {
            "at": iso(kept.outcome_ms),
            "job": kept.job_id,
            "route": kept.route,
            "outcome": kept.outcome,
            "reason": kept.reason,
            "said": orjson.loads(said) if said else {},
        }


def _lines(jobs: Sequence[Job], results: Sequence[Json], called: Called) -> list[ResultLine]:
    said = {each["job"]: each.get("result", {}) for each in results}
    return [
        ResultLine(
            at=from_ms(job.created_ms),
            model=called.model(job),
            says=_says(said.get(job.id, {})),
            ended=_ended(job),
        )
        for job in jobs
    ]


def _ended(job: Job) -> str:
    """Say in words how a job ended, and why."""
    status = job.business_status.value.replace("-", " ")
    reason = without_ids(job.reason)
    return f"{status}. {reason}" if reason else status


def _says(result: Json) -> str:
    """Give the words of a result that people read: its narrative, without its markup."""
    narrative = str(result.get("text", {}).get("div", ""))
    words = _TAG.sub(" ", narrative.replace("</p>", "\n"))
    lines = [" ".join(line.split()) for line in unescape(words).splitlines()]
    return " ".join(line for line in lines if line) or "no result"


def _write_json(path: Path, content: object) -> None:
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
