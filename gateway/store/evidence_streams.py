"""The evidence about events and jobs, streamed in the order of the rows it is compared with.

The database sorts, with files of its own where memory is short; here one job's claims at a time
are held, so that a log of any length is verified in the same memory.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa

from gateway.core.audit import read_record
from gateway.core.audit_event import AuditEventMalformed
from gateway.store.evidence import Claim, JobEvidence, is_of_job, is_reception, read_claim
from gateway.store.packing import unpacked
from gateway.store.verification_report import Kind, Verification, rows

L = TypeVar("L")
R = TypeVar("R")


def receptions(connection: sa.Connection, report: Verification) -> Iterator[tuple[str, Claim]]:
    """Give each accepted event's id with its reception, by id.

    A version may come again and be in force again: its row is from the first time.
    """
    query = _query(connection, "event_id", "event = 'receive' and outcome = '0'")
    for name, group in _grouped(connection, query):
        claims = _claims(group, report)
        claim = next((claim for claim in claims if is_reception(claim.record)), None)
        if claim is not None:
            yield name, claim


def job_evidence(
    connection: sa.Connection, report: Verification
) -> Iterator[tuple[str, JobEvidence]]:
    """Give each job's id with everything on record about it, by id."""
    for name, group in _grouped(connection, _query(connection, "job_id", "true")):
        claims = (claim for claim in _claims(group, report) if is_of_job(claim.record))
        first = next(claims, None)
        if first is None:
            continue
        evidence = JobEvidence(first, first)
        for claim in itertools.chain((first,), claims):
            evidence.add(claim)
        yield name, evidence


def ordered(
    connection: sa.Connection, table: str, key: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give the rows of a table by a column of texts, in the order of `paired`."""
    query = f"select * from {table} order by {_in_order(connection, key)}"  # noqa: S608 - our own names
    for row in rows(connection, query):
        yield str(row[key]), row


def paired(
    left: Iterator[tuple[str, L]], right: Iterator[tuple[str, R]]
) -> Iterator[tuple[str, L | None, R | None]]:
    """Bring together what has the same key; both sides come ordered by it, each key once."""
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None  # noqa: S101 - one of both is there
            yield one[0], one[1], None
            one = next(left, None)
        elif one is None or other[0] < one[0]:
            yield other[0], None, other[1]
            other = next(right, None)
        else:
            yield one[0], one[1], other[1]
            one, other = next(left, None), next(right, None)


def _query(connection: sa.Connection, key: str, criterion: str) -> str:
    # Our own names; sorted by bytes, as Python compares.
    return (
        f"select seq, {key} as name, body from audit_events "  # noqa: S608
        f"where {key} is not null and {criterion} order by {_in_order(connection, key)}, seq"
    )


def _in_order(connection: sa.Connection, key: str) -> str:
    return key if connection.dialect.name == "sqlite" else f'{key} collate "C"'


def _grouped(
    connection: sa.Connection, query: str
) -> Iterator[tuple[str, Iterator[Mapping[str, Any]]]]:
    return itertools.groupby(rows(connection, query), key=lambda row: str(row["name"]))


def _claims(group: Iterator[Mapping[str, Any]], report: Verification) -> Iterator[Claim]:
    """Take the AuditEvents of one key apart; one that can't be read was reported before."""
    for row in group:
        try:
            yield read_claim(row["seq"], read_record(unpacked(row["body"])))
        except AuditEventMalformed:
            continue
        except (KeyError, TypeError, AttributeError):
            what = "its body is no AuditEvent of ours"
            report.found("audit_events", row["seq"], what, row["seq"], kind=Kind.CHANGED)
