"""`nadi hl7 send`: try a feed with messages from files, as a laboratory would send them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from adapters.hl7v2.framing import END, START
from adapters.hl7v2.message import header_alone, split_batch
from adapters.hl7v2.sender import NoAnswer, Sender, acknowledged, connected
from adapters.tls import sender_context
from gateway.cli.context import EXIT_NOT_SO, AsJson, explained, fail, noun, out, print_json, table

_TAKEN = frozenset({"AA", "CA"})
_SIGNS = {True: "[green]✓[/]", False: "[red]✗[/]"}

app = noun("HL7 v2: send messages to a port, and see how they are acknowledged.")


@app.callback()
def hl7() -> None:
    """HL7 v2: send messages to a port, and see how they are acknowledged."""


@app.command()
@explained
def send(  # noqa: PLR0913 (one parameter per option)
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="Messages or batches.")
    ],
    *,
    host: Annotated[str, typer.Option(help="Where to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to.")] = 2575,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Longest wait for an answer, in seconds.")
    ] = 30.0,
    authority: Annotated[
        Path | None,
        typer.Option("--tls", exists=True, dir_okay=False, help="MLLPS: whom to trust, PEM."),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Our certificate and key, one PEM file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send messages one after the other on one connection; ends with 1 if one was not taken."""
    tls = sender_context(authority, certificate)
    with connected(host, port, timeout_s=timeout_s, tls=tls) as sender:
        rows = [row for file in files for row in _sent(sender, file)]
    if as_json:
        print_json(rows)
    else:
        _show(rows)
    if not all(row["is_taken"] for row in rows):
        raise typer.Exit(EXIT_NOT_SO)


def _sent(sender: Sender, file: Path) -> Iterator[dict[str, object]]:
    content = file.read_bytes().strip(START + END + b"\n ")
    for message in split_batch(content):
        header = header_alone(message)
        if header is None:
            fail(f"{file} is no HL7 v2 message: it does not begin with MSH.")
        named = {"file": str(file), "kind": f"{header.kind}^{header.event}"}
        yield {**named, "control_id": header.control_id, **_answered(sender, message)}


def _answered(sender: Sender, message: bytes) -> dict[str, object]:
    try:
        answers = [acknowledged(each) for each in sender.send(message)]
    except NoAnswer as error:
        return {"codes": [], "is_taken": False, "says": error.message}
    codes = [code for code, _ in answers]
    says = "; ".join(dict.fromkeys(text for _, text in answers if text))
    says = says if answers else "It asks for no answer."
    return {"codes": codes, "is_taken": all(code in _TAKEN for code in codes), "says": says}


def _show(rows: list[dict[str, object]]) -> None:
    listing = table("", "FILE", "MESSAGE", "CONTROL ID", "ANSWER", "SAYS")
    for row in rows:
        codes = ", ".join(str(code) for code in row["codes"])  # type: ignore[attr-defined]
        texts = (str(row[name]) for name in ("file", "kind", "control_id"))
        says = escape(str(row["says"]))
        listing.add_row(_SIGNS[bool(row["is_taken"])], *map(escape, texts), codes or "none", says)
    out.print(listing)
