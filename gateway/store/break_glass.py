"""Uses of break-glass: who, when, for which job, why, and what a second person said of it.

Why it was done and what the reviewer remarks are sealed under the patient's key. A use is reviewed
once; a review is never changed.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gateway.core.principal import Principal
from gateway.store.sealing import Place
from gateway.store.tables import break_glass_uses as uses

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork


class ReviewVerdict(StrEnum):
    """What the second person found."""

    JUSTIFIED = "justified"
    NOT_JUSTIFIED = "not-justified"


@dataclass(frozen=True, kw_only=True)
class Use:
    """One use of break-glass.

    Attributes:
        due_ms: By when it has to be reviewed.
        reviewed_ms: None while it waits.
    """

    id: str
    job_id: str
    patient_key: str
    route: str
    clinician_id: str
    clinician: str
    used_ms: int
    due_ms: int
    reviewed_ms: int | None = None
    reviewer_id: str | None = None
    reviewer: str | None = None
    verdict: ReviewVerdict | None = None

    def is_overdue(self, now_ms: int) -> bool:
        """Say whether its review should have been done."""
        return self.reviewed_ms is None and self.due_ms < now_ms


_COLUMNS = [uses.c[name] for name in Use.__dataclass_fields__]
_REVIEW = (
    sa.update(uses)
    .where(uses.c.id == sa.bindparam("use"), uses.c.reviewed_ms.is_(None))
    .values(
        reviewed_ms=sa.bindparam("at"),
        reviewer_id=sa.bindparam("by"),
        reviewer=sa.bindparam("name"),
        verdict=sa.bindparam("found"),
        comment=sa.bindparam("remark"),
    )
)


class BreakGlass:
    """The uses within one unit of work."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def add(self, use: Use, reason: str) -> None:
        """Keep a use with its reason."""
        self._uow.patient_keys.load([use.patient_key], create=True)
        place = Place("break_glass_uses", "reason", use.id)
        sealed = self._uow.patient_keys.seal(use.patient_key, place, reason.encode())
        values = {name: getattr(use, name) for name in Use.__dataclass_fields__}
        self._uow.connection.execute(sa.insert(uses), {**values, "reason": sealed})

    def get(self, use_id: str) -> Use | None:
        """Give one use, None when there is none."""
        found = self._all(sa.select(*_COLUMNS).where(uses.c.id == use_id))
        return found[0] if found else None

    def listed(self, *, only_open: bool = False, limit: int = 100) -> list[Use]:
        """Give the newest uses, newest first."""
        query = sa.select(*_COLUMNS).order_by(uses.c.id.desc()).limit(limit)
        return self._all(query.where(uses.c.reviewed_ms.is_(None)) if only_open else query)

    def of_patient(self, patient_key: str) -> list[Use]:
        """Give every use on the data of a patient, oldest first."""
        mine = uses.c.patient_key == patient_key
        return self._all(sa.select(*_COLUMNS).where(mine).order_by(uses.c.id))

    def reason(self, use: Use) -> str:
        """Open why the glass was broken.

        Raises:
            Unsealable: The row was changed, or the patient's key is gone.
        """
        return self._open(use, "reason") or ""

    def comment(self, use: Use) -> str | None:
        """Open what the reviewer remarked; None while it was not reviewed.

        Raises:
            Unsealable: The row was changed, or the patient's key is gone.
        """
        return self._open(use, "comment")

    def review(self, use: Use, reviewer: Principal, verdict: ReviewVerdict, comment: str) -> bool:
        """Close a use; say whether it was still open."""
        self._uow.patient_keys.load([use.patient_key])
        place = Place("break_glass_uses", "comment", use.id)
        values = {
            "use": use.id,
            "at": self._uow.now_ms,
            "by": reviewer.id,
            "name": reviewer.name,
            "found": verdict.value,
            "remark": self._uow.patient_keys.seal(use.patient_key, place, comment.encode()),
        }
        return self._uow.connection.execute(_REVIEW, values).rowcount == 1

    def _open(self, use: Use, column: str) -> str | None:
        query = sa.select(uses.c[column]).where(uses.c.id == use.id)
        sealed = self._uow.connection.scalar(query)
        if sealed is None:
            return None
        self._uow.patient_keys.load([use.patient_key])
        place = Place("break_glass_uses", column, use.id)
        return self._uow.patient_keys.unseal(use.patient_key, place, sealed).decode()

    def _all(self, query: sa.Select[Any]) -> list[Use]:
        return [_use(row) for row in self._uow.connection.execute(query)]


def _use(row: Any) -> Use:  # noqa: ANN401 - a row of SQLAlchemy's
    values = {**row._mapping}  # noqa: SLF001 - its public name
    values["verdict"] = ReviewVerdict(row.verdict) if row.verdict else None
    return Use(**values)
