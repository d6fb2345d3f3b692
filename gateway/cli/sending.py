"""What `nadi hl7 send` and `nadi dicom send` share: where to, and how the answers are shown."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from adapters.tls import sender_context
from gateway.cli.context import EXIT_NOT_SO, EXIT_USAGE, fail, out, print_json, table

Host = Annotated[str, typer.Option(help="Where to.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Where to.")]
TimeoutS = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Longest wait for an answer, in seconds.")
]
_TLS = "TLS"
Authority = Annotated[
    Path | None,
    typer.Option(
        "--tls",
        "--ca",
        exists=True,
        dir_okay=False,
        rich_help_panel=_TLS,
        help="Speak TLS, and trust the authority (or the server's own certificate) in this PEM "
        "file. Without it: in clear.",
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        rich_help_panel=_TLS,
        help="Our certificate with its chain, PEM, where the server wants one.",
    ),
]
Key = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        rich_help_panel=_TLS,
        help="Its key, PEM, if it is not in the file of the certificate.",
    ),
]
ServerName = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_TLS, help="Name that the server's certificate is for, if not the host."
    ),
]

#: What the words for site files are called on the command line.
_OPTIONS = {"`tls.authority`": "`--tls`", "`tls.certificate`": "`--certificate`"}
_SITE_FILE = "mend it in the site file"
_NAME = "use a name that stands in it"

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


def tls_of(
    authority: Path | None, certificate: Path | None, key: Path | None, server_name: str | None
) -> ssl.SSLContext | None:
    """Make the TLS that the options ask for; None where they ask for none.

    Raises:
        ConfigurationError: A file is missing or no such thing.
        typer.Exit: They don't go together.
    """
    given = {"--certificate": certificate, "--key": key, "--server-name": server_name}
    alone = [option for option, value in given.items() if value is not None]
    if authority is None and alone:
        says = f"{alone[0]} is for TLS: say with --tls FILE whom to trust, else all is in clear."
        fail(says, code=EXIT_USAGE)
    if key is not None and certificate is None:
        fail("--key is the key of a certificate: name that with --certificate.", code=EXIT_USAGE)
    return sender_context(authority, certificate, key)


def by_options(says: str) -> str:
    """Say how to mend a connection in words of the command line."""
    for key, option in _OPTIONS.items():
        says = says.replace(key, option)
    says = says.replace(_SITE_FILE, "mend `--host`")
    return says.replace(_NAME, f"{_NAME} (`--host` or `--server-name`)")


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
