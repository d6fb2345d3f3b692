"""How the canary stands: when she was enrolled, when she was last refused, and whether she was not.

One row. While `tripped_ms` is set, nothing is admitted.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.core.canary import CanaryPermitted
from gateway.store.tables import audit_events, canary_state, jobs

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_ROW = 1
_WHY = sa.select(canary_state.c.why).where(canary_state.c.tripped_ms.is_not(None))
_NEWEST = sa.select(sa.func.coalesce(sa.func.max(audit_events.c.seq), 0))
#: Every consent decision about her that permits something.
_PERMITS = (
    sa.select(audit_events.c.seq, jobs.c.route)
    .join(jobs, jobs.c.id == audit_events.c.job_id, isouter=True)
    .where(
        audit_events.c.patient_key == sa.bindparam("patient"),
        audit_events.c.event == "consent",
        audit_events.c.outcome == "0",
        audit_events.c.seq > sa.bindparam("since"),
    )
    .order_by(audit_events.c.seq)
)


@dataclass(frozen=True, kw_only=True)
class CanaryState:
    """How she stands.

    Attributes:
        enrolled_ms: When her Consent was received; None while it was not.
        last_run_ms: When she was last run.
        is_proven: Whether she was refused at that time, at every stage that answered.
        checked_seq: Up to which AuditEvent decisions about her were looked through.
        tripped_ms: When she was permitted; None while she was not, or since it was cleared.
        why: Where she was permitted.
    """

    enrolled_ms: int | None = None
    last_run_ms: int | None = None
    is_proven: bool = False
    checked_seq: int = 0
    tripped_ms: int | None = None
    why: str = ""


class Canaries:
    """Her row within one unit of work."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def state(self) -> CanaryState:
        """Give how she stands."""
        row = self._uow.connection.execute(sa.select(canary_state)).one_or_none()
        if row is None:
            return CanaryState()
        values = {name: getattr(row, name) for name in CanaryState.__dataclass_fields__}
        return CanaryState(**values)

    def insist(self) -> None:
        """Insist that she is refused.

        Raises:
            CanaryPermitted: She was not.
        """
        why = self._uow.connection.scalar(_WHY)
        if why is not None:
            raise CanaryPermitted(
                f"Nothing is admitted: the canary, a built-in patient who refuses everything, was "
                f"permitted. {why} An operator has to mend it, then `nadi canary clear`.",
                retry_after_s=60,
            )

    def is_tripped(self) -> bool:
        """Say whether she was permitted."""
        return self._uow.connection.scalar(_WHY) is not None

    def keep(self, **changed: object) -> None:
        """Keep what is known of her now."""
        insert = sqlite.insert if self._is_sqlite else postgresql.insert
        statement = insert(canary_state).values(id=_ROW, **changed)
        self._uow.connection.execute(
            statement.on_conflict_do_update(index_elements=["id"], set_=changed)
        )

    def newest_seq(self) -> int:
        """Give the number of the newest AuditEvent."""
        found: int = self._uow.connection.execute(_NEWEST).scalar_one()
        return found

    def permits(self, patient_key: str, since: int) -> list[str]:
        """Give the routes for which something was permitted about her since an AuditEvent."""
        values: dict[str, Any] = {"patient": patient_key, "since": since}
        return [row.route or "" for row in self._uow.connection.execute(_PERMITS, values)]

    @property
    def _is_sqlite(self) -> bool:
        return self._uow.connection.dialect.name == "sqlite"
