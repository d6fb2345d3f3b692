"""Bearer credentials, kept as hashes.

A token is `nadi_<credential id>_<secret>`; the secret has 256 random bits, so that one SHA-256 of
it is as good as a slow hash, and a request costs microseconds.
"""

import hmac
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import sqlalchemy as sa

from gateway.core.clock import new_id
from gateway.core.errors import NotFound
from gateway.core.principal import Principal, Role
from gateway.store.tables import credentials

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

#: Longest time, in seconds, for which a revoked credential may still be accepted.
REMEMBERED_S = 2.0

_TOKEN = re.compile(r"nadi_([0-9a-f-]{36})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Credential:
    """One row; the secret itself is never kept."""

    id: str
    name: str
    role: Role
    system: str | None
    secret_sha256: str
    created_ms: int
    revoked_ms: int | None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what may never change of it, for the audit log."""
        kept = (self.id, self.name, self.role.value, self.system or "", self.secret_sha256)
        return sha256("\n".join(kept).encode()).hexdigest()

    def principal(self) -> Principal:
        """Give whom the credential speaks for."""
        return Principal(self.id, self.name, self.role, self.system)

    def accepts(self, secret: str) -> bool:
        """Compare a presented secret in constant time."""
        presented = sha256(secret.encode()).hexdigest()
        return self.revoked_ms is None and hmac.compare_digest(presented, self.secret_sha256)


def split_token(token: str) -> tuple[str, str] | None:
    """Take a token apart into credential id and secret; None when it is none of ours."""
    found = _TOKEN.fullmatch(token)
    return (found.group(1), found.group(2)) if found else None


def own_credential(name: str, system: str) -> tuple[Credential, str]:
    """Make a credential that is kept nowhere, for what a process itself pushes, and its token."""
    secret = secrets.token_urlsafe(32)
    made = Credential(
        id=new_id(),
        name=name,
        role=Role.EHR,
        system=system,
        secret_sha256=sha256(secret.encode()).hexdigest(),
        created_ms=0,
        revoked_ms=None,
    )
    return made, f"nadi_{made.id}_{secret}"


class Credentials:
    """The credentials of a site."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def add(self, name: str, role: Role, system: str | None = None) -> tuple[str, str]:
        """Make a credential.

        Returns:
            Its id, and the token, which can't be had again.
        """
        credential_id, secret = new_id(), secrets.token_urlsafe(32)
        row = Credential(
            credential_id,
            name,
            role,
            system,
            sha256(secret.encode()).hexdigest(),
            self._uow.now_ms,
            None,
        )
        self._uow.connection.execute(sa.insert(credentials), vars(row))
        return credential_id, f"nadi_{credential_id}_{secret}"

    def list(self) -> list[Credential]:
        """Give every credential, revoked ones too, oldest first."""
        rows = self._uow.connection.execute(sa.select(credentials).order_by(credentials.c.id))
        return [_credential(row) for row in rows]

    def find(self, credential_id: str) -> Credential | None:
        """Give one credential, None when there is none."""
        query = sa.select(credentials).where(credentials.c.id == credential_id)
        row = self._uow.connection.execute(query).one_or_none()
        return _credential(row) if row else None

    def revoke(self, credential_id: str) -> None:
        """Make a credential useless from now on.

        Raises:
            NotFound: There is none with this id, or it is revoked already.
        """
        changed = self._uow.connection.execute(
            sa.update(credentials)
            .where(credentials.c.id == credential_id, credentials.c.revoked_ms.is_(None))
            .values(revoked_ms=self._uow.now_ms)
        )
        if changed.rowcount == 0:
            raise NotFound("No credential in force has this id.")


def _credential(row: sa.Row[tuple[object, ...]]) -> Credential:
    values = row._asdict()
    return Credential(**{**values, "role": Role(values["role"])})
