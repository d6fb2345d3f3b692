"""`nadi sandbox`: a ward of synthetic patients, played against a running Nadi."""

import asyncio
import random
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import httpx
import typer
from rich.live import Live

from adapters.sandbox.ward import ward
from gateway.cli.context import (
    EXIT_NOT_SO,
    DataDir,
    explained,
    fail,
    noun,
    out,
    settings_for,
)
from gateway.cli.ward_run import FHIR_JSON, ApiJobs, JobReader, JobView, WardPlay, unmet
from gateway.cli.ward_view import line, live, summary
from gateway.settings import Settings
from gateway.store.keys import load_or_create
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store

app = noun("The stand-in EHR and its ward of synthetic patients.")

_LOOK_EVERY_S = 0.5
_LINE_EVERY_S = 2.0
#: After the last push, how long nothing may move before it is called stuck.
_PATIENCE_S = 60.0
#: The same, once no job is open any more.
_SETTLED_S = 3.0
_TIMEOUT_S = 30.0
_LARGEST_SEED = 9999


@app.callback()
def sandbox() -> None:
    """Group the verbs."""


@app.command()
@explained
def play(
    *,
    patients: Annotated[int, typer.Option("--patients", min=1, help="How many.")] = 40,
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="Events per second.")] = 20.0,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Same seed, same ward; drawn when left out.")
    ] = None,
    until_done: Annotated[
        bool, typer.Option("--until-done/--no-wait", help="Wait for every result.")
    ] = True,
    ehr_url: Annotated[
        str | None, typer.Option("--ehr-url", help="FHIR base of the stand-in EHR.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Let a ward's EHR push its events, and watch what comes of them."""
    settings = settings_for(data_dir)
    drawn = random.randint(1, _LARGEST_SEED) if seed is None else seed  # noqa: S311 - a game
    home = ehr_url or f"http://{settings.host}:{settings.sandbox_port}/fhir"
    plan = _Plan(patients=patients, seed=drawn, rate=rate, is_waiting=until_done)
    try:
        done = asyncio.run(_play(settings, plan, token=_token(settings), home=home))
    except httpx.HTTPError as error:
        fail(f"The stand-in EHR at {home} does not play along ({type(error).__name__}).")
    if not until_done:
        out.print("[dim]Not waited for; what follows is the state of this moment.[/]")
    out.print(summary(done, docs_url=f"{settings.base_url}/docs", nadi=_command(settings)))
    if until_done and (unmet(done) or done.tally.duplicates or done.tally.refused_at_door):
        raise typer.Exit(EXIT_NOT_SO)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How a ward is played."""

    patients: int
    seed: int
    rate: float
    is_waiting: bool


async def _play(settings: Settings, plan: _Plan, *, token: str, home: str) -> WardPlay:
    headers = {"Content-Type": FHIR_JSON, "Accept": FHIR_JSON}
    nadi_headers = {**headers, "Authorization": f"Bearer {token}"}
    base_url = f"{settings.base_url}/fhir"
    async with (
        httpx.AsyncClient(base_url=base_url, headers=nadi_headers, timeout=_TIMEOUT_S) as nadi,
        httpx.AsyncClient(base_url=home, headers=headers, timeout=_TIMEOUT_S) as ehr,
    ):
        jobs = _jobs(settings, nadi)
        made = WardPlay(ward(plan.patients, plan.seed), nadi, ehr, jobs)
        try:
            out.print(f"[dim]Seed {plan.seed}: {plan.patients} patients move into the EHR …[/]")
            await made.prepare()
            await _watch(made, plan)
        finally:
            if isinstance(jobs, _DatabaseJobs):
                jobs.close()
    return made


async def _watch(made: WardPlay, plan: _Plan) -> None:
    """Push, and show what comes of it until nothing more is to come."""
    pushing = asyncio.create_task(made.push(plan.rate))
    with _Display(made) as display:
        while not made.is_done:
            await asyncio.sleep(_LOOK_EVERY_S)
            await made.look()
            display.show()
            if made.tally.is_pushed and (not plan.is_waiting or display.is_stuck):
                break
        await pushing
        await made.look()
        display.show()


class _Display:
    """A live table in a terminal, a line every few seconds elsewhere."""

    def __init__(self, made: WardPlay) -> None:
        self._made = made
        self._live = Live(live(made), console=out) if out.is_terminal else None
        self._next_line = 0.0
        self._moved_at = time.monotonic()
        self._seen: object = None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    @property
    def is_stuck(self) -> bool:
        """Whether nothing has moved for so long that nothing more is to come."""
        patience_s = _SETTLED_S if self._made.is_settled else _PATIENCE_S
        return time.monotonic() - self._moved_at > patience_s

    def show(self) -> None:
        """Show the present moment."""
        tally, now = self._made.tally, time.monotonic()
        state = (tally.accepted, len(tally.results), tally.states, tally.repeated)
        if state != self._seen:
            self._seen, self._moved_at = state, now
        if self._live:
            self._live.update(live(self._made), refresh=True)
        elif now >= self._next_line or self._made.is_done:
            self._next_line = now + _LINE_EVERY_S
            out.print(line(self._made))


class _DatabaseJobs:
    """Reads the jobs where they are, when Nadi's data is on this machine."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, event_ids: Sequence[str]) -> list[JobView]:
        """Give the jobs that these events caused."""
        return await asyncio.to_thread(self._read, event_ids)

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    def _read(self, event_ids: Sequence[str]) -> list[JobView]:
        with self._store.read() as uow:
            found = uow.jobs.of_events(event_ids)
        return [
            JobView(job.event_id, job.state.value, job.business_status.value)
            for jobs in found.values()
            for job in jobs
        ]


def _jobs(settings: Settings, nadi: httpx.AsyncClient) -> JobReader:
    if settings.database_url is None and not (settings.data_dir / "nadi.db").exists():
        return ApiJobs(nadi)
    keys = load_or_create(
        settings.data_dir,
        master_key_file=settings.master_key_file,
        audit_key_file=settings.audit_key_file,
        consent_key_file=settings.consent_key_file,
    )
    store = Store(settings.resolved_database_url, Sealer(keys.master), consents=keys.consents)
    store.check_key()
    return _DatabaseJobs(store)


def _token(settings: Settings) -> str:
    file = settings.data_dir / "credentials" / "ehr.token"
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        fail(f"{file} can't be read: it holds the EHR's token, made by `nadi up --sandbox`.")


def _command(settings: Settings) -> tuple[str, str]:
    """Give what to type for `nadi`, and the option that names this data folder, if it needs one."""
    beside = Path(sys.executable).with_name("nadi")
    name = "nadi" if shutil.which("nadi") or not beside.exists() else _short(beside)
    is_default = settings.data_dir.absolute() == Path("data").absolute()
    return name, "" if is_default else f" --data-dir {_short(settings.data_dir)}"


def _short(path: Path) -> str:
    """Write a path as short as it can be typed here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
