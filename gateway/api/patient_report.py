"""`GET /audit/report`: a patient's own report, for the role compliance to hand out; audited.

The patient is named by the header `X-Nadi-Patient`, or by `patient=` as in every search.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from html import unescape

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from adapters.site import Site
from gateway.api.docs_page import CONTENT_SECURITY_POLICY
from gateway.api.edge import Call, Edge
from gateway.api.paging import insist_on_known
from gateway.api.patient_names_told import Called
from gateway.api.patient_report_consents import SaidByHer
from gateway.core.audit_answers import BREAKING_GLASS, who_saw
from gateway.core.audit_entry import Entry, read_entry
from gateway.core.clock import from_ms
from gateway.core.delivery import Delivery, DeliveryState
from gateway.core.errors import ContentError, NotFound, Unsealable
from gateway.core.findings import Report
from gateway.core.jobs import BusinessStatus, Job, JobState
from gateway.core.ladder import Rung
from gateway.core.patient_report import (
    Attempt,
    Decided,
    PatientReport,
    Run,
    Sent,
    as_html,
    without_ids,
)
from gateway.core.purposes import told_to_patient
from gateway.store.audit_questions import MOST_OF_A_PATIENT
from gateway.store.audit_search import AuditFilter
from gateway.store.jobs import JobFilter
from gateway.store.patient_names import on_record
from gateway.store.unit_of_work import UnitOfWork

QUERY = "AuditEvent/$patient-report"

_PAGE = 500
_FINDING = re.compile(r"<b>(.*?)</b>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_DELIVERED = {
    DeliveryState.DELIVERED: "written into {}",
    DeliveryState.CANCELLED: "not written: you took your consent back, or it was stopped",
    DeliveryState.FAILED: "not written: {} did not take it",
}


@dataclass(frozen=True)
class Patient:
    """Whom a report is about.

    Attributes:
        reference: How the record system names her.
        key: How the gateway knows her.
    """

    reference: str
    key: str


class Reports:
    """Makes reports."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def report(self, call: Call) -> Response:
        """Give one patient's report as HTML, or with `format=pdf` as PDF."""
        request = call.request
        insist_on_known(request, "patient", "system", "format")
        form = request.query_params.get("format", "html")
        key, reference = self._edge.patient_key_of(request), _reference(call)
        if key is None or not reference:
            raise ContentError("Name the patient by the header X-Nadi-Patient.")
        if form not in ("html", "pdf"):
            raise ContentError("format is html or pdf.", location="format")
        try:
            made = await run_in_threadpool(self._made, Patient(reference, key))
        finally:
            # Who was only asked for, and never was here, was looked for all the same.
            await self._edge.record_query(call, f"{QUERY}?patient-key={key}", {key})
        if form == "pdf":
            return Response(await run_in_threadpool(_pdf, made), media_type="application/pdf")
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
        return HTMLResponse(as_html(made), headers=headers)

    def _made(self, patient: Patient) -> PatientReport:
        with self._edge.store.read() as uow:
            return gather(uow, self._edge.site(), patient)


def gather(uow: UnitOfWork, site: Site, patient: Patient) -> PatientReport:
    """Put a report together; the caller puts it on record.

    Raises:
        NotFound: Nothing was ever received or recorded of this patient.
    """
    if patient.key not in on_record(uow, [patient.key]):
        raise NotFound("Nothing was ever received of this patient.")
    wanted = AuditFilter(patient_key=patient.key, is_ascending=True, limit=MOST_OF_A_PATIENT)
    rows = uow.audit_log.search(wanted)
    entries = [read_entry(row.seq, row.event, row.body) for row in rows]
    erased = uow.erasures.closed([patient.key]).get(patient.key)
    called = Called(uow, site)
    return PatientReport(
        made_at=uow.now,
        reference=patient.reference,
        site=site.name or "the hospital",
        zone=site.hours.zone if site.hours else _here(),
        privacy=site.privacy,
        said=SaidByHer(uow, site, called).all(patient.key, entries),
        sent=_sent(entries, called),
        runs=list(_runs(uow, patient.key, called)),
        attempts=_attempts(entries, called),
        decided=_decided(entries),
        seen=[called.line(line) for line in who_saw(entries)],
        erased_at=from_ms(erased.erased_ms) if erased else None,
    )


def _here() -> tzinfo:
    """Give the time zone of this machine."""
    return datetime.now(UTC).astimezone().tzinfo or UTC


def _reference(call: Call) -> str:
    request = call.request
    given = request.query_params.get("patient") or request.headers.get("x-nadi-patient", "")
    return f"Patient/{given.rpartition('/')[2]}" if given else ""


