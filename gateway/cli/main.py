"""The command `nadi`: one module per noun, loaded when it is called.

Loading lazily keeps `nadi --help` and every command quick: most nouns need the database, some the
site file, none needs all.
"""

import importlib
import importlib.metadata
import importlib.util
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

#: Nouns, in the order of the help page. A noun lives in the module of its name in this package.
NOUNS = {
    "up": "Start everything on this machine and keep it running.",
    "doctor": "Check this installation and what it can reach.",
    "assess": "Measure this machine: which models it can serve, how many events an hour.",
    "site": "The site file: systems and routes.",
    "route": "Explain what a route makes of a real resource.",
    "cds": "CDS Hooks: the services, and what became of their cards.",
    "jobs": "Look after jobs and their deliveries.",
    "worklist": "What no EHR takes: sign it off, or have it tried again.",
    "models": "The installed models.",
    "patient": "What is held of a patient: erase it, keep it for the law.",
    "consent": "Record, import and list consents; explain decisions.",
    "rights": "What patients ask for, and until when.",
    "privacy": "The record of what personal data is processed here.",
    "retention": "What has had its time: show it, remove it.",
    "backfill": "Fill in what an EHR held before, by Bulk Data export.",
    "canary": "The built-in patient who refuses everything; let the gateway admit again.",
    "break-glass": "Run a route in an emergency; list and review the uses.",
    "audit": "Read the audit log, and verify that nothing was changed.",
    "access": "Credentials of those who may call.",
    "backup": "Make a backup while Nadi runs; verify, list and prune backups.",
    "restore": "Put a backup back into an empty folder.",
    "sandbox": "The stand-in EHR and its ward of synthetic patients.",
    "codes": "Local codes: what arrived that no model understands.",
    "hl7": "Send HL7 v2 messages, to try a feed; see who a port refused.",
    "dicom": "Send DICOM images, to try a port.",
    "prepare": "Create keys, schema and first credentials, and end.",
}
#: These do one thing and have no verbs below them.
SINGLE = frozenset({"up", "doctor", "assess", "restore", "prepare"})


class LazyNouns(TyperGroup):
    """Shows the nouns from the table and imports the one that is called."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (typer's signature)
        super().__init__(*args, **kwargs)
        for name, text in NOUNS.items():
            if importlib.util.find_spec(_module(name)):
                self.commands[name] = TyperCommand(name, help=text)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 (as above)
        """Find the command that is called, and load its module."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else command, rest


def _module(noun: str) -> str:
    return f"gateway.cli.{noun.replace('-', '_')}"


def load(noun: str) -> Any:  # noqa: ANN401 (typer keeps its command type to itself)
    """Import a noun's module and give its command."""
    app: typer.Typer = importlib.import_module(_module(noun)).app
    return typer.main.get_command(app) if noun in SINGLE else typer.main.get_group(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nadi {importlib.metadata.version('nadi')}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyNouns,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def nadi(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    """Run AI models beside an EHR: consent checked, results delivered, everything on record."""


if __name__ == "__main__":
    app()
