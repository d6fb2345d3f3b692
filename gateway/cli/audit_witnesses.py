"""`nadi audit witnesses`, `nadi audit publish`: checkpoints that leave the machine."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape

from adapters.site import Site
from adapters.witness.entries import WitnessEntry
from adapters.witness.witnesses import place_of, witness_of
from gateway.cli.context import (
    EXIT_NOT_SO,
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    err,
    explained,
    fail,
    iso,
    opened,
    out,
    print_json,
    table,
)
from gateway.core.clock import to_ms, utc_now
from gateway.core.errors import GatewayError, NotFound
from gateway.store.unit_of_work import Store
from gateway.store.verification_checkpoints import OutsideNote
from gateway.store.witnesses import WitnessState
from gateway.telemetry import hushed
from workers.witnesses import WitnessPublisher

NO_WITNESS = (
    "The audit log has no witness: whoever has this machine can write it anew, and nobody could "
    "tell. Name one under `witnesses` in the site file (docs/audit.md)."
)
#: A witness is behind when it misses so many of its intervals, and a minute.
_MISSED = 3
_GRACE_MS = 60_000
#: The kinds of witnesses that give back what they keep.
_ASKED = ("file", "http")

Names = Annotated[
    list[str] | None,
    typer.Option("--witness", help="Compare with what this witness of the site file keeps."),
]


class Standing(StrEnum):
    """How it stands with a witness."""

    OK = "ok"
    WAITING = "waiting"
    BEHIND = "behind"
    DISAGREES = "disagrees"


@dataclass(frozen=True)
class Witnessing:
    """One witness of the site file."""

    name: str
    kind: str
    place: str
    standing: Standing
    size: int
    says: str


_COLOURS = {
    Standing.OK: "green",
    Standing.WAITING: "yellow",
    Standing.BEHIND: "yellow",
    Standing.DISAGREES: "red",
}


def witnessing(site: Site, store: Store) -> list[Witnessing]:
    """Say of each witness of a site how it stands with it.

    Raises:
        StoreUnavailable: The database is away.
    """
    with store.read() as uow:
        states, newest = uow.witnesses.states(), uow.audit_proofs.newest()
    size, now_ms = newest[0] if newest else 0, to_ms(utc_now())
    return [
        _standing(name, entry, states.get(name, WitnessState(name)), size, now_ms)
        for name, entry in site.witnesses.items()
    ]


def _standing(
    name: str, entry: WitnessEntry, state: WitnessState, size: int, now_ms: int
) -> Witnessing:
    standing, says = Standing.OK, f"has {state.size} entries of {size}"
    if state.confirmed_ms is not None:
        says += f", since {iso(state.confirmed_ms)}"
    allowed_ms = _MISSED * 1000 * entry.every_s + _GRACE_MS
    if state.disagrees:
        standing = Standing.DISAGREES
    elif state.confirmed_ms is None:
        standing, says = Standing.WAITING, "has nothing yet"
    elif state.size < size and now_ms - state.confirmed_ms > allowed_ms:
        standing = Standing.BEHIND
    if state.problem:
        says = f"{says}; {state.failures} tries failed: {state.problem}"
    return Witnessing(name, entry.kind, place_of(entry), standing, state.size, says)


@explained
def witnesses(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show who keeps checkpoints of this log, and how far; ends with 1 when one disagrees."""
    with opened(data_dir) as nadi:
        found = witnessing(nadi.site(), nadi.store)
    if not found:
        err.print(f"[yellow]![/] {NO_WITNESS}", soft_wrap=True)
    if as_json:
        print_json([asdict(each) for each in found])
    elif found:
        listing = table("WITNESS", "KIND", "WHERE", "STATE", "SAYS")
        for each in found:
            state = f"[{_COLOURS[each.standing]}]{each.standing}[/]"
            listing.add_row(each.name, each.kind, escape(each.place), state, escape(each.says))
        out.print(listing)
    if any(each.standing is Standing.DISAGREES for each in found):
        raise typer.Exit(EXIT_NOT_SO)


@explained
def publish(
    names: Annotated[
        list[str] | None, typer.Argument(help="Witnesses of the site file; all when absent.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Send the newest checkpoint to witnesses now, without waiting for their interval."""
    is_well = True
    with opened(data_dir) as nadi:
        entries = _entries(nadi.site(), names)
        publisher = WitnessPublisher(nadi.store, nadi.site, nadi.keys.origin)
        with nadi.store.read() as uow:
            newest, states = uow.audit_proofs.newest(), uow.witnesses.states()
        if newest is None:
            raise NotFound("The log has no checkpoint yet.")
        for name, entry in entries.items():
            with hushed():
                after = publisher.publish(entry, states.get(name, WitnessState(name)), newest)
            is_well &= not after.problem
            sign = "[red]✗[/]" if after.problem else "[green]✓[/]"
            says = after.problem or f"{newest[0]} entries, {place_of(entry)}"
            out.print(f"{sign} {name}: {escape(says)}", soft_wrap=True)
    if not is_well:
        raise typer.Exit(EXIT_NOT_SO)


def kept_by(nadi: Opened, names: Sequence[str] | None) -> Iterator[OutsideNote]:
    """Ask witnesses for the checkpoints that they keep of this log.

    Raises:
        NotFound: A witness keeps none.
        WitnessAway: A witness can't be asked now.
        WitnessUnreadable: A witness can't be asked at all.
    """
    if not names:
        return
    for name, entry in _entries(nadi.site(), names).items():
        notes = witness_of(entry).kept(nadi.keys.origin)
        if not notes:
            raise NotFound(f"The witness '{name}' keeps no checkpoint of this log.")
        for number, note in enumerate(notes, start=1):
            yield OutsideNote(f"witness {name}", f"note {number}", note)


def kept_by_all(nadi: Opened) -> tuple[list[OutsideNote], list[str]]:
    """Ask those witnesses of the site file that need nobody's help; say which did not answer."""
    notes: list[OutsideNote] = []
    silent: list[str] = []
    # A site file that was tampered with may not even be one any more.
    with contextlib.suppress(GatewayError):
        for name, entry in nadi.site().witnesses.items():
            if entry.kind not in _ASKED:
                continue
            try:
                notes += kept_by(nadi, [name])
            except GatewayError as error:
                silent.append(f"Not compared with the witness '{name}': {error.message}")
    return notes, silent


def _entries(site: Site, names: Sequence[str] | None) -> Mapping[str, WitnessEntry]:
    known = site.witnesses
    unknown = [name for name in names or () if name not in known]
    if unknown or not known:
        there = ", ".join(known) or "none"
        fail(
            f"The site file has no witness {', '.join(unknown)}; it has: {there}.", code=EXIT_USAGE
        )
    return {name: known[name] for name in names} if names else known
