"""`nadi doctor`: is this installation sound, and does what it needs answer?

Changes nothing, except that it writes and deletes one small file to measure the disk, runs the
canary (`gateway.canary`), which leaves her events and their trail, and writes a probe about the
test patient of each system that names one. Ends with 0 when nothing has failed; a warning is no
failure.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import typer
from rich.markup import escape

from adapters.site import Site, load_site
from gateway.cli.audit_witnesses import NO_WITNESS, Standing, witnessing
from gateway.cli.canary import run_now
from gateway.cli.context import (
    EXIT_NOT_SO,
    AsJson,
    DataDir,
    Opened,
    explained,
    moment,
    out,
    print_json,
    settings_for,
    table,
)
from gateway.cli.doctor_audit import false_tags, guards
from gateway.cli.doctor_backup import backups
from gateway.cli.doctor_cds import cds_problems
from gateway.cli.doctor_ehr import ehr_findings
from gateway.cli.doctor_feeds import FeedFinding, feed_findings
from gateway.cli.doctor_finding import Finding, Verdict
from gateway.cli.doctor_machine import clock, cpu, disk_space, disk_speed, modes
from gateway.cli.doctor_privacy import privacy_problems, same_logins
from gateway.cli.doctor_remedies import with_remedy
from gateway.cli.doctor_tls import tls_findings
from gateway.cli.doctor_write_back import write_findings
from gateway.cli.healthy import is_healthy
from gateway.cli.models_installed import Find, Installed, installed, library, matched
from gateway.cli.processes import broker_program
from gateway.cli.refused_view import refused_findings
from gateway.cli.site_plan import stopped_routes
from gateway.cli.write_back_view import told_of_results
from gateway.core.audit import Source
from gateway.core.clock import utc_now
from gateway.core.errors import GatewayError
from gateway.core.model_register import Standing as ModelStanding
from gateway.feed_standing import standings
from gateway.queue import is_broker_up
from gateway.room import Room
from gateway.settings import Settings
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.engine import is_at_head
from gateway.store.keys import Keys, load_or_create
from gateway.store.log_guard import contradiction
from gateway.store.privileges import rewritable
from gateway.store.retractions import RetractionState
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from models.registry import InstalledModel, ModelUnusable
from models.runtime import Runtime

_GIB = 2**30
_CANARY_WITHIN_S = 3.0
_REWRITABLE = (
    "this role could rewrite {}: let `nadi prepare` come as another, owning role "
    "(NADI_DATABASE_OWNER_URL, docs/audit.md)"
)
_IMPORT = (
    "It does not run, and events for it are refused: `nadi models import` its package again, or a "
    "version that fits this machine."
)
_ANOTHER = "Where a route needs it, `nadi models import` a version that is valid; else leave it."
_MEND_WITNESS = {
    Standing.WAITING: "; `nadi audit publish` sends it now",
    Standing.BEHIND: "; see whether it can be reached, then `nadi audit publish`",
    Standing.DISAGREES: "; somebody changed the log or what the witness keeps: keep copies of "
    "both, `nadi audit verify --witness` tells from where on they differ",
}

app = typer.Typer(pretty_exceptions_show_locals=False)


_WITNESS_VERDICTS = {Standing.OK: Verdict.OK, Standing.DISAGREES: Verdict.FAILED}
_SIGNS = {Verdict.OK: "[green]✓[/]", Verdict.WARNING: "[yellow]![/]", Verdict.FAILED: "[red]✗[/]"}


@app.command()
@explained
def doctor(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check this installation and what it can reach."""
    settings = settings_for(data_dir)
    settings = settings.model_copy(update={"data_dir": settings.data_dir.absolute()})
    findings = list(examine(settings))
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        listing = table("", "CHECK", "FOUND")
        for finding in findings:
            listing.add_row(_SIGNS[finding.verdict], escape(finding.check), escape(finding.says))
        out.print(listing)
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        raise typer.Exit(EXIT_NOT_SO)


