"""CDS Hooks calls that are none, and what they are answered: a table of docs/cds-hooks.md."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.cds import SERVICE, Json, chart, request, token

MARK = "ZZCANARY"
PATH = f"/cds-services/{SERVICE}"
_SIGN = "/cds-services/ckd-risk-order-sign"
_FEEDBACK = f"{PATH}/feedback"
_CARD = "01a216b9-a192-74b3-b690-000000000000"


@dataclass(frozen=True, kw_only=True)
class BadCall:
    """One case.

    Attributes:
        what: For the table; unique.
        code: FHIR issue code expected.
        place: Where it says that something is wrong; empty for nowhere in particular.
        role: Whose token of Nadi's own is used; empty: a signed one.
        claims: Of the signed token, where they are not as they should be; None: no token.
    """

    what: str
    status: int
    code: str
    place: str = ""
    body: bytes = b"{}"
    path: str = PATH
    headers: Mapping[str, str] = field(default_factory=dict)
    role: str = ""
    claims: Mapping[str, Any] | None = field(default_factory=dict)

    def sent(self, own: Mapping[str, str]) -> dict[str, str]:
        """Give the headers; `own` are the tokens of Nadi's own by role."""
        told = {"Content-Type": "application/json"}
        if self.role:
            told["Authorization"] = f"Bearer {own[self.role]}"
        elif self.claims is not None:
            told["Authorization"] = f"Bearer {token(self.path, **self.claims)}"
        return told | self.headers


def cases() -> Iterator[BadCall]:
    """Give every case."""
    yield from _shapes()
    yield from _hooks()
    yield from _contexts()
    yield from _servers()
    yield from _prefetches()
    yield from _callers()
    yield from _feedback()


def _shapes() -> Iterator[BadCall]:
    wrong = {"status": 400, "code": "structure"}
    yield BadCall(what="no JSON", body=b"{", **wrong)
    yield BadCall(what="no object", body=b"[]", **wrong)
    yield BadCall(what="a property twice", body=b'{"hook": 1, "hook": 2}', **wrong)
    much = {"status": 413, "code": "too-long"}
    yield BadCall(what="nested deeper than `NADI_MAX_DEPTH`", body=b"[" * 50 + b"]" * 50, **much)
    length = {"Content-Length": "99999999999"}
    yield BadCall(what="larger than `NADI_MAX_BODY_BYTES`", headers=length, **much)
    for what, kind in (
        ("XML", "application/xml"),
        ("a form", "application/x-www-form-urlencoded"),
        ("another charset", "application/json; charset=utf-16"),
    ):
        typed = {"Content-Type": kind}
        yield BadCall(what=what, headers=typed, status=415, code="not-supported")


def _called(**changed: Any) -> bytes:
    return orjson.dumps({**request(), **changed})


def _hooks() -> Iterator[BadCall]:
    wrong = {"status": 400, "code": "value", "place": "hook"}
    yield BadCall(what="another hook than the service's", body=_called(hook="order-sign"), **wrong)
    yield BadCall(what="an unknown hook", body=_called(hook=MARK), **wrong)
    wrong = {"status": 400, "code": "required", "place": "hookInstance"}
    yield BadCall(what="a hookInstance that is no UUID", body=_called(hookInstance=MARK), **wrong)


def _contexts() -> Iterator[BadCall]:
    user = {"userId": "Practitioner/dr1"}
    required = {"status": 400, "code": "required"}
    yield BadCall(what="no context", body=_called(context=None), place="context", **required)
    for what, context, place in (
        ("no user", {"patientId": "p1"}, "context.userId"),
        ("no patient", user, "context.patientId"),
        ("a patient that is no id", {**user, "patientId": 7}, "context.patientId"),
    ):
        yield BadCall(what=what, body=_called(context=context), place=place, **required)
    signed = request(hook="order-sign")
    yield BadCall(
        what="no draft orders",
        path=_SIGN,
        body=orjson.dumps(signed),
        place="context.draftOrders",
        **required,
    )


