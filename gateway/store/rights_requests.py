"""The requests of patients: what they asked for, until when, and how they were answered."""

from typing import TYPE_CHECKING

import sqlalchemy as sa

from gateway.core.errors import InvalidTransition, NotFound
from gateway.core.rights import RequestKind, RightsRequest
from gateway.store.rights_tables import rights_requests

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork


class RightsRequests:
    """The requests within one unit of work."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def add(self, request: RightsRequest) -> None:
        """Keep a request."""
        self._uow.connection.execute(sa.insert(rights_requests), vars(request))

    def open_of(self, patient_key: str, kind: RequestKind) -> list[RightsRequest]:
        """Give a patient's requests of one kind that are not answered yet."""
        columns = rights_requests.c
        query = sa.select(rights_requests).where(
            columns.patient_key == patient_key,
            columns.kind == kind.value,
            columns.closed_ms.is_(None),
        )
        return [_request(row) for row in self._uow.connection.execute(query)]

    def list(self, *, only_open: bool = False) -> list[RightsRequest]:
        """Give the requests, the one that is due first before the others."""
        query = sa.select(rights_requests).order_by(rights_requests.c.due_ms)
        if only_open:
            query = query.where(rights_requests.c.closed_ms.is_(None))
        return [_request(row) for row in self._uow.connection.execute(query)]

    def close(self, request_id: str, by: str, outcome: str) -> RightsRequest:
        """Close a request with its outcome; give it as it was.

        Raises:
            NotFound: There is no such request.
            InvalidTransition: It is closed.
        """
        mine = rights_requests.c.id == request_id
        row = self._uow.connection.execute(sa.select(rights_requests).where(mine)).one_or_none()
        if row is None:
            raise NotFound("No request has this id; `nadi rights list` shows them.")
        if row.closed_ms is not None:
            raise InvalidTransition("This request is closed already.")
        values = {"closed_ms": self._uow.now_ms, "closed_by": by, "outcome": outcome}
        self._uow.connection.execute(sa.update(rights_requests).where(mine).values(values))
        return _request(row)


def _request(row: sa.Row[tuple[object, ...]]) -> RightsRequest:
    values = {**row._mapping}  # noqa: SLF001 - its public name
    return RightsRequest(**{**values, "kind": RequestKind(values["kind"])})