def examine(settings: Settings) -> Iterator[Finding]:
    """Run every check; one that fails ends no other."""
    folder = settings.data_dir
    if not folder.is_dir():
        yield Finding("data folder", Verdict.FAILED, f"{folder} is missing; `nadi up` makes it.")
        return
    yield modes(folder)
    yield disk_space(folder)
    yield disk_speed(folder)
    yield clock()
    yield cpu()
    yield from models_found(_models(settings))
    yield _guarded("broker", lambda: _broker(settings))
    yield _running(settings)
    yield from _stored(settings)


def _models(settings: Settings) -> Installed:
    """Look at the register and the folders of models, or at the folders alone."""
    try:
        return installed(settings)
    except GatewayError:  # the database has a finding of its own
        return matched([], *library(settings).all(), day=utc_now().date())


def models_found(found: Installed) -> Iterator[Finding]:
    """Load every model that may run and try its golden cases on this machine."""
    if not found.models:
        yield Finding(
            "models",
            Verdict.WARNING,
            "None is in service, so every event is refused; `nadi "
            "models list --all` shows what there is, `nadi models import` brings one.",
        )
    for each in found.listed:
        name = f"model {each.name}@{each.version}" if each.version else f"model {each.name}"
        if each.state in {"altered", "unusable"}:
            yield Finding(name, Verdict.FAILED, f"{each.reason}. {_IMPORT}")
        elif each.model is not None and each.model in found.models:
            yield _tried(each.model)
        elif each.state != ModelStanding.RETIRED:
            says = f"{each.state}; it does not run. {each.reason}"
            yield Finding(name, Verdict.WARNING, f"{says.rstrip('. ')}. {_ANOTHER}")


def _tried(model: InstalledModel) -> Finding:
    name = f"model {model.reference}"
    try:
        Runtime(model)
    except ModelUnusable as error:
        return Finding(name, Verdict.FAILED, f"{error}. {_IMPORT}")
    return Finding(name, Verdict.OK, "golden cases give the recorded answers on this machine")


def _broker(settings: Settings) -> Finding:
    if is_broker_up(settings.resolved_broker_url):
        return Finding("broker", Verdict.OK, "answers")
    if settings.broker_url:
        says = (
            "does not answer; events are accepted and wait until it does. Start it, or correct "
            "NADI_BROKER_URL."
        )
        return Finding("broker", Verdict.FAILED, says)
    says = f"not running; `nadi up` starts {broker_program()}"
    return Finding("broker", Verdict.WARNING, says)


def _running(settings: Settings) -> Finding:
    url = f"{settings.base_url}/health/ready"
    if is_healthy(url):
        return Finding("api", Verdict.OK, f"ready at {settings.base_url}")
    return Finding("api", Verdict.WARNING, f"not ready at {settings.base_url}; `nadi up` starts it")


def _guarded(check: str, find: Callable[[], Finding]) -> Finding:
    try:
        return find()
    except GatewayError as error:
        return Finding(check, Verdict.FAILED, with_remedy(error))


def _stored(settings: Settings) -> Iterator[Finding]:
    """Check keys, database and site; a missing installation is not created here."""
    if settings.master_key_file is None and not (settings.data_dir / "keys").is_dir():
        yield Finding("keys", Verdict.FAILED, "There are none yet; `nadi up` makes them.")
        return
    try:
        keys = load_or_create(
            settings.data_dir,
            master_key_file=settings.master_key_file,
            audit_key_file=settings.audit_key_file,
            consent_key_file=settings.consent_key_file,
        )
    except GatewayError as error:
        yield Finding("keys", Verdict.FAILED, error.message)
        return
    yield Finding("keys", Verdict.OK, f"audit log {keys.origin}")
    store = Store(settings.resolved_database_url, Sealer(keys.master), consents=keys.consents)
    try:
        yield _guarded("database", lambda: _database(store))
        yield _guarded("audit log", lambda: _audit_log(settings, keys, store))
        yield _guarded("audit tags", lambda: _tags(store))
        yield _guarded("append-only", lambda: _guards(store))
        yield _guarded("room", lambda: _room(Room(settings, store)))
        yield _guarded("backup", lambda: _backup(settings, store))
        yield _guarded("results", lambda: _results(store))
        yield _guarded("withdrawn results", lambda: _withdrawn(store))
        yield _guarded("break-glass", lambda: _broken_glass(store))
        yield _guarded("canary", lambda: _canary(Opened(settings, keys, store)))
        yield from _site(store, settings)
    finally:
        store.close()