def _servers() -> Iterator[BadCall]:
    held: Json = {
        "access_token": MARK,
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "user/*.read",
        "subject": "nadi",
    }
    yield BadCall(
        what="`fhirAuthorization` without `fhirServer`",
        body=_called(fhirAuthorization=held),
        status=400,
        code="required",
        place="fhirServer",
    )
    yield BadCall(
        what="`fhirAuthorization` without its token",
        body=_called(
            fhirServer="http://ehr.test/fhir", fhirAuthorization={**held, "access_token": None}
        ),
        status=400,
        code="required",
        place="fhirAuthorization.access_token",
    )
    yield BadCall(
        what="another `fhirServer` than the `base_url` of the site file",
        body=_called(fhirServer="https://evil.test/fhir"),
        status=400,
        code="value",
        place="fhirServer",
    )


def _prefetches() -> Iterator[BadCall]:
    yield BadCall(
        what="prefetch that is no object",
        body=_called(prefetch=[]),
        status=400,
        code="structure",
        place="prefetch",
    )
    yield BadCall(
        what="prefetch that is no resource",
        body=_called(prefetch={"patient": 7}),
        status=400,
        code="structure",
        place="prefetch.patient",
    )
    yield BadCall(
        what="a resource of another patient",
        body=_called(prefetch={**chart(1), "creatinine": chart(2)["creatinine"]}),
        status=422,
        code="business-rule",
        place="prefetch",
    )


def _callers() -> Iterator[BadCall]:
    now = int(time.time())
    login = {"status": 401, "code": "login"}
    yield BadCall(what="no token", claims=None, **login)
    forged = {"Authorization": f"Bearer {MARK}.{MARK}.{MARK}"}
    yield BadCall(what="a forged token", headers=forged, **login)
    for what, claims in (
        ("an expired token", {"iat": now - 200, "exp": now - 100}),
        ("a token that is good for too long", {"exp": now + 90_000}),
        ("a token for another address", {"aud": "https://nadi.test/cds-services"}),
        ("a token of an unknown issuer", {"iss": f"https://{MARK}.test"}),
        ("a token without `jti`", {"jti": None}),
    ):
        yield BadCall(what=what, claims=claims, **login)
    forbidden = {"status": 403, "code": "forbidden"}
    yield BadCall(what="a role that may not push", role="clinician", **forbidden)
    yield BadCall(what="a credential without a system", role="nobody", **forbidden)
    yield BadCall(
        what="a service that is not there",
        path=f"/cds-services/{MARK}",
        body=_called(),
        status=404,
        code="not-found",
    )


def _feedback() -> Iterator[BadCall]:
    told = {"card": _CARD, "outcome": "accepted", "outcomeTimestamp": "2026-11-26T10:00:00Z"}

    def said(**changed: Any) -> bytes:
        kept = {name: value for name, value in {**told, **changed}.items() if value is not None}
        return orjson.dumps({"feedback": [kept]})

    yield BadCall(
        what="feedback on a card that this service never showed",
        path=_FEEDBACK,
        body=said(),
        status=404,
        code="not-found",
        place="feedback[0].card",
    )
    for what, name, code in (
        ("feedback without card", "card", "required"),
        ("feedback without outcome", "outcome", "value"),
        ("feedback without time", "outcomeTimestamp", "required"),
    ):
        yield BadCall(
            what=what,
            path=_FEEDBACK,
            body=said(**{name: None}),
            status=400,
            code=code,
            place=f"feedback[0].{name}",
        )


def table() -> str:
    """Write the table."""
    lines = ["| sent | answer | issue | where |", "|---|---|---|---|"]
    for case in cases():
        where = f"`{case.place}`" if case.place else ""
        lines.append(f"| {case.what} | {case.status} | `{case.code}` | {where} |")
    return "\n".join(lines) + "\n"
