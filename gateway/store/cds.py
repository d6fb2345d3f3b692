"""What became of cards, and the tokens of CDS clients that were used once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.core.cds.feedback import Feedback
from gateway.core.clock import to_ms
from gateway.core.jobs import Job
from gateway.store.cds_tables import cds_feedback, token_uses
from gateway.store.sealing import Place

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_COLUMNS = cds_feedback.c
# Statements are built once: putting one together costs more than to execute it.
_OVER = sa.delete(token_uses).where(token_uses.c.until_ms < sa.bindparam("now"))


def _adding(table: sa.Table) -> Mapping[str, sa.Insert]:
    """Give by database what adds a row unless it is there, and then gives its id.

    A count of rows is not given everywhere.
    """
    return {
        "sqlite": sqlite.insert(table).on_conflict_do_nothing().returning(table.c.id),
        "postgresql": postgresql.insert(table).on_conflict_do_nothing().returning(table.c.id),
    }


_USE, _ADD = _adding(token_uses), _adding(cds_feedback)


@dataclass(frozen=True)
class TokenUse:
    """That a token was used.

    Attributes:
        id: Keyed hash of its issuer and its `jti`.
        until_ms: When it expires; it need not be remembered any longer.
    """

    id: str
    until_ms: int


@dataclass(frozen=True, kw_only=True)
class KeptFeedback:
    """What became of one card; what was said beside stays sealed."""

    id: str
    job_id: str
    route: str
    client: str
    outcome: str
    reason: str
    patient_key: str | None
    said: bytes
    outcome_ms: int
    received_ms: int


class Cds:
    """Feedback and used tokens, within one unit of work."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def use(self, tokens: Sequence[TokenUse]) -> list[bool]:
        """Note that tokens are used; say of each whether it is for the first time."""
        self._uow.connection.execute(_OVER, {"now": self._uow.now_ms})
        return [self._is_added(_USE, {"id": each.id, "until_ms": each.until_ms}) for each in tokens]

    def add(self, client: str, feedback: Sequence[tuple[Feedback, Job]]) -> list[bool]:
        """Keep what became of cards; say of each whether it is new.

        Args:
            client: Who said it.
            feedback: With the job that each card is of.
        """
        self._uow.patient_keys.load([job.patient_key for _, job in feedback], create=True)
        rows = [self._row(client, each, job) for each, job in feedback]
        return [self._is_added(_ADD, row) for row in rows]

    def listed(self, *, route: str | None = None, limit: int = 100) -> list[KeptFeedback]:
        """Give the newest feedback, newest first."""
        query = sa.select(cds_feedback).order_by(_COLUMNS.received_ms.desc(), _COLUMNS.id)
        if route is not None:
            query = query.where(_COLUMNS.route == route)
        rows = self._uow.connection.execute(query.limit(limit))
        return [KeptFeedback(**row._asdict()) for row in rows]

    def of_patient(self, patient_key: str) -> list[KeptFeedback]:
        """Give what was said about results of a patient, oldest first."""
        mine = sa.select(cds_feedback).where(_COLUMNS.patient_key == patient_key)
        rows = self._uow.connection.execute(mine.order_by(_COLUMNS.received_ms, _COLUMNS.id))
        return [KeptFeedback(**row._asdict()) for row in rows]

    def said(self, kept: KeptFeedback) -> bytes:
        """Open what was said beside; empty when nothing was.

        Raises:
            Unsealable: The row was changed, or its patient was erased.
        """
        place = Place("cds_feedback", "said", kept.id)
        return self._uow.patient_keys.unseal(kept.patient_key, place, kept.said)

    def forget_results(self, job_ids: Collection[str]) -> int:
        """Remove what was said about results that are removed; give how much."""
        gone = sa.delete(cds_feedback).where(_COLUMNS.job_id.in_(job_ids))
        return self._uow.connection.execute(gone).rowcount

    def forget(self, patient_key: str) -> int:
        """Remove what was said about results of a patient; give how much."""
        gone = sa.delete(cds_feedback).where(_COLUMNS.patient_key == patient_key)
        return self._uow.connection.execute(gone).rowcount

    def _row(self, client: str, feedback: Feedback, job: Job) -> dict[str, object]:
        at_ms = to_ms(feedback.at)
        parts = (feedback.card, feedback.outcome, str(at_ms), feedback.said.hex())
        name = self._uow.sealer.keyed_hash("cds-feedback", client, *parts)
        place = Place("cds_feedback", "said", name)
        return {
            "id": name,
            "job_id": job.id,
            "route": job.route,
            "client": client,
            "outcome": feedback.outcome,
            "reason": feedback.reason,
            "patient_key": job.patient_key,
            "said": self._uow.patient_keys.seal(job.patient_key, place, feedback.said),
            "outcome_ms": at_ms,
            "received_ms": self._uow.now_ms,
        }

    def _is_added(self, adding: Mapping[str, sa.Insert], row: dict[str, object]) -> bool:
        """Add a row unless it is there; say whether it was added."""
        connection = self._uow.connection
        return connection.execute(adding[connection.dialect.name], row).first() is not None