def _audit_log(settings: Settings, keys: Keys, store: Store) -> Finding:
    """Check that the log still is what was signed; `nadi audit verify` looks at all of it."""
    notes, key = CheckpointFile(settings.data_dir).notes(), keys.signing.public_key()
    with store.read() as uow:
        why, newest = contradiction(uow, notes, key, keys.origin), uow.audit_proofs.newest()
        waiting, _ = uow.audit_log.lag()
    if why:
        return Finding("audit log", Verdict.FAILED, why)
    says = f"{newest[0] if newest else 0} entries, {waiting} wait for their place"
    return Finding("audit log", Verdict.OK, says)


def _tags(store: Store) -> Finding:
    """Check that everything in the log was written with our key."""
    says, is_well = false_tags(store)
    return Finding("audit tags", Verdict.OK if is_well else Verdict.FAILED, says)


def _guards(store: Store) -> Finding:
    """Check that the triggers are there that refuse to change the log."""
    says, is_well = guards(store)
    return Finding("append-only", Verdict.OK if is_well else Verdict.FAILED, says)


def _room(room: Room) -> Finding:
    """Check that events are taken: neither disk nor memory nor patience is short."""
    measured = room.look()
    if room.short_of:
        says = " ".join(room.refusal(shortage).message for shortage in sorted(room.short_of))
        return Finding("room", Verdict.FAILED, f"Events get 503. {says}")
    memory = measured.memory_available_bytes
    available = f"{memory / _GIB:.1f} GiB of memory available, " if memory is not None else ""
    return Finding("room", Verdict.OK, f"{available}{measured.backlog} jobs wait")


def _database(store: Store) -> Finding:
    with store.read() as uow:
        uow.credentials.list()
    if not is_at_head(store.engine):
        says = "Its schema is of another version; `nadi prepare` upgrades it."
        return Finding("database", Verdict.FAILED, says)
    store.check_key()
    with store.engine.connect() as connection:
        tables = rewritable(connection)
    says = f"{store.engine.dialect.name}, schema current"
    if tables:
        says = f"{says}; {_REWRITABLE.format(', '.join(tables))}"
    return Finding("database", Verdict.WARNING if tables else Verdict.OK, says)


def _canary(nadi: Opened) -> Finding:
    """Run the built-in patient who refuses everything."""
    report = run_now(nadi, wait_s=_CANARY_WITHIN_S)
    says = str(report["says"])
    if report["is_permitted"]:
        says = f"Nothing is admitted. {says} Then: nadi canary clear"
        return Finding("canary", Verdict.FAILED, says)
    return Finding("canary", Verdict.OK if report["is_proven"] else Verdict.WARNING, says)


def _broken_glass(store: Store) -> Finding:
    """Check that every use of break-glass was reviewed in time."""
    with store.read() as uow:
        waiting = uow.break_glass.listed(only_open=True, limit=1000)
        overdue = sum(each.is_overdue(uow.now_ms) for each in waiting)
        logins = same_logins(uow)
    says = f"{len(waiting)} uses wait for their review, {overdue} of them overdue"
    if waiting:
        verdict = Verdict.FAILED if overdue else Verdict.WARNING
        says = f"{says}: `nadi break-glass list --open`"
        return Finding("break-glass", verdict, f"{says}. {logins}" if logins else says)
    if logins:
        return Finding("break-glass", Verdict.WARNING, logins)
    return Finding("break-glass", Verdict.OK, "no use waits for its review")


def _backup(settings: Settings, store: Store) -> Finding:
    """Check that backups can be made, and are."""
    says, is_well = backups(settings.data_dir, store)
    return Finding("backup", Verdict.OK if is_well else Verdict.WARNING, says)


def _results(store: Store) -> Finding:
    """Check in which form results are in the EHRs, and what those did not keep."""
    says, is_well = told_of_results(store)
    return Finding("results", Verdict.OK if is_well else Verdict.WARNING, says)


