"""What `nadi doctor` says of writing results: a probe is written, read back, and taken back.

Only into systems that get results and for which the site file names a made-up patient
(`test_patient`); where an EHR takes only codes of its own, under each that could not be looked up
(`gateway.cli.doctor_concepts`). The probe goes the way of a result, down the same ladder, and is
marked as entered in error at once. Of a receiver of HL7 v2 only the connection is tried otherwise:
there is no message that would do no harm.
"""

from collections.abc import Iterator
from dataclasses import replace

import orjson

from adapters.site import Site, System
from gateway.cli.doctor_concepts import Code, look_up, terms_of
from gateway.cli.doctor_feeds import FeedFinding
from gateway.cli.doctor_remedies import of_loss, refused_with, remedy, with_remedy
from gateway.cli.models_installed import Find
from gateway.core import audit
from gateway.core.audit import AgentKind, AuditAgent, Source, Step
from gateway.core.clock import new_id, utc_now
from gateway.core.errors import GatewayError
from gateway.core.label_probe import label_probe
from gateway.core.ladder import Rung, Terms, said
from gateway.core.read_back import UNIT, VALUE
from gateway.core.retraction import ENTERED_IN_ERROR
from gateway.core.write_back import StoredReport
from gateway.store.unit_of_work import Store
from workers.ehrs import Connection, Ehrs
from workers.fates import Fate, NotReached, NotTaken, OnWorklist, Written, open_gate
from workers.verifying import WORDS

_WITHIN_S = 5.0
_PROBE_OVER = "Entered in error: a probe of Nadi."
_READ_THERE = (
    "Clinicians read them there (nadi worklist list); for results in the EHR name what takes "
    "them, such as a receiver of HL7 v2 (oru)."
)
#: What must not be lost.
_GRAVE = frozenset({VALUE, WORDS})


def write_findings(site: Site, store: Store, source: Source, find: Find) -> Iterator[FeedFinding]:
    """Look up what results are written under, and write a probe where there is a made-up patient.

    Args:
        site: The site.
        store: For the record that a probe is written.
        source: Who writes it.
        find: Gives the model of a route.
    """
    ehrs = Ehrs(lambda: site, store=store, timeout_s=_WITHIN_S)
    for name in dict.fromkeys(route.sink for route in site.routes):
        system = site.system(name)
        if system is not None and system.address:
            looked_up = look_up(site, system, find)
            yield from looked_up.findings
            if system.test_patient:
                terms = terms_of(site, system)
                codes: list[Code | None] = [*(looked_up.untold or [*terms.codes][:1])]
                for code in codes or [None]:
                    yield _tried(system, ehrs, (terms, code), (store, source))
    for system in site.systems.values():
        if system.oru is not None:
            yield _reached(system.name, ehrs)
    ehrs.close()


def _reached(name: str, ehrs: Ehrs) -> FeedFinding:
    """Open a connection to a receiver of HL7 v2."""
    check = f"HL7 v2 to {name}"
    try:
        oru = ehrs.connection(name).oru
        if oru is None:
            return FeedFinding(check, "it gets no results so (any more)", is_fault=None)
        oru.reach()
    except GatewayError as error:
        return FeedFinding(check, with_remedy(error), is_fault=True)
    says = f"{oru.place} takes a connection; whether it takes messages, the first result tells"
    return FeedFinding(check, says, is_fault=False)


def _tried(
    system: System,
    ehrs: Ehrs,
    under: tuple[Terms, Code | None],
    recorded: tuple[Store, Source],
) -> FeedFinding:
    code = under[1]
    check = f"writing {system.name} as {code[1]}" if code else f"writing {system.name}"
    try:
        connection = ehrs.connection(system.name)
        report = _probe(system, under, recorded)
        sent = connection.recipient.write([report], repeated=frozenset(), gate=open_gate)
        fate = sent[report.identifier]
        left_there = isinstance(fate, Written) and not _is_taken_back(connection, report, fate)
    except GatewayError as error:
        return FeedFinding(check, with_remedy(error), is_fault=True)
    says, is_fault = _told(fate)
    if left_there:
        says = f"{says}; it could not be marked as entered in error: remove it by hand"
    return FeedFinding(check, says, is_fault=is_fault)


def _probe(
    system: System, under: tuple[Terms, Code | None], recorded: tuple[Store, Source]
) -> StoredReport:
    """Make a probe, after it is on record that one is written."""
    (terms, code), (store, source) = under, recorded
    with store.write() as uow:
        now = uow.now
        step = Step(id=new_id(), recorded=now, source=source)
        ehr = AuditAgent(system.name, system.name, AgentKind.SERVER)
        uow.audit(audit.noted(step, "note", agents=[ehr], details={"what": "write-back probe"}))
    made = label_probe(str(system.test_patient), now, code)
    return replace(StoredReport.read(made.to_json()), terms=terms)


def _is_taken_back(connection: Connection, report: StoredReport, written: Written) -> bool:
    """Mark the probe as entered in error; say whether it is so now."""
    if written.rung is Rung.HL7V2_ORU and connection.oru is not None:
        return bool(connection.oru.take_back(report, utc_now(), _PROBE_OVER))
    if written.location is None:
        return False
    client = connection.client
    kept = client.read(written.location)
    if kept is None:
        return written.is_read  # gone since then; else nobody knows
    try:
        client.update(written.location, orjson.dumps({**kept, "status": ENTERED_IN_ERROR}))
    except GatewayError:
        return False
    again = client.read(written.location)
    return again is None or again.get("status") == ENTERED_IN_ERROR


def _told_written(fate: Written) -> tuple[str, bool | None]:
    if fate.rung is Rung.HL7V2_ORU:
        return f"a probe went as {fate.rung} and was answered {fate.answer}", False
    if not fate.is_read:
        unread = f"a probe went as {fate.rung} and could not be read back"
        return f"{unread}: nobody knows what is kept of a result; let Nadi's user read there", None
    # The probe's unit is nobody's; that of each Concept is compared by itself.
    lost = tuple(each for each in fate.lost if each != UNIT)
    if not lost:
        return f"a probe went as {fate.rung}; what was looked at is there", False
    says = f"a probe went as {fate.rung}; not kept: {', '.join(lost)}. {of_loss(lost)}."
    return says, True if _GRAVE & set(lost) else None


def _told(fate: Fate) -> tuple[str, bool | None]:
    """Say what became of a probe, and whether that is a fault; None: somebody should look."""
    if isinstance(fate, Written):
        return _told_written(fate)
    if isinstance(fate, OnWorklist):
        plain = [each for each in fate.left if each.rung is Rung.OBSERVATION]
        first = f": {said(plain or fate.left[:1])}" if fate.left else ""
        return f"no form of a result is taken; they stay on the worklist{first} {_READ_THERE}", None
    if isinstance(fate, NotTaken):
        refused = f"the EHR refused the probe: HTTP {fate.status}. {refused_with(fate.status)}"
        return fate.why or refused, True
    error = fate.error if isinstance(fate, NotReached) else type(fate).__name__
    return f"the probe could not be written: {error}. {remedy(error)}".rstrip(), True
