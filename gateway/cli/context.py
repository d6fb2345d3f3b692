"""What every command shares: where the data is, how it speaks, and how it ends.

* A command finds the database and the keys by `--data-dir`, else `NADI_DATA_DIR` (and
  `NADI_DATABASE_URL`, `NADI_MASTER_KEY_FILE` … as every process does). Nothing needs to run.
* `--json` prints one JSON value on standard output and nothing else there.
* It ends with 0 when done, 1 when the thing checked is not so or can't be done, 2 for wrong usage.
"""

import errno
import functools
import getpass
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, ParamSpec, TypeVar

import orjson
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.core.clock import from_ms, to_ms, utc_now
from gateway.core.errors import ConfigurationError, GatewayError
from gateway.settings import Settings, environment_default

if TYPE_CHECKING:
    from adapters.site import Site
    from gateway.core.audit import AuditAgent, Source
    from gateway.store.keys import Keys
    from gateway.store.unit_of_work import Store

EXIT_NOT_SO = 1
EXIT_USAGE = 2
#: As a shell has it for what Ctrl-C ended.
EXIT_INTERRUPTED = 130

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="NADI_DATA_DIR",
        help="Folder of database and keys.",
        show_default="data",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

# What goes into a file or a pipe is for `grep` and mail: no line of a listing is folded there.
_PIPE_WIDTH = 200
out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err = Console(stderr=True, highlight=False)

# What the last `nadi up` listened on, as the variables that say so.
_ADDRESSES = Path("run", "ports.json")
_NAMES = ("NADI_HOST", "NADI_PORT", "NADI_SANDBOX_PORT")

# Who has shown a credential to the command that runs.
_ACTING: ContextVar["AuditAgent | None"] = ContextVar("acting", default=None)

_WHOLE = frozenset({"ID", "WHEN", "STATE", "STEP", "AGE"})

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=StrEnum)


