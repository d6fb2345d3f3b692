"""`nadi prepare`: keys, schema, models, first credentials, the sandbox's site: what is missing.

`nadi up` calls it in a process of its own, so that the supervisor stays small; in containers it is
the one-shot service that runs before all others. Safe to repeat.
"""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import adapters
from adapters.site import load_site
from gateway.cli.access import record_change
from gateway.cli.audit_witnesses import NO_WITNESS
from gateway.cli.context import (
    DataDir,
    Opened,
    err,
    explained,
    login,
    operator,
    out,
    settings_for,
)
from gateway.cli.models_installed import library
from gateway.cli.site import put_in_force
from gateway.core import audit
from gateway.core.model_register import BUILT_IN, ModelConflict, card_of
from gateway.core.principal import Role
from gateway.private_file import replace_private
from gateway.settings import Settings
from gateway.store.engine import migrate
from gateway.store.installation import open_installation
from gateway.store.privileges import grant_service_role
from gateway.store.registering import Actor, register
from gateway.store.unit_of_work import UnitOfWork
from models.registry import InstalledModel, ModelUnusable

#: The system of the site file for which the first `ehr` credential speaks.
FIRST_SYSTEM = "ehr"

app = typer.Typer(pretty_exceptions_show_locals=False)


@app.command()
@explained
def prepare(
    *,
    data_dir: DataDir = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Apply the sandbox's site if there is none.")
    ] = False,
) -> None:
    """Create keys, schema, register and first credentials where they are missing."""
    settings = settings_for(data_dir)
    os.umask(0o077)
    for path in prepare_data(settings, sandbox=sandbox):
        out.print(f"New credential: {path}", soft_wrap=True)


def prepare_data(settings: Settings, *, sandbox: bool) -> list[Path]:
    """Make an installation ready for its processes.

    Returns:
        Files with the tokens of the credentials that were made.

    Raises:
        GatewayError: A key file is unusable or of another installation, or the database is away.
    """
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _prepare_as_owner(settings)
    installation = open_installation(settings)
    try:
        opened = Opened(settings, installation.keys, installation.store)
        register_brought(opened)
        if sandbox:
            _apply_sandbox_site(opened)
        if not opened.site().witnesses:
            err.print(f"[yellow]![/] {NO_WITNESS}", soft_wrap=True)
        return _first_credentials(opened)
    finally:
        installation.store.close()


def _prepare_as_owner(settings: Settings) -> None:
    """Bring the schema up to date as its owner, where that is another than the processes' role."""
    owner = settings.resolved_database_owner_url
    if owner is None:
        return
    migrate(owner)
    role = grant_service_role(owner, settings.resolved_database_url)
    out.print(f"Role '{escape(role)}' may read the audit log and add to it, not change it.")


def register_brought(opened: Opened) -> None:
    """Register the models that came with Nadi and are new; one that was retired stays retired."""
    found, broken = library(opened.settings).brought()
    for each in broken:
        err.print(f"[yellow]![/] Not registered: {escape(each.reason)}", soft_wrap=True)
    with opened.store.read() as uow:
        known = uow.models.standings({model.digest for model in found})
    actor = Actor(opened.source(), operator(), login())
    for model in found:
        if model.digest not in known:
            _register(opened, model, actor)


def _register(opened: Opened, model: InstalledModel, actor: Actor) -> None:
    try:
        model.insist_on_files()
        card = card_of(model.manifest, model.digest, signer=BUILT_IN, signer_key="")
        with opened.store.write() as uow:
            register(uow, card, actor)
    except (ModelUnusable, ModelConflict) as error:
        err.print(f"[yellow]![/] Not registered: {escape(str(error))}", soft_wrap=True)


def _apply_sandbox_site(opened: Opened) -> None:
    with opened.store.read() as uow:
        if uow.sites.version():
            return
    text = _sandbox_site().read_text("utf-8")
    put_in_force(opened, text, load_site(text, source="sandbox.example.yaml").name)


def _sandbox_site() -> Path:
    return Path(adapters.__path__[0]) / "sites" / "sandbox.example.yaml"


def _first_credentials(opened: Opened) -> list[Path]:
    """Make one credential per role when there is none at all."""
    source = opened.source()
    with opened.store.write() as uow:
        if uow.credentials.list():
            return []
        # The files come first: a crash before the commit leaves tokens that mean nothing and are
        # replaced at the next start, never a credential whose token nobody has.
        return [_credential(uow, source, opened.settings.data_dir, role) for role in Role]


def _credential(uow: UnitOfWork, source: audit.Source, data_dir: Path, role: Role) -> Path:
    system = FIRST_SYSTEM if role is Role.EHR else None
    credential_id, token = uow.credentials.add(f"first-{role.value}", role, system)
    record_change(uow, source, credential_id, is_added=True)
    return _write_secret(data_dir / "credentials" / f"{role.value}.token", token)


def _write_secret(path: Path, secret: str) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    replace_private(path, f"{secret}\n".encode("ascii"))
    return path


if __name__ == "__main__":
    app()
