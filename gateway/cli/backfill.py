"""`nadi backfill`: fill in what an EHR held before, by its Bulk Data export, and score it."""

import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Self

import orjson
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from adapters.feeds.bulk import BulkClient, ExportFile
from adapters.site import System
from adapters.site_trigger import resource_types
from adapters.site_yaml import suggestion
from adapters.tls import peer_verify
from gateway.cli.access import record_change
from gateway.cli.context import (
    EXIT_INTERRUPTED,
    EXIT_NOT_SO,
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    err,
    explained,
    fail,
    noun,
    opened,
    out,
    print_json,
    table,
)
from gateway.cli.models_installed import installed
from gateway.core.errors import TransientError
from gateway.core.principal import Role
from gateway.listeners.backfilling import Backfill, Order, Progress, SoFar, Tally, WaysIn
from gateway.listeners.door import Door
from gateway.listeners.handing_in import HandingIn
from gateway.private_file import private_file
from gateway.store.unit_of_work import UnitOfWork
from workers.pacing import paced

if TYPE_CHECKING:
    from gateway.cli.retrospective import Retrospect
    from gateway.cli.retrospective import Tally as Scores

_RECORD_ONLY = {"X-Nadi-Receive": "record"}
_CREDENTIAL = "credential"
_SILENCE_S = 60.0
_TYPES = "Patient,Consent,Encounter,Observation"
_COLUMNS = (
    TextColumn("{task.description:<24}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
)

app = noun("Fill in what an EHR held before Nadi came, by Bulk Data export.")

SystemName = Annotated[str, typer.Argument(help="The system of the site file.")]


@app.command()
@explained
def run(
    system: SystemName,
    types: Annotated[
        str, typer.Option(help="Resource types, separated by commas; all without it.")
    ] = _TYPES,
    since: Annotated[
        str, typer.Option(help="Only what changed since, as 2025-01-31T00:00:00Z.")
    ] = "",
    scope: Annotated[
        str, typer.Option(help="`Patient`, or `Group/ID`; the whole system without it.")
    ] = "",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Export, read and keep; run it again to go on with one that broke off.

    Models do not run for what is filled in, but for what changed within the hour before and is of
    the last three days.
    """
    order = Order(scope, _known(types), since)
    with opened(data_dir) as nadi, _backfill(nadi, system, is_quiet=as_json) as backfill:
        words = _Words(system, data_dir, as_json=as_json)
        begun = backfill.begun
        if begun is not None and begun != order:
            fail(
                "Another backfill of this system was begun and is not finished: "
                f"`{words.to_go_on(begun)}` goes on with it, `{words.to_forget}` lets go of it."
            )
        with _told_how_to_go_on(backfill, words):
            tally = backfill.run(order, time.sleep)
    if as_json:
        print_json(vars(tally))
    else:
        _show(tally)


@app.command()
@explained
def score(
    route: Annotated[str, typer.Option(help="The route whose model is tried.")],
    since: Annotated[
        datetime | None, typer.Option(help="Only what was true of the patient since.")
    ] = None,
    lines: Annotated[
        Path | None, typer.Option("--lines", help="Write a line of JSON for each event here.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Score what is on record: how many would have had a result, and why others would not.

    Nothing is stored or sent but the audit log's record of it; consent is asked as it is today.
    """
    from gateway.cli import retrospective  # noqa: PLC0415 - loads the inference runtime

    with opened(data_dir) as nadi:
        site = nadi.site()
        chosen = site.route(route)
        if chosen is None:
            fail(f"There is no route '{route}' in the site file in force.")
        model = installed(nadi.settings).find(chosen.model)
        if model is None:
            fail(f"Model {chosen.model} is not in service; `nadi models list` shows all.")
        looked = retrospective.Retrospect(nadi.store, site, chosen, model, nadi.source())
        moment = since.replace(tzinfo=since.tzinfo or UTC) if since else None
        tally = _scored(looked, moment, lines, is_quiet=as_json)
    _tell_scores(tally, as_json=as_json)


@app.command()
@explained
def forget(system: SystemName, data_dir: DataDir = None) -> None:
    """Let go of a backfill that was begun; what it has filled in stays."""
    with opened(data_dir) as nadi, _backfill(nadi, system, is_quiet=True) as backfill:
        if backfill.begun is None:
            fail("No backfill of this system was begun.")
        backfill.forget()
    out.print("[green]✓[/] Forgotten.")


def _known(types: str) -> tuple[str, ...]:
    """Read the names of resource types; it ends here when one is none."""
    names = tuple(filter(None, (each.strip() for each in types.split(","))))
    for name in names:
        if name not in resource_types():
            offer = suggestion(name, resource_types())
            fail(f"There is no resource type '{name}'{offer}", code=EXIT_USAGE)
    return names


@contextmanager
def _backfill(nadi: Opened, name: str, *, is_quiet: bool) -> Iterator[Backfill]:
    """Put a backfill together, with a credential of its own that ends with it."""
    site = nadi.site()
    system = site.system(name)
    if system is None:
        fail(f"The site file in force has no system '{name}': {', '.join(sorted(site.systems))}.")
    client = BulkClient(
        system.base_url,
        login=system.login,
        timeout_s=_SILENCE_S,
        verify=peer_verify(system.tls),
        pace=paced(system, nadi.store, timeout_s=_SILENCE_S),
    )
    feed = f"{name}/backfill"
    with (
        _credential(nadi, feed, name) as token,
        _ways_in(nadi, system, token) as ways,
        _Told(is_quiet=is_quiet) as told,
    ):
        yield Backfill(nadi.store, feed, client, ways, told)
    client.close()


@contextmanager
def _ways_in(nadi: Opened, system: System, token: str) -> Iterator[WaysIn]:
    address = nadi.settings.api_address
    record = Door(address, lambda: token, headers=_RECORD_ONLY)
    event = Door(address, lambda: token)
    yield WaysIn(_way_in(record, system), _way_in(event, system))
    record.close()
    event.close()


def _way_in(door: Door, system: System) -> HandingIn:
    stop = threading.Event()  # never set: who has had enough presses Ctrl-C
    return HandingIn(
        lambda bundle: door.hand_over(bundle, stop),
        base_url=system.base_url,
        count=lambda *_: None,
    )


@contextmanager
def _credential(nadi: Opened, feed: str, system: str) -> Iterator[str]:
    """Give the token of a credential that ends with this run, or with the next at the latest."""
    with nadi.store.write() as uow:
        _revoke_left(nadi, uow, feed)
        credential_id, token = uow.credentials.add(feed, Role.EHR, system)
        record_change(uow, nadi.source(), credential_id, is_added=True)
        uow.listener_state.put(feed, {_CREDENTIAL: credential_id})
    try:
        yield token
    finally:
        with nadi.store.write() as uow:
            _revoke_left(nadi, uow, feed)


def _revoke_left(nadi: Opened, uow: UnitOfWork, feed: str) -> None:
    left = uow.listener_state.get(feed, _CREDENTIAL)
    found = uow.credentials.find(left) if left else None
    if found is not None and found.revoked_ms is None:
        uow.credentials.revoke(found.id)
        record_change(uow, nadi.source(), found.id, is_added=False)
    uow.listener_state.remove(feed, _CREDENTIAL)


@dataclass(frozen=True)
class _Words:
    """The commands that go on with a backfill, as they are typed."""

    system: str
    data_dir: Path | None
    as_json: bool = field(kw_only=True)

    def to_go_on(self, order: Order) -> str:
        """Give the command that goes on with what was begun."""
        types = ",".join(order.types)
        named = ["--types", types] if types != _TYPES else []
        named += ["--since", order.since] if order.since else []
        named += ["--scope", order.scope] if order.scope else []
        return self._command("run", *named, *(["--json"] if self.as_json else []))

    @property
    def to_forget(self) -> str:
        """Give the command that lets go of what was begun."""
        return self._command("forget")

    def _command(self, verb: str, *named: str) -> str:
        folder = ["--data-dir", str(self.data_dir)] if self.data_dir else []
        return shlex.join(["nadi", "backfill", verb, self.system, *named, *folder])


@contextmanager
def _told_how_to_go_on(backfill: Backfill, words: _Words) -> Iterator[None]:
    """Say what was done and how to go on, where Ctrl-C or somebody who is away breaks it off."""
    try:
        yield
    except KeyboardInterrupt:
        err.print("[yellow]![/] Stopped.")
        _tell_so_far(backfill, words)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except TransientError as error:
        err.print(f"[red]✗[/] {escape(error.message)}", soft_wrap=True)
        _tell_so_far(backfill, words)
        raise typer.Exit(EXIT_NOT_SO) from None


def _tell_so_far(backfill: Backfill, words: _Words) -> None:
    begun, done = backfill.begun, backfill.so_far
    if begun is None:
        err.print("  Nothing was begun: the EHR has not answered yet. The same command begins.")
        return
    err.print(f"  {_done(done)}")
    err.print(f"  To go on:  {escape(words.to_go_on(begun))}", soft_wrap=True)
    err.print(f"  To let go: {escape(words.to_forget)}", soft_wrap=True)


def _done(so_far: SoFar) -> str:
    if not so_far.lines:
        return "The EHR was asked for the export; nothing of it is handed in yet."
    lines = f"{so_far.lines}" if so_far.total is None else f"{so_far.lines} of {so_far.total}"
    return f"{lines} lines are handed in and noted; nothing comes twice."


class _Told(Progress):
    """Shows how far it is, where somebody looks."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._bar = Bar(*_COLUMNS, console=err, transient=True, disable=is_quiet)
        self._task = self._bar.add_task("asking for the export", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def waiting(self, percent: int | None) -> None:
        """Tell that the export is being made."""
        done = "" if percent is None else f", {percent} %"
        self._bar.update(self._task, description=f"the EHR exports{done}")

    def reading(self, file: ExportFile, lines: int, total: int | None) -> None:
        """Tell how far all files together were read."""
        words = f"{file.type} ({file.kind})"
        self._bar.update(self._task, description=words, completed=lines, total=total)


def _scored(
    looked: "Retrospect", since: datetime | None, file: Path | None, *, is_quiet: bool
) -> "Scores":
    """Score everything, with a bar, and write the lines that are wanted."""
    from gateway.cli.retrospective import Tally as Scores  # noqa: PLC0415 - as above

    tally = Scores()
    with ExitStack() as stack:
        bar = stack.enter_context(Bar(*_COLUMNS, console=err, transient=True, disable=is_quiet))
        task = bar.add_task("scoring", total=looked.count())
        written = _opened(file, stack) if file else None
        for each in looked.scored(since):
            tally.add(each)
            bar.advance(task)
            if written:
                written.write(orjson.dumps(vars(each)) + b"\n")
    return tally


def _opened(file: Path, stack: ExitStack) -> BinaryIO:
    """Open a new file that only its owner may read: a score is a patient's value."""
    try:
        return stack.enter_context(private_file(file))
    except OSError as error:
        fail(f"{file} can't be written: {error.strerror}.")


def _tell_scores(tally: "Scores", *, as_json: bool) -> None:
    outcomes = dict(tally.outcomes.most_common())
    if as_json:
        print_json({"matched": tally.matched, "outcomes": outcomes, **tally.spread})
        return
    listing = table("OUTCOME", "EVENTS", "SHARE")
    for outcome, count in outcomes.items():
        if outcome != "not-matched":
            listing.add_row(outcome, str(count), f"{count / tally.matched:.1%}")
    out.print(f"{tally.matched} events would have started the route.")
    if tally.matched:
        out.print(listing)
    if tally.spread:
        spread = ", ".join(f"{name} {value:.3g}" for name, value in tally.spread.items())
        out.print(f"Values: {spread}. Demonstration only: no figure here is of clinical use.")


def _show(tally: Tally) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.by_type.items()))
    out.print(f"[green]✓[/] {tally.read} lines read: {kinds or 'nothing'}.")
    out.print(f"  The export is of {tally.at}: the next may say --since {tally.at}")
    if tally.as_events:
        out.print(
            f"  {tally.as_events} of them changed within the hour before and are of the last three "
            "days: they were received as events, and models may run for them."
        )
    if tally.deleted:
        out.print(f"  {tally.deleted} were deleted in the EHR, and are received as deleted.")
    if tally.refused:
        out.print(f"[yellow]![/] {tally.refused} lines hold no resource that can be read.")
    if tally.not_exported:
        out.print(f"[yellow]![/] The EHR tells of {tally.not_exported} that it did not export.")
