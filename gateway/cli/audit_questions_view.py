"""How the answers to a compliance officer's questions look in a terminal."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from rich.markup import escape

from gateway.cli.context import out, table
from gateway.core.audit_answers import Answer, Json

_COLOURS = {"done": "green", "refused": "yellow", "failed": "red"}
_MOST_CHANGES = 12
_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def show(name: str, title: str, answer: Answer, about: str) -> None:
    """Show an answer: what was counted first, then what happened."""
    of = f" [dim]{escape(about)}[/]" if about else ""
    out.print(f"[bold]{escape(title)}[/]{of}")
    if not answer.rows and not answer.groups:
        out.print("  nothing is on record")
        return
    _GROUPS.get(name, _no_groups)(answer)
    columns = _COLUMNS.get(name)
    if columns and answer.rows:
        listing = table(*columns)
        for row in answer.rows:
            listing.add_row(*(cell(row) for cell in columns.values()))
        out.print(listing)
    if answer.last_seq is not None:
        out.print(f"[dim]{len(answer.rows)} lines; there are more: --limit, --since, --until.[/]")


def _no_groups(_answer: Answer) -> None:
    """Most questions count nothing."""


def _reasons(answer: Answer) -> None:
    listing = table("TIMES", "WHY", "STEPS", "LAST")
    for line in answer.groups:
        steps = line["steps"]
        counts = steps.items() if isinstance(steps, Mapping) else ()
        listing.add_row(
            f"[bold]{line['times']}[/]",
            escape(str(line["why"]) or "no reason given"),
            ", ".join(f"{name} {times}" for name, times in counts),
            _local(line["last"]),
        )
    out.print(listing)
    out.print("[dim]The canary's are counted; --canary tells them one by one too.[/]")
    if answer.rows:
        out.print("\n[bold]The newest[/]")


def _people(answer: Answer) -> None:
    listing = table("WHO", "ROLE", "DID", "TIMES", "REFUSED", "FOR", "FIRST", "LAST")
    for line in answer.groups:
        refused = line["refused"]
        listing.add_row(
            f"[bold]{escape(str(line['who']))}[/]",
            escape(str(line.get("role", ""))),
            escape(_joined(line.get("did"))),
            str(line["times"]),
            f"[yellow]{refused}[/]" if refused else "",
            escape(_joined(line.get("purposes"))),
            _local(line["first"]),
            _local(line["last"]),
        )
    out.print(listing)


_GROUPS = {"refusals": _reasons, "who": _people}

Cell = Callable[[Json], str]


def _when(row: Json) -> str:
    return _local(row["recorded"])


def _step(row: Json) -> str:
    return f"[bold]{escape(str(row['event']))}[/]"


def _ended(row: Json) -> str:
    word = str(row["ended"])
    return f"[{_COLOURS.get(word, 'white')}]{word}[/]"


def _who(row: Json) -> str:
    return escape(_joined(row.get("who")))


def _what(row: Json) -> str:
    return escape(_short(str(row.get("what", ""))))


def _short(text: str) -> str:
    """Shorten the hashes in a text; --json gives all of them."""
    return _HASH.sub(r"\1…", text)


def _why(row: Json) -> str:
    """Give the reason; for what needed none, the consent that decided or the result."""
    reason = str(row.get("why", ""))
    return escape(_short(reason) or _joined(row.get("consents")) or _result(row))


def _result(row: Json) -> str:
    result = row.get("result")
    return f"result {str(result)[:16]}" if result else ""


def _references(row: Json) -> str:
    """Give what `nadi jobs show` and `nadi audit prove` take."""
    told = {"job": row.get("job"), "decision": row.get("decision"), "event": row.get("id")}
    wanted = ("job", "decision") if told["job"] else ("event",)
    return "\n".join(f"{name} {told[name]}" for name in wanted if told[name])


def _patient(row: Json) -> str:
    return escape(str(row.get("patient", "")))


def _where(row: Json) -> str:
    if row.get("written_to"):
        return f"[green]written to {escape(str(row['written_to']))}[/]"
    return escape(str(row.get("why", ""))) or "[yellow]not written[/]"


def _review(row: Json) -> str:
    review = row.get("review")
    told = review if isinstance(review, Mapping) else {}
    if told.get("state") == "open":
        return "[yellow]not reviewed yet[/]"
    if told.get("state") != "closed":
        return escape(str(told.get("state", "")))
    both = f"; both by login {told['same_login']}" if "same_login" in told else ""
    return escape(f"{told['verdict']}, by {_joined(told['by'])}{both}")


def _changes(row: Json) -> str:
    found = row.get("changes")
    lines = [_change(each) for each in found] if isinstance(found, list) else []
    if len(lines) > _MOST_CHANGES:
        more = len(lines) - _MOST_CHANGES
        lines = [*lines[:_MOST_CHANGES], f"[dim]… {more} more; --json gives all[/]"]
    return "\n".join(lines) or escape(str(row.get("why", "")))


def _change(change: Mapping[str, str | None]) -> str:
    path, before, after = (escape(change.get(key) or "") for key in ("path", "before", "after"))
    if change["kind"] == "changed":
        return f"{path}: [red]{before}[/] → [green]{after}[/]"
    return f"[green]+[/] {path}: {after}" if after else f"[red]-[/] {path}: {before}"


def _to(row: Json) -> str:
    return f"[bold]{escape(_joined(row.get('to')))}[/]"


def _joined(values: object) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) else ""


def _local(instant: object) -> str:
    moment = datetime.fromisoformat(str(instant)).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")


_TRAIL: dict[str, Cell] = {
    "WHEN": _when,
    "STEP": _step,
    "OUTCOME": _ended,
    "WHO": _who,
    "WHAT": _what,
    "WHY": _why,
}
_COLUMNS: dict[str, dict[str, Cell]] = {
    "patient": _TRAIL,
    "refusals": {
        "WHEN": _when,
        "STEP": _step,
        "WHO": _who,
        "PATIENT": _patient,
        "WHY": _why,
        "REFERENCES": _references,
    },
    "results": {
        "WHEN": _when,
        "PATIENT": _patient,
        "OUTCOME": _ended,
        "RESULT": _result,
        "BECAME": _where,
    },
    "break-glass": {
        "WHEN": _when,
        "OUTCOME": _ended,
        "WHO": _who,
        "PATIENT": _patient,
        "WHY": _why,
        "REVIEW": _review,
    },
    "out-of-hours": {
        "WHEN": _when,
        "STEP": _step,
        "OUTCOME": _ended,
        "WHO": _who,
        "WHAT": _what,
        "PATIENT": _patient,
    },
    "configuration": {"WHEN": _when, "WHO": _who, "WHAT": _what, "CHANGES": _changes},
    "disclosures": {"WHEN": _when, "TO": _to, "WHAT": _what, "WHY": _why},
}
