"""`nadi dicom send`: try a port with files, as a scanner or an archive would send them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from adapters.dicom.sender import Answer, Target
from adapters.dicom.sender import send as sent
from adapters.tls import sender_context
from gateway.cli.context import EXIT_NOT_SO, AsJson, explained, noun, out, print_json, table

_SIGNS = {True: "[green]✓[/]", False: "[red]✗[/]"}

app = noun("DICOM: send images to a port, and see how they are answered.")


@app.callback()
def dicom() -> None:
    """DICOM: send images to a port, and see how they are answered."""


@app.command()
@explained
def send(  # noqa: PLR0913 (one parameter per option)
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="DICOM files.")],
    *,
    host: Annotated[str, typer.Option(help="Where to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to.")] = 11112,
    aet: Annotated[str, typer.Option(help="The AE title that is called.")] = "NADI",
    calling: Annotated[str, typer.Option(help="The AE title that calls.")] = "NADI-SEND",
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Longest wait for an answer, in seconds.")
    ] = 30.0,
    authority: Annotated[
        Path | None,
        typer.Option("--tls", exists=True, dir_okay=False, help="TLS: whom to trust, PEM."),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Our certificate and key, one PEM file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send files one after the other on one association; ends with 1 if one was not taken."""
    target = Target(
        host=host,
        port=port,
        called=aet,
        calling=calling,
        timeout_s=timeout_s,
        tls=sender_context(authority, certificate),
    )
    rows = list(zip(files, sent(target, files), strict=True))
    if as_json:
        print_json([_as_json(file, answer) for file, answer in rows])
    else:
        _show(rows)
    if not all(answer.is_taken for _, answer in rows):
        raise typer.Exit(EXIT_NOT_SO)


def _as_json(file: Path, answer: Answer) -> dict[str, object]:
    told = {"status": _hex(answer), "is_taken": answer.is_taken, "says": answer.says}
    return {"file": str(file), **told}


def _hex(answer: Answer) -> str:
    return "none" if answer.status is None else f"{answer.status:04X}"


def _show(rows: list[tuple[Path, Answer]]) -> None:
    listing = table("", "FILE", "STATUS", "SAYS")
    for file, answer in rows:
        sign = _SIGNS[answer.is_taken]
        listing.add_row(sign, escape(str(file)), _hex(answer), escape(answer.says))
    out.print(listing)
