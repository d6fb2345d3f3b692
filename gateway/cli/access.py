"""`nadi access`: who may call Nadi. A token is shown once; only its hash is kept."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.context import (
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    err,
    explained,
    fail,
    iso,
    moment,
    noun,
    one_of,
    opened,
    operator,
    out,
    print_json,
    table,
    words_of,
)
from gateway.core import audit
from gateway.core.clock import new_id
from gateway.core.errors import NotFound
from gateway.core.principal import Role
from gateway.private_file import write_private
from gateway.store.credentials import REMEMBERED_S, Credential
from gateway.store.unit_of_work import UnitOfWork

app = noun("The credentials of systems and people.")


@app.command()
@explained
def add(
    name: Annotated[
        str, typer.Argument(help="A name for people, such as the EHR's or a person's.")
    ],
    role: Annotated[
        Role,
        typer.Option("--role", parser=one_of(Role), metavar=words_of(Role), help="What it may do."),
    ],
    system: Annotated[
        str | None,
        typer.Option("--system", help="For role ehr: the system of the site file it speaks for."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--out", help="Write the token to this new file instead.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a credential; its token is shown this once."""
    if role is Role.EHR and system is None:
        fail("--role ehr needs --system NAME.", code=EXIT_USAGE)
    if role is not Role.EHR and system is not None:
        fail("--system belongs to --role ehr, and to no other role.", code=EXIT_USAGE)
    with opened(data_dir) as nadi:
        _warn_of_unknown(nadi, system)
        source = nadi.source()
        with nadi.store.write() as uow:
            _insist_on_new_name(uow, name)
            credential_id, token = uow.credentials.add(name, role, system)
            record_change(uow, source, credential_id, is_added=True)
            if file is not None:
                _write_secret(file, token)
    if as_json:
        shown = {"id": credential_id, "name": name, "role": role.value, "system": system}
        print_json(shown if file else {**shown, "token": token})
        return
    err.print(
        f"[green]✓[/] {escape(name)} may now call Nadi as [bold]{role.value}[/]; "
        f"its id is {credential_id}."
    )
    if file is None:
        err.print("[yellow]![/] This token can't be shown again; keep it as you keep a password:")
        typer.echo(token)
    else:
        err.print(f"  The token is in {escape(str(file))}; only you can read it.")


@app.command(name="list")
@explained
def list_credentials(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List every credential; tokens are never shown."""
    with opened(data_dir) as nadi, nadi.store.read() as uow:
        found = uow.credentials.list()
    if as_json:
        print_json([_as_json(each) for each in found])
        return
    listing = table("ID", "NAME", "ROLE", "SYSTEM", "MADE", "STATE")
    for each in found:
        state = "[green]in force[/]" if each.revoked_ms is None else _revoked(each)
        made = moment(each.created_ms)
        name, system = escape(each.name), escape(each.system or "")
        listing.add_row(each.id, name, each.role.value, system, made, state)
    out.print(listing)


@app.command()
@explained
def revoke(
    wanted: Annotated[
        str, typer.Argument(metavar="ID|NAME", help="Its id or name, from the list.")
    ],
    data_dir: DataDir = None,
) -> None:
    """Make a credential useless; every process refuses it within two seconds."""
    with opened(data_dir) as nadi:
        source = nadi.source()
        with nadi.store.write() as uow:
            found = _named(uow, wanted)
            uow.credentials.revoke(found.id)
            record_change(uow, source, found.id, is_added=False)
    out.print(
        f"[green]✓[/] {escape(found.name)} ({found.role.value}) is revoked; "
        f"it is refused within {REMEMBERED_S:g} seconds."
    )


def record_change(
    uow: UnitOfWork, source: audit.Source, credential_id: str, *, is_added: bool
) -> None:
    """Put on record that a credential was added or revoked.

    Raises:
        NotFound: There is no such credential.
    """
    found = uow.credentials.find(credential_id)
    if found is None:
        raise NotFound("No credential has this id; `nadi access list` shows them.")
    uow.audit(
        audit.credential_changed(
            audit.Step(id=new_id(), recorded=uow.now, source=source),
            by=operator(),
            credential_id=credential_id,
            role=found.role.value,
            is_added=is_added,
            fingerprint=found.fingerprint,
        )
    )


def _named(uow: UnitOfWork, wanted: str) -> Credential:
    """Find a credential by its id, or by the name of one that is in force."""
    by_id = uow.credentials.find(wanted)
    if by_id is not None:
        return by_id
    found = _in_force(uow, wanted)
    if not found:
        raise NotFound(
            "No credential has this id, and none in force this name; `nadi access list` shows them."
        )
    if len(found) > 1:
        ids = ", ".join(each.id for each in found)
        fail(f"{len(found)} credentials in force have this name; say which by its id: {ids}.")
    return found[0]


def _insist_on_new_name(uow: UnitOfWork, name: str) -> None:
    for each in _in_force(uow, name):
        fail(f"'{name}' is in force already, with the id {each.id}; revoke it or choose another.")


def _in_force(uow: UnitOfWork, name: str) -> list[Credential]:
    return [
        each for each in uow.credentials.list() if each.name == name and each.revoked_ms is None
    ]


def _warn_of_unknown(nadi: Opened, system: str | None) -> None:
    site = nadi.site()
    if system is not None and system not in site.systems:
        err.print(f"[yellow]![/] The site file in force has no system '{escape(system)}' yet.")


def _write_secret(file: Path, token: str) -> None:
    """Write a new file that only its owner may read; an existing one is never overwritten."""
    try:
        write_private(file, f"{token}\n".encode("ascii"))
    except OSError as error:
        fail(f"{file} can't be written: {error.strerror}.")


def _revoked(each: Credential) -> str:
    return f"[red]revoked[/] {moment(each.revoked_ms or 0)}"


def _as_json(each: Credential) -> dict[str, object]:
    return {
        "id": each.id,
        "name": each.name,
        "role": each.role.value,
        "system": each.system,
        "created_at": iso(each.created_ms),
        "revoked_at": None if each.revoked_ms is None else iso(each.revoked_ms),
    }
