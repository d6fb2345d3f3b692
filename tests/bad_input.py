"""What a careless or hostile caller sends, and what comes back: the table of docs/bad-input.md.

Each case says what it is, how it is sent, and the status and issue code expected. `table()` writes
the table; `tests/integration/test_bad_input.py` sends every case. Those of the other doors are in
modules of their own, and `tests.bad_tables` writes all tables into their pages.
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.factories import bundle, creatinine, patient, raw
from tests.notifications import notification

MARK = "ZZCANARY"
GOOD = raw(creatinine(1))
#: Limits of the gateway under test, small enough to pass them quickly.
LIMITS = {
    "max_body_bytes": 200_000,
    "max_decompressed_bytes": 1_000_000,
    "max_depth": 40,
    "max_entries": 50,
}


@dataclass(frozen=True, kw_only=True)
class BadInput:
    """One case.

    Attributes:
        what: For the table; unique.
        status: HTTP status expected.
        code: FHIR issue code expected; for a Bundle with bad entries, that of the entry.
        role: Whose credential is used; None sends none.
        entry_status: For a Bundle that is accepted, the status of the bad entry.
    """

    what: str
    status: int
    code: str
    body: bytes = GOOD
    method: str = "POST"
    path: str = "/fhir/Observation"
    headers: dict[str, str] = field(default_factory=dict)
    role: str | None = "ehr"
    entry_status: str | None = None


def _observation(extra: bytes) -> bytes:
    return GOOD[:-1] + b"," + extra + b"}"


def _entries(count: int) -> bytes:
    return raw(bundle(*(patient(number) for number in range(count))))


def _bad_bundle(kind: str) -> bytes:
    return raw(bundle(patient(1), {**patient(2), "gender": MARK}, kind=kind))


def _deleting() -> bytes:
    sent = bundle(patient(1), kind="history")
    gone = {
        "request": {"method": "DELETE", "url": "Consent?status=active"},
        "response": {"status": "204"},
    }
    return raw({**sent, "entry": [*sent["entry"], gone]})


def cases() -> Iterator[BadInput]:
    """Give every case."""
    yield from _bodies()
    yield from _encodings()
    yield from _resources()
    yield from _bundles()
    yield from _notifications()
    yield from _headers()
    yield from _identities()
    yield from _addresses()


def _bodies() -> Iterator[BadInput]:
    yield BadInput(what="empty body", body=b"", status=400, code="structure")
    yield BadInput(what="white space only", body=b" \n", status=400, code="structure")
    yield BadInput(
        what="malformed JSON", body=b'{"resourceType":"ZZCANARY', status=400, code="structure"
    )
    yield BadInput(what="two documents in one body", body=GOOD + GOOD, status=400, code="structure")
    yield BadInput(
        what="a JSON array instead of a resource",
        body=b'["ZZCANARY"]',
        status=400,
        code="structure",
    )
    yield BadInput(
        what="the same property twice",
        body=_observation(b'"status":"ZZCANARY"'),
        status=400,
        code="structure",
    )
    yield BadInput(
        what="nested deeper than the limit",
        body=b'{"a":' * 60 + b"1" + b"}" * 60,
        status=413,
        code="too-long",
    )
    yield BadInput(what="nested 100,000 deep", body=b"[" * 100_000, status=413, code="too-long")
    yield BadInput(
        what="larger than the limit",
        body=_observation(b'"note":[{"text":"' + b"ZZCANARY" * 30_000 + b'"}]'),
        status=413,
        code="too-long",
    )
    yield BadInput(
        what="a declared length of 4,301 digits",
        headers={"Content-Length": "9" * 4301},
        status=413,
        code="too-long",
    )


def _encodings() -> Iterator[BadInput]:
    yield BadInput(
        what="invalid UTF-8",
        body=_observation(b'"language":"\xff\xfe"'),
        status=400,
        code="structure",
    )
    yield BadInput(
        what="a lone surrogate",
        body=_observation(rb'"language":"\ud800"'),
        status=400,
        code="structure",
    )
    yield BadInput(
        what="a NUL character",
        body=_observation(rb'"note":[{"text":"ZZCANARY\u0000"}]'),
        status=400,
        code="value",
    )
    packed = {"Content-Encoding": "gzip"}
    yield BadInput(
        what="gzip bomb",
        body=gzip.compress(b" " * 50_000_000),
        headers=packed,
        status=413,
        code="too-long",
    )
    yield BadInput(
        what="gzip cut short",
        body=gzip.compress(GOOD)[:-9],
        headers=packed,
        status=400,
        code="structure",
    )
    yield BadInput(
        what="gzip followed by something else",
        body=gzip.compress(GOOD) + MARK.encode(),
        headers=packed,
        status=400,
        code="structure",
    )
    yield BadInput(what="not the gzip it says", headers=packed, status=400, code="structure")
    yield BadInput(
        what="another content coding",
        body=zlib.compress(GOOD),
        headers={"Content-Encoding": "deflate"},
        status=415,
        code="not-supported",
    )


def _resources() -> Iterator[BadInput]:
    yield BadInput(
        what="unknown element",
        body=_observation(b'"zzcanary":"ZZCANARY"'),
        status=400,
        code="structure",
    )
    yield BadInput(
        what="a code outside of a required value set",
        body=raw(creatinine(1, status=MARK)),
        status=422,
        code="code-invalid",
    )
    yield BadInput(
        what="a required element is missing",
        body=b'{"resourceType":"Observation","status":"final"}',
        status=400,
        code="required",
    )
    yield BadInput(
        what="an empty array", body=_observation(b'"note":[]'), status=400, code="structure"
    )
    yield BadInput(
        what="an id of 65 characters", body=raw(creatinine("x" * 64)), status=422, code="too-long"
    )
    yield BadInput(
        what="an unreadable date",
        body=raw(creatinine(1, effectiveDateTime=f"2026-{MARK}")),
        status=400,
        code="value",
    )
    yield BadInput(what="no resourceType", body=b'{"id":"ZZCANARY"}', status=400, code="required")
    yield BadInput(
        what="another resource type than the address names",
        path="/fhir/Patient",
        status=400,
        code="invalid",
    )
    yield BadInput(
        what="PUT with another id than the address names",
        method="PUT",
        path=f"/fhir/Observation/{MARK}",
        status=400,
        code="invalid",
    )


def _bundles() -> Iterator[BadInput]:
    yield BadInput(
        what="more entries than the limit",
        body=_entries(60),
        path="/fhir",
        status=413,
        code="too-long",
    )
    yield BadInput(
        what="batch with one bad entry",
        body=_bad_bundle("batch"),
        path="/fhir",
        status=200,
        code="code-invalid",
        entry_status="422",
    )
    yield BadInput(
        what="transaction with one bad entry",
        body=_bad_bundle("transaction"),
        path="/fhir",
        status=422,
        code="code-invalid",
    )
    yield BadInput(
        what="history with a conditional DELETE",
        body=_deleting(),
        path="/fhir",
        status=200,
        code="not-supported",
        entry_status="422",
    )
    yield BadInput(
        what="Bundle without a type",
        body=b'{"resourceType":"Bundle"}',
        path="/fhir",
        status=400,
        code="required",
    )


def _notifications() -> Iterator[BadInput]:
    def told(kind: str = "event-notification", **said: object) -> bytes:
        return raw(notification(kind, **said))

    no_number = {"path": "/fhir", "status": 400, "code": "value"}
    of = "notification of a Subscription"
    for what, number in (("none of 64 bits", str(2**63)), ("no number", MARK), ("negative", "-1")):
        events = [(number, None)]
        yield BadInput(
            what=f"{of} whose event number is {what}", body=told(events=events), **no_number
        )
    yield BadInput(
        what=f"{of} whose count of events is no number", body=told(total=MARK), **no_number
    )
    missing = {"path": "/fhir", "status": 400, "code": "required"}
    yield BadInput(what=f"{of} of an unknown type", body=told(MARK), **missing)
    yield BadInput(what=f"{of} without a type", body=told(""), **missing)
    yield BadInput(what=f"{of} that names no Subscription", body=told(subscription=""), **missing)


def _headers() -> Iterator[BadInput]:
    def typed(value: str) -> dict[str, str]:
        return {"Content-Type": value}

    unsupported = {"status": 415, "code": "not-supported"}
    yield BadInput(
        what="FHIR XML",
        body=b'<Observation xmlns="http://hl7.org/fhir"/>',
        headers=typed("application/fhir+xml"),
        **unsupported,
    )
    yield BadInput(what="a form", headers=typed("application/x-www-form-urlencoded"), **unsupported)
    yield BadInput(what="no content type", headers=typed(""), **unsupported)
    yield BadInput(
        what="another charset",
        headers=typed("application/fhir+json; charset=utf-16"),
        **unsupported,
    )
    yield BadInput(
        what="another FHIR version",
        headers=typed("application/fhir+json; fhirVersion=5.0"),
        **unsupported,
    )
    yield BadInput(
        what="the caller reads XML only",
        headers={"Accept": "application/fhir+xml"},
        status=406,
        code="not-supported",
    )
    yield BadInput(
        what="_format asks for XML",
        path="/fhir/Observation?_format=xml",
        status=406,
        code="not-supported",
    )


def _identities() -> Iterator[BadInput]:
    def bearing(value: str) -> dict[str, str]:
        return {"Authorization": value}

    login = {"status": 401, "code": "login"}
    yield BadInput(what="no credential", role=None, **login)
    yield BadInput(
        what="a scheme other than Bearer", role=None, headers=bearing("Basic ZZCANARY"), **login
    )
    yield BadInput(
        what="a token of somebody else", role=None, headers=bearing("Bearer ZZCANARY"), **login
    )
    forged = f"Bearer nadi_{'0' * 36}_{'a' * 43}"
    yield BadInput(what="a forged token", role=None, headers=bearing(forged), **login)
    yield BadInput(what="a revoked credential", role="revoked", **login)
    yield BadInput(what="a role that may not push", role="compliance", status=403, code="forbidden")
    yield BadInput(
        what="a credential without a system", role="nobody", status=403, code="forbidden"
    )
    yield BadInput(
        what="reading the audit log as an EHR",
        method="GET",
        path="/fhir/AuditEvent",
        status=403,
        code="forbidden",
    )


def _addresses() -> Iterator[BadInput]:
    yield BadInput(
        what="an unknown resource type", path=f"/fhir/{MARK}", status=404, code="not-found"
    )
    yield BadInput(
        what="an unknown address", method="GET", path=f"/{MARK}", status=404, code="not-found"
    )
    yield BadInput(
        what="an unknown Task",
        method="GET",
        path=f"/fhir/Task/{MARK}",
        status=404,
        code="not-found",
    )
    yield BadInput(
        what="a method that is not offered",
        method="PATCH",
        path="/fhir/Observation/1",
        status=405,
        code="not-supported",
    )
    yield BadInput(
        what="_count is no number",
        method="GET",
        path="/fhir/Task?_count=ZZCANARY",
        status=400,
        code="invalid",
    )
    yield BadInput(
        what="_count of 5,000 digits",
        method="GET",
        path="/fhir/Task?_count=" + "9" * 5000,
        status=400,
        code="invalid",
    )
    yield BadInput(
        what="a page that no link gave",
        method="GET",
        path="/fhir/Task?before=%00",
        status=400,
        code="invalid",
    )


def table() -> str:
    """Write the table of docs/bad-input.md."""
    lines = ["| sent | answer | issue |", "|---|---|---|"]
    for case in cases():
        status = (
            f"{case.status}; the entry {case.entry_status}" if case.entry_status else case.status
        )
        lines.append(f"| {case.what} | {status} | `{case.code}` |")
    return "\n".join(lines) + "\n"