def _withdrawn(store: Store) -> Finding:
    """Check that what is to be marked as entered in error could be."""
    with store.read() as uow:
        counts = uow.retractions.counts()
    waiting = counts.get(RetractionState.PENDING, 0)
    failed = counts.get(RetractionState.FAILED, 0)
    says = f"{waiting} wait to be marked as entered in error"
    if failed:
        says = f"{says}; {failed} could not be: mark them in the EHR by hand (docs/revocation.md)"
    return Finding("withdrawn results", Verdict.WARNING if failed else Verdict.OK, says)


def _site(store: Store, settings: Settings) -> Iterator[Finding]:
    try:
        with store.read() as uow:
            row = uow.sites.current()
        site = load_site(row.yaml, source=f"site version {row.version}") if row else None
    except GatewayError as error:
        yield Finding("site", Verdict.FAILED, error.message)
        return
    if row is None or site is None:
        says = "None is in force; nothing is admitted. Next: nadi site apply FILE"
        yield Finding("site", Verdict.WARNING, says)
        yield Finding("witness", Verdict.WARNING, NO_WITNESS)
        return
    routes = ", ".join(route.name for route in site.routes)
    yield Finding("site", Verdict.OK, f"'{site.name}' version {row.version}; routes: {routes}")
    yield from _stopped(site, store)
    yield from _systems(site, store)
    yield from _listeners(site, store)
    yield from _judged(refused_findings(site, store))
    yield from _feeds(site, store, _models(settings).find)
    yield from _witnesses(site, store)
    yield from _privacy(site, store, settings.data_dir)
    for says, is_fault in cds_problems(site):
        yield Finding("cds-hooks", Verdict.FAILED if is_fault else Verdict.WARNING, says)


def _stopped(site: Site, store: Store) -> Iterator[Finding]:
    with store.read() as uow:
        lines = uow.models.lines()
    for says in stopped_routes(site, lines, utc_now().date()):
        yield Finding("route", Verdict.FAILED, says)


def _listeners(site: Site, store: Store) -> Iterator[Finding]:
    """Check that every listener that the site wants listens."""
    with store.read() as uow:
        found = standings(uow, site)
    for each in found:
        verdict = Verdict.OK if each.state == "up" else Verdict.FAILED
        says = f"{each.state}: {each.says}" + (f" (on {each.host})" if each.host else "")
        taken = f"; last message {moment(each.taken_ms)}" if each.taken_ms else ""
        yield Finding(f"listener {each.feed}", verdict, says + taken)


def _systems(site: Site, store: Store) -> Iterator[Finding]:
    """Check that every EHR is there and lets us in, and how long certificates hold."""
    yield from _judged(ehr_findings(site, store))
    yield from _judged(tls_findings(site))


def _feeds(site: Site, store: Store, find: Find) -> Iterator[Finding]:
    """Check that what changes in an EHR arrives here, and that results arrive there."""
    source = Source(site.name, "cli")
    yield from _judged(feed_findings(site, store, source))
    yield from _judged(write_findings(site, store, source, find))


def _judged(found: Iterator[FeedFinding]) -> Iterator[Finding]:
    verdicts = {True: Verdict.FAILED, False: Verdict.OK, None: Verdict.WARNING}
    for each in found:
        yield Finding(each.check, verdicts[each.is_fault], each.says)


def _privacy(site: Site, store: Store, data_dir: Path) -> Iterator[Finding]:
    try:
        problems = list(privacy_problems(site, store, data_dir))
    except GatewayError as error:
        yield Finding("privacy", Verdict.FAILED, error.message)
        return
    for check, says, is_fault in problems:
        yield Finding(check, Verdict.FAILED if is_fault else Verdict.WARNING, says)
    if not problems:
        yield Finding("privacy", Verdict.OK, "contacts, retention and requests are in order")


def _witnesses(site: Site, store: Store) -> Iterator[Finding]:
    if not site.witnesses:
        yield Finding("witness", Verdict.WARNING, NO_WITNESS)
    for each in witnessing(site, store):
        verdict = _WITNESS_VERDICTS.get(each.standing, Verdict.WARNING)
        mend = _MEND_WITNESS.get(each.standing, "")
        yield Finding(f"witness {each.name}", verdict, f"{each.place}: {each.says}{mend}")
