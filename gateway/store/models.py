"""The register of models: one row per digest, added once, retired at most once.

The caller writes the AuditRecord of a change in the same unit of work (`gateway.store.registering`
does both). What the processes ask with every batch is one small query.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from datetime import date
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa

from gateway.core.model_register import Card, ModelState, RegisteredModel, Standing, standing
from gateway.store.tables import models

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_CARD = tuple(field.name for field in fields(Card))
_DAYS = ("not_before", "not_after")
_BRIEF = (models.c.digest, models.c.state, models.c.not_before, models.c.not_after, models.c.reason)
_STANDINGS = sa.select(*_BRIEF).where(models.c.digest.in_(sa.bindparam("digests", expanding=True)))
_ACTIVE = sa.select(
    models.c.name, models.c.version, models.c.digest, models.c.not_before, models.c.not_after
).where(models.c.state == ModelState.ACTIVE)
_RETIRED = sa.select(models.c.digest).where(models.c.state == ModelState.RETIRED)
_RETIRE = (
    sa.update(models)
    .where(models.c.digest == sa.bindparam("of"), models.c.state == ModelState.ACTIVE)
    .values(
        state=ModelState.RETIRED,
        retired_ms=sa.bindparam("now"),
        retired_by=sa.bindparam("by"),
        reason=sa.bindparam("why"),
    )
)


@dataclass(frozen=True)
class Found:
    """Whether a digest may run, and why it was retired if it was."""

    standing: Standing
    reason: str


class Models:
    """The lines of the register."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow
        self._today = uow.now.date()

    def add(self, card: Card, by: str) -> RegisteredModel:
        """Add a model that is not there yet; the caller has verified it.

        Raises:
            IntegrityError: The digest is there, or an active model of this name and version.
        """
        line = RegisteredModel(
            card=card,
            state=ModelState.ACTIVE,
            registered_ms=self._uow.now_ms,
            registered_by=by,
        )
        self._uow.connection.execute(sa.insert(models), _row(line))
        return line

    def retire(self, digest: str, by: str, reason: str) -> bool:
        """Retire a model; give whether it was active."""
        values = {"of": digest, "now": self._uow.now_ms, "by": by, "why": reason}
        return self._uow.connection.execute(_RETIRE, values).rowcount == 1

    def get(self, digest: str) -> RegisteredModel | None:
        """Give the line of a digest, None when it was never registered."""
        query = sa.select(models).where(models.c.digest == digest)
        row = self._uow.connection.execute(query).one_or_none()
        return read_line(row._asdict()) if row else None

    def find(self, name: str, version: str) -> RegisteredModel | None:
        """Give the active model of a name and version."""
        query = sa.select(models).where(
            models.c.name == name,
            models.c.version == version,
            models.c.state == ModelState.ACTIVE,
        )
        row = self._uow.connection.execute(query).one_or_none()
        return read_line(row._asdict()) if row else None

    def lines(self) -> list[RegisteredModel]:
        """Give every line, by name, the oldest registration first."""
        query = sa.select(models).order_by(models.c.name, models.c.registered_ms, models.c.digest)
        return [read_line(row._asdict()) for row in self._uow.connection.execute(query)]

    def in_service(self) -> list[tuple[str, str, str]]:
        """Give name, version and digest of every model that may run today."""
        return [
            (row.name, row.version, row.digest)
            for row in self._uow.connection.execute(_ACTIVE)
            if _standing(ModelState.ACTIVE, row, self._today) is Standing.ACTIVE
        ]

    def retired(self) -> frozenset[str]:
        """Give the digest of every model that was retired."""
        return frozenset(self._uow.connection.execute(_RETIRED).scalars())

    def standings(self, digests: Collection[str]) -> dict[str, Found]:
        """Say of digests whether they may run today; one that is not registered is absent."""
        rows = self._uow.connection.execute(_STANDINGS, {"digests": list(digests)})
        return {
            row.digest: Found(_standing(row.state, row, self._today), row.reason) for row in rows
        }


def read_line(row: dict[str, Any]) -> RegisteredModel:
    """Read a line of the register out of the columns of its row.

    Raises:
        ValueError: They hold something that was never written there.
        KeyError: Likewise.
    """
    days = {name: _day(row[name]) for name in _DAYS}
    contraindications = tuple(orjson.loads(row["contraindications"]))
    card = {name: row[name] for name in _CARD}
    # Where the driver has no booleans it gives 0 and 1; anything else was never written there.
    is_demonstration = {0: False, 1: True}[row["demonstration_only"]]
    rest = {name: value for name, value in row.items() if name not in _CARD and name != "state"}
    return RegisteredModel(
        card=Card(
            **{
                **card,
                **days,
                "contraindications": contraindications,
                "demonstration_only": is_demonstration,
            }
        ),
        state=ModelState(row["state"]),
        **rest,
    )


def _row(line: RegisteredModel) -> dict[str, object]:
    card = asdict(line.card)
    days = {name: card[name].isoformat() if card[name] else None for name in _DAYS}
    contraindications = orjson.dumps(card["contraindications"]).decode()
    rest = {name: value for name, value in vars(line).items() if name != "card"}
    return {**card, **days, "contraindications": contraindications, **rest}


def _standing(state: str, row: Any, day: date) -> Standing:  # noqa: ANN401 - a row of some query
    return standing(state, _day(row.not_before), _day(row.not_after), day)


def _day(written: str | None) -> date | None:
    return None if written is None else date.fromisoformat(written)
