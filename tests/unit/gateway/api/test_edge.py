import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from adapters.site import Site
from gateway.api.edge import Call, Edge
from gateway.api.security import Authenticator
from gateway.core.errors import Busy, ConsentDenied
from gateway.core.principal import Permission, Role
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from tests.asgi import AsgiClient
from tests.conftest import MASTER, Api


@pytest.fixture
def store(sqlite_url: str):
    opened = Store(sqlite_url, Sealer(MASTER))
    yield opened
    opened.close()


def answer(store: Store, handler, *, role: Role = Role.EHR, token: str | None = None):
    """Call one handler behind the edge."""
    if token is None:
        with store.write() as uow:
            token = uow.credentials.add("somebody", role, "ehr")[1]
    edge = Edge(store, Authenticator(store), site=Site)
    app = Starlette(routes=[Route("/x", edge.endpoint(Permission.PUSH, handler))])
    with AsgiClient(app) as client:
        response = client.get("/x", headers={"Authorization": f"Bearer {token}"})
    edge.close()
    return response


def events(store: Store) -> list[str]:
    with store.read() as uow:
        return list(uow.connection.scalars(sa.text("select event from audit_events order by seq")))


def test_a_handler_gets_who_calls_and_from_where(store: Store):
    seen: list[Call] = []

    async def handler(call: Call) -> Response:
        seen.append(call)
        return Response("done")

    response = answer(store, handler)

    assert (response.status_code, response.text) == (200, "done")
    assert (seen[0].principal.name, seen[0].address) == ("somebody", "192.0.2.7")
    assert (seen[0].agent.role, seen[0].agent.address) == ("ehr", "192.0.2.7")
    assert response.headers["x-request-id"] == seen[0].request_id


def test_what_nobody_expected_is_a_500_that_says_nothing(store: Store):
    async def handler(_call: Call) -> Response:
        raise RuntimeError("ZZCANARY")

    response = answer(store, handler)

    assert response.status_code == 500
    assert response.json()["issue"][0]["code"] == "exception"
    assert "ZZCANARY" not in response.text


@pytest.mark.parametrize(
    ("error", "status"), [(ConsentDenied(), 403), (Busy(retry_after_s=7.4), 503)]
)
def test_an_error_of_ours_becomes_its_outcome(store: Store, error: Exception, status: int):
    async def handler(_call: Call) -> Response:
        raise error

    response = answer(store, handler)

    assert response.status_code == status
    assert response.headers.get("retry-after") == ("7" if status == 503 else None)


def test_a_caller_that_hangs_up_is_no_error_of_ours(store: Store):
    async def handler(_call: Call) -> Response:
        raise ClientDisconnect

    assert answer(store, handler).status_code == 499


async def never(_call: Call) -> Response:
    raise AssertionError("nobody may get here")


def test_a_role_that_lacks_the_permission_is_refused_and_put_on_record(store: Store):
    assert answer(store, never, role=Role.OPERATOR).status_code == 403
    assert events(store) == ["forbid"]


def test_a_wrong_token_is_refused_and_put_on_record(store: Store):
    response = answer(store, never, token="x")  # noqa: S106 - not a secret

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="nadi"'
    assert events(store) == ["sign-in-failure"]


def test_a_refusal_that_cannot_be_put_on_record_is_a_503(store: Store):
    with store.write() as uow:
        uow.connection.execute(sa.text("drop table audit_events"))

    response = answer(store, never, token="x")  # noqa: S106 - not a secret

    assert response.status_code == 503


@pytest.mark.parametrize("accept", ["application/fhir+xml", "text/turtle", "image/png"])
def test_reads_insist_on_json_too(api: Api, accept: str):
    assert api.get("/fhir/Task", Accept=accept).status_code == 406


@pytest.mark.parametrize(
    "accept", ["*/*", "application/fhir+json", "application/json;q=0.5, text/html", "text/*"]
)
def test_whoever_reads_json_is_served(api: Api, accept: str):
    assert api.get("/fhir/Task", Accept=accept).status_code == 200


@pytest.mark.parametrize(
    ("wanted", "status"), [("json", 200), ("application/fhir%2Bjson", 200), ("xml", 406)]
)
def test_format_overrides_the_accept_header(api: Api, wanted: str, status: int):
    response = api.get(f"/fhir/Task?_format={wanted}", Accept="application/fhir+xml")

    assert response.status_code == status
