"""How a play looks in a terminal: one live table, and a summary that says what came of it."""

from collections import Counter

from rich.console import Group
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from gateway.cli.ward_run import Tally, WardPlay, patient_with_result, unmet

_STATE_COLOURS = {
    "ready": "cyan",
    "in-progress": "blue",
    "completed": "green",
    "rejected": "yellow",
    "cancelled": "yellow",
    "failed": "red",
}
_SHOWN_UNMET = 10


def live(play: WardPlay) -> Panel:
    """Draw the present moment."""
    tally, wanted = play.tally, sum(play.ward.expected_results.values())
    columns = Table.grid(padding=(0, 4))
    columns.add_row(
        _counts("Events", _event_rows(tally)),
        _counts("Jobs", _state_rows(tally)),
        _counts("Refusals", [(name, str(count)) for name, count in tally.refusals.most_common()]),
    )
    bars = Table.grid(padding=(0, 1))
    bars.add_row("pushed", _bar(tally.sent, tally.planned), f"{tally.sent}/{tally.planned}")
    bars.add_row("results in the EHR", _bar(len(tally.results), wanted), _of(tally, wanted))
    away = ", [red]the EHR does not answer[/]" if tally.is_ehr_away else ""
    return Panel(
        Group(bars, "", columns),
        title="[bold]A ward at work[/]",
        subtitle=f"{tally.elapsed_s:.0f} s{_latency(tally)}{away}",
        expand=False,
        padding=(1, 2),
    )


def line(play: WardPlay) -> str:
    """Say the present moment in one line, for a log or a pipe."""
    tally, wanted = play.tally, sum(play.ward.expected_results.values())
    refused = ", ".join(f"{name} {count}" for name, count in tally.refusals.most_common())
    return (
        f"{tally.elapsed_s:5.1f} s  pushed {tally.sent}/{tally.planned}, "
        f"accepted {tally.accepted}, open jobs {tally.open_jobs}, "
        f"results in the EHR {len(tally.results)}/{wanted}"
        + (f", refused: {refused}" if refused else "")
        + (", the EHR does not answer" if tally.is_ehr_away else "")
    )


def summary(play: WardPlay, *, docs_url: str, nadi: tuple[str, str]) -> Group:
    """Say at the end what came of it, and where to look next.

    Args:
        play: The play, finished.
        docs_url: Address of the API's documentation.
        nadi: What to type for the command, and the option that names the data folder.
    """
    wrong = unmet(play)
    parts: list[object] = [_expectations(play, wrong)]
    for patient, what in list(wrong.items())[:_SHOWN_UNMET]:
        parts.append(f"[red]✗[/] {escape(patient)}: {escape(what)}")
    if play.tally.duplicates:
        parts.append(f"[red]✗[/] {play.tally.duplicates} results are in the EHR twice.")
    parts.append(_verdict(play, wrong))
    parts.append(_next_steps(play.tally, docs_url, nadi))
    return Group(*parts)  # type: ignore[arg-type]  # rich takes any renderable


def _expectations(play: WardPlay, wrong: dict[str, str]) -> Table:
    listing = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("EXPECTED", "PATIENTS", "AS EXPECTED"):
        listing.add_column(name, justify="left" if name == "EXPECTED" else "right")
    wanted = Counter(play.ward.expectations.values())
    missed = Counter(play.ward.expectations[patient] for patient in wrong)
    for expectation, patients in wanted.most_common():
        met = patients - missed[expectation]
        colour = "green" if met == patients else "red"
        words = expectation.replace("refused:", "refused: ")
        listing.add_row(words, str(patients), f"[{colour}]{met}[/]")
    return listing


def _verdict(play: WardPlay, wrong: dict[str, str]) -> str:
    tally = play.tally
    refused = sum(tally.refusals.values())
    counts = (
        f"{tally.accepted} events, {len(tally.results)} results in the EHR, {refused} refused, "
        f"{tally.duplicates} duplicates{_latency(tally)}"
    )
    if wrong or tally.duplicates or tally.refused_at_door:
        door = "".join(f", {count} of {why}" for why, count in tally.refused_at_door.items())
        return f"\n[red]✗ Not as expected:[/] {counts}{escape(door)}"
    return f"\n[green]✓ All as expected:[/] {counts}"


def _next_steps(tally: Tally, docs_url: str, nadi: tuple[str, str]) -> Table:
    name, where = nadi
    patient = patient_with_result(tally)
    rows = Table.grid(padding=(0, 2))
    rows.add_row("[dim]The API[/]", docs_url)
    if patient:
        command = f"{name} audit list --patient Patient/{patient}{where}"
        rows.add_row("[dim]One patient's trail[/]", escape(command))
    rows.add_row("[dim]Refusals[/]", escape(f"{name} jobs list --state rejected{where}"))
    rows.add_row("[dim]Is the log whole?[/]", escape(f"{name} audit verify{where}"))
    return rows


def _counts(title: str, rows: list[tuple[str, str]]) -> Table:
    made = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    made.title_style = "bold"
    made.add_column(min_width=12)
    made.add_column(justify="right", min_width=5)
    for name, value in rows or [("none yet", "")]:
        made.add_row(name, value)
    return made


def _event_rows(tally: Tally) -> list[tuple[str, str]]:
    rows = [("accepted", str(tally.accepted))]
    if tally.repeated:
        rows.append(("tried again", str(tally.repeated)))
    rows.extend((why, f"[red]{count}[/]") for why, count in tally.refused_at_door.items())
    rate = tally.accepted / tally.elapsed_s if tally.elapsed_s > 1 and not tally.is_pushed else 0
    return [*rows, ("per second", f"{rate:.0f}")] if rate else rows


def _state_rows(tally: Tally) -> list[tuple[str, str]]:
    states = tally.states
    known = [name for name in _STATE_COLOURS if states[name]]
    return [(f"[{_STATE_COLOURS[name]}]{name}[/]", str(states[name])) for name in known]


def _bar(done: int, wanted: int) -> ProgressBar:
    return ProgressBar(total=max(wanted, 1), completed=min(done, wanted), width=40)


def _of(tally: Tally, wanted: int) -> str:
    return f"{len(tally.results)}/{wanted}"


def _latency(tally: Tally) -> str:
    p50 = tally.p50_s
    return "" if p50 is None else f", median {p50:.2f} s from push to stored result"