def _pdf(report: PatientReport) -> bytes:
    # Loaded when it is used: it brings its fonts along.
    from gateway.api.patient_report_pdf import as_pdf  # noqa: PLC0415

    return as_pdf(report)


def _sent(entries: Sequence[Entry], called: Called) -> list[Sent]:
    kinds: dict[str, Counter[str]] = {}
    times: dict[str, list[datetime]] = {}
    for each in entries:
        if each.event == "receive" and each.outcome == "0":
            sender = each.doers[0]
            name = called.party(sender.identifier, sender.name)
            kinds.setdefault(name, Counter())[each.data_type or "resource"] += 1
            times.setdefault(name, []).append(each.at)
    return [
        Sent(
            name,
            ", ".join(f"{number} {kind}" for kind, number in sorted(kinds[name].items())),
            min(times[name]),
            max(times[name]),
        )
        for name in sorted(kinds)
    ]


def _attempts(entries: Sequence[Entry], called: Called) -> list[Attempt]:
    """Give the emergency uses that were refused."""
    return [
        Attempt(
            each.at,
            called.party(each.doers[0].identifier, each.doers[0].name),
            without_ids(each.reason) or "your consent does not permit it",
        )
        for each in entries
        if each.event == BREAKING_GLASS and each.outcome != "0"
    ]


def _decided(entries: Sequence[Entry]) -> list[Decided]:
    counts = Counter(
        (
            "allowed" if each.outcome == "0" else "refused",
            told_to_patient(each.purpose),
            without_ids(each.reason),
        )
        for each in entries
        if each.event == "consent"
    )
    return [Decided(*what, times) for what, times in sorted(counts.items())]


def _runs(uow: UnitOfWork, patient_key: str, called: Called) -> Iterator[Run]:
    """Give what came of each job that has ended, the newest first."""
    before: str | None = None
    while True:
        wanted = JobFilter(patient_key=patient_key, before_id=before, limit=_PAGE)
        jobs = uow.jobs.find(wanted)
        known = uow.deliveries.of_jobs([job.id for job in jobs])
        for job in jobs:
            if job.id in known or (job.state.is_final and job.state is not JobState.FAILED):
                yield _run(uow, job, known.get(job.id), called)
        if len(jobs) < _PAGE:
            return
        before = jobs[-1].id


def _run(uow: UnitOfWork, job: Job, delivery: Delivery | None, called: Called) -> Run:
    at = from_ms(job.created_ms)
    if delivery is None or job.business_status in _WITHOUT_RESULT:
        why = without_ids(job.reason) or job.business_status.value
        return Run(at, called.model(job), "", "", why)
    if delivery.rung in _KEPT_HERE:
        became = _NOW.get(job.business_status, _KEPT_HERE[delivery.rung])
        return Run(at, called.model(job), _says(uow, delivery), became, "")
    became = _DELIVERED.get(delivery.state, "waits to be written").format(
        called.system(delivery.system)
    )
    return Run(at, called.model(job), _says(uow, delivery), became, "")


_KEPT_HERE: Mapping[str, str] = {
    Rung.WORKLIST: "kept where clinicians read it, and not written into the record system",
    Rung.CDS_CARD: "shown to clinicians who open the chart, and not written into the record system",
}
_NOW = {
    BusinessStatus.SIGNED_OFF: f"{_KEPT_HERE[Rung.WORKLIST]}; a clinician has seen it",
    BusinessStatus.CONSENT_WITHDRAWN: "not written into the record system, nor shown any more",
}
_WITHOUT_RESULT = frozenset(BusinessStatus) - {
    BusinessStatus.DELIVERED,
    BusinessStatus.ON_WORKLIST,
    BusinessStatus.ON_CARD,
    BusinessStatus.SIGNED_OFF,
    BusinessStatus.DELIVERY_PENDING,
    BusinessStatus.DELIVERY_FAILED,
    BusinessStatus.CONSENT_WITHDRAWN,
    BusinessStatus.RUNNING,
}


def _says(uow: UnitOfWork, delivery: Delivery) -> str:
    """Give the finding of a result: what stands first, and in bold, in its text."""
    if not delivery.body:
        return "no longer kept"
    try:
        result = Report.from_json(uow.deliveries.body(delivery)).result
    except Unsealable:
        return "no longer kept"
    text = str(result.get("text", {}).get("div", ""))
    found = _FINDING.search(text)
    words = unescape(_TAG.sub(" ", found[1] if found else text))
    return " ".join(words.split())
