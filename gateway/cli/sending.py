"""What `nadi hl7 send` and `nadi dicom send` share: where to, and how the answers are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.context import EXIT_NOT_SO, out, print_json, table

Host = Annotated[str, typer.Option(help="Where to.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Where to.")]
TimeoutS = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Longest wait for an answer, in seconds.")
]
Authority = Annotated[
    Path | None,
    typer.Option("--tls", exists=True, dir_okay=False, help="Speak TLS: whom to trust, PEM."),
]
Certificate = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Our certificate and key, one PEM file."),
]

_SIGNS = {True: "[green]✓[/]", False: "[red]✗[/]"}


@dataclass(frozen=True)
class Answered:
    """How something that was sent was answered.

    Attributes:
        cells: For people, by column.
        told: For scripts.
    """

    is_taken: bool
    cells: Mapping[str, str]
    told: Mapping[str, object]


def show(answers: Sequence[Answered], *, as_json: bool) -> None:
    """Show how everything was answered.

    Raises:
        typer.Exit: Something was not taken.
    """
    if as_json:
        print_json([dict(each.told) for each in answers])
    elif answers:
        listing = table("", *answers[0].cells)
        for each in answers:
            listing.add_row(_SIGNS[each.is_taken], *map(escape, each.cells.values()))
        out.print(listing)
    if not all(each.is_taken for each in answers):
        raise typer.Exit(EXIT_NOT_SO)