def noun(help_text: str) -> typer.Typer:
    """Make the Typer app of one noun; without a verb it shows its help."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
        rich_markup_mode="rich",
    )


def one_of(kind: type[E]) -> Callable[[str], E]:
    """Make the parser of an option that takes one word of several."""

    def parse(word: str) -> E:
        try:
            return kind(word)
        except ValueError:
            known = ", ".join(each.value for each in kind)
            raise typer.BadParameter(f"'{word}' is none of {known}.") from None

    return parse


def stated(value: str) -> str:
    """Insist that an option says something; blanks around it are left out."""
    if not value.strip():
        raise typer.BadParameter("it is empty; say it in words.")
    return value.strip()


def words_of(kind: type[StrEnum]) -> str:
    """Show the words of an option on the help page."""
    return f"[{'|'.join(each.value for each in kind)}]"


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turn an error that Nadi can explain into its sentence and exit code 1.

    With `--json` nothing that is logged meanwhile gets among what a script reads.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with _hushed() if kwargs.get("as_json") else nullcontext():
                return command(*args, **kwargs)
        except GatewayError as error:
            fail(error.message)
        except OSError as error:
            if error.errno in _NO_ROOM:
                where = f"{error.filename}: " if error.filename else ""
                fail(f"{where}The disk is full. Make room, then try again.")
            if not isinstance(error, BrokenPipeError):
                raise
            # `nadi … | head`: whoever read has seen enough; spare the flush at exit a second try.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(EXIT_NOT_SO) from None

    return run


def _hushed() -> AbstractContextManager[list[str]]:
    from gateway.telemetry import hushed  # noqa: PLC0415 - keep `--help` quick

    return hushed()


def fail(message: str, *, code: int = EXIT_NOT_SO) -> NoReturn:
    """Say on standard error why it ends here."""
    err.print(f"[red]✗[/] {escape(message)}", soft_wrap=True)
    raise typer.Exit(code)


def settings_for(data_dir: Path | None) -> Settings:
    """Read the settings, with the data folder of the command line if one was given.

    Addresses that the environment does not name are those of the last `nadi up` on that folder.
    """
    for name, value in _addresses(starting_settings(data_dir).data_dir).items():
        # In the environment, since a site file may name them too: ${NADI_SANDBOX_PORT:-8090}.
        environment_default(name, value)
    return starting_settings(data_dir)


def remember_addresses(settings: Settings, *, host: str) -> None:
    """Note where Nadi listens, for the commands that are called while it runs.

    Args:
        settings: Those it runs with.
        host: Address at which this machine reaches it.
    """
    known = (host, str(settings.port), str(settings.sandbox_port))
    (settings.data_dir / _ADDRESSES).write_bytes(
        orjson.dumps(dict(zip(_NAMES, known, strict=True)))
    )


def _addresses(data_dir: Path) -> dict[str, str]:
    try:
        found = orjson.loads((data_dir / _ADDRESSES).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    known = found if isinstance(found, dict) else {}
    return {name: value for name in _NAMES if isinstance(value := known.get(name), str)}


def starting_settings(data_dir: Path | None) -> Settings:
    """Read the settings from environment and command line alone, as a start does."""
    try:
        return Settings() if data_dir is None else Settings(data_dir=data_dir)
    except ValidationError as error:
        names = {f"NADI_{str(issue['loc'][0]).upper()}" for issue in error.errors()}
        fail(f"Wrong value in {', '.join(sorted(names))}.", code=EXIT_USAGE)


@contextmanager
def opened(data_dir: Path | None, *, checks_key: bool = True) -> Iterator["Opened"]:
    """Open database and keys of an installation that exists; they are closed at the end.

    Args:
        data_dir: The data folder, if one was named.
        checks_key: Whether another master key than that of the database is an error.

    Raises:
        GatewayError: Database or keys can't be used.
    """
    with opened_as(settings_for(data_dir), checks_key=checks_key) as nadi:
        yield nadi


@contextmanager
def opened_as(settings: Settings, *, checks_key: bool = True) -> Iterator["Opened"]:
    """Open the installation that settings name; see `opened`.

    Raises:
        GatewayError: Database or keys can't be used.
    """
    _insist_on_data(settings)
    from gateway.store.keys import load_or_create  # noqa: PLC0415 - keep `--help` quick
    from gateway.store.sealing import Sealer  # noqa: PLC0415
    from gateway.store.unit_of_work import Store  # noqa: PLC0415

    keys = load_or_create(
        settings.data_dir,
        master_key_file=settings.master_key_file,
        audit_key_file=settings.audit_key_file,
        consent_key_file=settings.consent_key_file,
    )
    store = Store(settings.resolved_database_url, Sealer(keys.master), consents=keys.consents)
    try:
        _insist_on_schema(store)
        if checks_key:
            store.check_key()
        yield Opened(settings, keys, store)
    finally:
        store.close()


class Opened:
    """An installation: its settings, keys and store."""

    def __init__(self, settings: Settings, keys: "Keys", store: "Store") -> None:
        self.settings = settings
        self.keys = keys
        self.store = store

    def site(self) -> "Site":
        """Read the site in force; an empty one when none was applied yet."""
        from adapters.site import Site, load_site  # noqa: PLC0415 - FHIRPath takes a moment

        with self.store.read() as uow:
            row = uow.sites.current()
        if row is None:
            return Site()
        return load_site(row.yaml, source=f"site version {row.version}", version=row.version)

    def source(self) -> "Source":
        """Say which process writes an audit event."""
        from gateway.core.audit import Source  # noqa: PLC0415

        return Source(self.site().name or "nadi", f"cli@{socket.gethostname()}")


@contextmanager
def acting(who: "AuditAgent") -> Iterator[None]:
    """Let what is recorded in this block name a person who has shown a credential."""
    token = _ACTING.set(who)
    try:
        yield
    finally:
        _ACTING.reset(token)


def operator() -> "AuditAgent":
    """Name who acts at this machine, as the audit log shows it."""
    from gateway.core.audit import AgentKind, AuditAgent  # noqa: PLC0415

    known = _ACTING.get()
    if known is not None:
        return known
    name = login()
    return AuditAgent(f"os-user:{name}", name, AgentKind.USER, role="operator")


def login() -> str:
    """Give the name of the operating system's user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def print_json(value: object) -> None:
    """Print one JSON value, indented, on standard output."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def table(*columns: str, title: str | None = None) -> Table:
    """Make a table in the one style of all listings; ids and times are never folded."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
    return made


def moment(ms: int) -> str:
    """Show a time of the database as local time, to the second."""
    return from_ms(ms).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def zone_of(nadi: Opened) -> tzinfo:
    """Give the time zone of the hospital, or else that of this machine."""
    hours = nadi.site().hours
    return hours.zone if hours else datetime.now(UTC).astimezone().tzinfo or UTC


def age(ms: int) -> str:
    """Say how long ago something was, in one unit: `12s`, `5m`, `3h`, `2d`."""
    seconds = max(0, (to_ms(utc_now()) - ms) // 1000)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def iso(ms: int) -> str:
    """Give a time of the database in ISO 8601, UTC, to the millisecond."""
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def has_database(settings: Settings) -> bool:
    """Say whether there is an installation to be opened."""
    return settings.database_url is not None or (settings.data_dir / "nadi.db").exists()


def _insist_on_data(settings: Settings) -> None:
    if not has_database(settings):
        message = (
            f"There is no database in the folder '{settings.data_dir}'. Name another with "
            "--data-dir or NADI_DATA_DIR, or start Nadi with `nadi up`."
        )
        raise ConfigurationError(message)


def _insist_on_schema(store: "Store") -> None:
    from gateway.store.engine import is_at_head  # noqa: PLC0415

    if not is_at_head(store.engine):
        message = "The database has the schema of another version of Nadi; `nadi up` upgrades it."
        raise ConfigurationError(message)
