import asyncio

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.api.front import Front, Serve


def says(name: str) -> Serve:
    async def serve(request: Request) -> Response:
        return Response(f"{name} {sorted(request.path_params.items())}")

    return serve


async def behind(scope: Scope, receive: Receive, send: Send) -> None:
    await Response("behind")(scope, receive, send)


def answer(method: str, path: str, *, root_path: str = "") -> str:
    named = {name: says(name) for name in ("base", "create", "update", "delete", "cards")}
    front = Front(behind, **named)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root_path,
        "headers": [],
        "query_string": b"",
    }
    asyncio.run(front(scope, receive, send))
    return b"".join(message.get("body", b"") for message in sent).decode()


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/fhir", "base []"),
        ("POST", "/fhir/", "base []"),
        ("POST", "/fhir/Observation", "create [('type', 'Observation')]"),
        ("POST", "/fhir/Nonsense", "create [('type', 'Nonsense')]"),
        ("PUT", "/fhir/Consent/a-1.b", "update [('id', 'a-1.b'), ('type', 'Consent')]"),
        ("DELETE", "/fhir/Consent/c1", "delete [('id', 'c1'), ('type', 'Consent')]"),
        ("POST", "/cds-services/ckd-risk", "cards [('id', 'ckd-risk')]"),
    ],
)
def test_a_push_goes_straight_to_its_endpoint(method: str, path: str, expected: str):
    assert answer(method, path) == expected


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/fhir/Task"),
        ("POST", "/fhir/Observation/"),
        ("POST", "/fhir/Observation/1"),
        ("PUT", "/fhir/Observation"),
        ("PUT", "/fhir/Observation/a b"),
        ("POST", "/fhir/Observation\n"),
        ("POST", "/metrics"),
        ("GET", "/cds-services"),
        ("POST", "/cds-services/ckd-risk/feedback"),
    ],
)
def test_everything_else_goes_through_the_framework(method: str, path: str):
    assert answer(method, path) == "behind"


def test_an_application_that_is_mounted_somewhere_is_routed_by_the_framework():
    assert answer("POST", "/fhir/Observation", root_path="/nadi") == "behind"
