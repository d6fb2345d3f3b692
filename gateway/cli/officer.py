"""Who reads the audit log, answers patients and records their consents at this machine: an officer.

The database and the keys are open to whoever runs Nadi, so no command can keep them from reading
or writing with tools of their own. What it does: through Nadi it takes a credential of the role,
and what is recorded names that person and not a shared login.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from gateway.cli.context import Opened, acting, fail, login, opened, operator
from gateway.core import audit
from gateway.core.audit import AgentKind, AuditAgent
from gateway.core.clock import new_id
from gateway.core.principal import PERMISSIONS, Permission, Principal, Role
from gateway.store.credentials import split_token
from gateway.store.registering import Actor

#: How a credential is named on the command line of a site whose officer keeps it elsewhere.
VARIABLE = "NADI_CREDENTIAL_FILE"


@contextmanager
def opened_by_officer(
    data_dir: Path | None, permission: Permission = Permission.READ_AUDIT
) -> Iterator[Opened]:
    """Open the installation for somebody whose credential permits this; else it ends here.

    The credential is the token in the file `NADI_CREDENTIAL_FILE`, or the first one of role
    compliance while it still lies in the data folder.

    Raises:
        GatewayError: Database or keys can't be used.
    """
    with opened(data_dir) as nadi:
        who = _officer(nadi, permission)
        name = f"{who.name} (as {login()} on this machine)"
        with acting(AuditAgent(who.id, name, AgentKind.USER, role=who.role.value)):
            yield nadi


@contextmanager
def opened_for_rights(data_dir: Path | None) -> Iterator[Opened]:
    """Open the installation for who answers patients: erases, holds, rectifies, keeps the register.

    Raises:
        GatewayError: Database or keys can't be used.
    """
    with opened_by_officer(data_dir, Permission.ANSWER_RIGHTS) as nadi:
        yield nadi


@contextmanager
def opened_for_consents(data_dir: Path | None) -> Iterator[tuple[Opened, Actor]]:
    """Open the installation for who records, imports and takes back consents; give who that is.

    Raises:
        GatewayError: Database or keys can't be used.
    """
    with opened_by_officer(data_dir, Permission.RECORD_CONSENT) as nadi:
        yield nadi, Actor(nadi.source(), operator(), operator().identifier)


def _officer(nadi: Opened, permission: Permission) -> Principal:
    role = _role_for(permission)
    kept = nadi.settings.data_dir / "credentials" / f"{role}.token"
    file = nadi.settings.credential_file or kept
    parts = split_token(_token(file, permission))
    with nadi.store.read() as uow:
        credential = uow.credentials.find(parts[0]) if parts else None
    if credential is None or parts is None or not credential.accepts(parts[1]):
        with nadi.store.write() as uow:
            step = _step(nadi, uow.now, "unknown token")
            client = AuditAgent("unknown", login(), AgentKind.CLIENT)
            uow.audit(audit.sign_in_failed(step, client=client))
        fail(f"The token in {file} is not, or no longer, valid here.")
    who = credential.principal()
    if not who.may(permission):
        with nadi.store.write() as uow:
            client = AuditAgent(who.id, who.name, AgentKind.CLIENT, role=who.role.value)
            step = _step(nadi, uow.now, "")
            uow.audit(audit.forbidden(step, client=client, permission=permission.value))
        fail(f"The credential in {file} is of role {who.role}; this takes role {role}.")
    return who


def _role_for(permission: Permission) -> Role:
    return next(role for role, may in PERMISSIONS.items() if permission in may)


def _token(file: Path, permission: Permission) -> str:
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        fail(
            f"This needs a credential of role {_role_for(permission)} ({permission.value}), and "
            f"{file} can't be read ({type(error).__name__}). Name the file of your token by "
            f"{VARIABLE}; `nadi access add NAME --role {_role_for(permission)}` makes one."
        )


def _step(nadi: Opened, now: datetime, reason: str) -> audit.Step:
    return audit.Step(id=new_id(), recorded=now, source=nadi.source(), reason=reason)
