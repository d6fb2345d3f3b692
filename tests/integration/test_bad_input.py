"""Bad input through the real application: every answer explained, none a 5xx, none with a value."""

import base64
import io
import logging
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from gateway.app import build
from gateway.core.fhir import parse_resource
from gateway.core.principal import Role
from gateway.settings import Settings
from gateway.store.keys import load_or_create
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from gateway.telemetry import configure
from tests.asgi import AsgiClient
from tests.audited import bodies
from tests.bad_input import LIMITS, MARK, BadInput, cases
from tests.conftest import Api, credentials, settings_for, shared_data
from tests.factories import SITE, Json, bundle, consent, creatinine, patient, raw
from tests.registered import register_brought

pytestmark = pytest.mark.integration

CASES = list(cases())


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything this process logs, as the API process would log it."""
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    configure("api", Settings(), stream=stream)
    yield stream
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def opened(folder: Path, url: str, **limits: int) -> Iterator[Api]:
    settings = settings_for(folder / "data", url, **limits)
    app = build(settings)
    keys = load_or_create(settings.data_dir, master_key_file=None, audit_key_file=None)
    store = Store(url, Sealer(keys.master))
    with store.write() as uow:
        uow.sites.apply(SITE, "test")
    register_brought(store)
    tokens = credentials(store)
    with store.write() as uow:
        revoked, tokens["revoked"] = _revoked(uow)
        uow.credentials.revoke(revoked)
    with AsgiClient(app) as client:
        yield Api(client, store, tokens)
    store.close()


def _revoked(uow) -> tuple[str, str]:
    return uow.credentials.add("revoked", Role.EHR, "ehr")


@pytest.fixture
def small(sqlite_url: str, tmp_path: Path) -> Iterator[Api]:
    """The API with small limits."""
    yield from opened(tmp_path, sqlite_url, **LIMITS)


@pytest.fixture
def api(sqlite_url: str, tmp_path: Path) -> Iterator[Api]:
    """The API with the limits of every day."""
    yield from opened(tmp_path, sqlite_url)


def send(api: Api, case: BadInput):
    headers = {"Content-Type": "application/fhir+json"}
    if case.role is not None:
        headers |= api.headers(case.role)
    headers |= case.headers
    body = case.body if case.method in {"POST", "PUT"} else b""
    return api.client.request(case.method, case.path, content=body, headers=headers)


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_bad_input_is_explained_without_a_value(log: io.StringIO, small: Api, case: BadInput):
    response = send(small, case)

    assert response.status_code == case.status, response.text
    outcome = response.json()
    if case.entry_status:
        outcome = outcome["entry"][1]["response"]["outcome"]
        assert response.json()["entry"][1]["response"]["status"] == case.entry_status
    assert outcome["issue"][0]["code"] == case.code, outcome
    parse_resource(response.content)
    assert response.headers["content-type"].startswith("application/fhir+json")
    assert outcome["issue"][0]["diagnostics"]
    assert MARK not in response.text
    assert MARK not in str(response.headers)
    assert MARK not in log.getvalue()
    assert MARK not in small.client.get("/metrics").text
    if case.status != 200:
        assert stored(small) == 0


def stored(api: Api) -> int:
    with api.store.read() as uow:
        return uow.connection.scalar(sa.text("select count(*) from events"))


def test_every_case_has_a_name_of_its_own():
    assert len({case.what for case in CASES}) == len(CASES)


def test_json_that_must_not_parse_is_refused_inside_an_observation(log: io.StringIO, api: Api):
    head = b'{"resourceType":"Observation","status":"final","code":{"text":"x"},"component":'
    statuses: dict[str, int] = {}
    for path in sorted(shared_data("json-test-suite").glob("n_*.json")):
        response = api.post(head + path.read_bytes() + b"}", "/fhir/Observation")
        statuses[path.name] = response.status_code
        parse_resource(response.content, expected_type="OperationOutcome")

    assert len(statuses) > 50
    assert {
        name: status for name, status in statuses.items() if status not in {400, 413, 422}
    } == {}
    assert stored(api) == 0
    assert "request failed" not in log.getvalue()


def test_every_official_example_is_answered_and_stored_byte_for_byte(log: io.StringIO, api: Api):
    accepted = refused = 0
    for path in sorted(shared_data("r4-examples").glob("*.json")):
        body = path.read_bytes()
        response = api.post(body)
        assert response.status_code < 500, path.name
        parse_resource(response.content)
        if response.status_code == 202:
            accepted += 1
            assert kept(api, response.json()["id"]) == body, path.name
        elif response.status_code == 200:
            accepted += 1
            assert kept_bundle(api, body), path.name
        else:
            refused += 1

    assert accepted + refused == 368
    assert accepted >= 360
    assert "request failed" not in log.getvalue()


def kept(api: Api, event_id: str) -> bytes:
    """Give what is stored of an event, whose hash has to fit."""
    with api.store.read() as uow:
        event = uow.events.get(event_id)
        assert event is not None
        content = uow.events.content(event)
    assert sha256(content).hexdigest() == event.sha256
    return content


def kept_bundle(api: Api, body: bytes) -> bool:
    """Say whether a Bundle is stored so that it comes back byte for byte."""
    digest = sha256(body).hexdigest()
    with api.store.read() as uow:
        found = uow.connection.scalar(
            sa.text("select id from submissions where sha256 = :digest"), {"digest": digest}
        )
        return found is not None and uow.events.submission_bytes(found) == body


def test_synthea_bundles_are_accepted_and_stored_byte_for_byte(api: Api):
    paths = sorted(shared_data("synthea").glob("*.json"))
    for path in paths:
        body = path.read_bytes()

        response = api.post(body)

        assert response.status_code == 200, path.name
        parse_resource(response.content, expected_type="Bundle")
        assert {entry["response"]["status"] for entry in response.json()["entry"]} == {"202"}
        assert kept_bundle(api, body), path.name
    assert len(paths) == 11


# --- the canary patient ---------------------------------------------------------------------


def canary() -> list[Json]:
    """A patient with the mark in every field that can hold text, and what belongs to her."""
    ident = [{"system": f"http://{MARK}.test/mrn", "value": f"{MARK}-1"}]
    told = {"extension": [{"url": f"http://{MARK}.test/ext", "valueString": MARK}]}
    whom = f"Patient/{MARK}"
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{MARK}</div>'
    person = {
        "resourceType": "Patient",
        "id": MARK,
        "text": {"status": "generated", "div": div},
        "identifier": ident,
        "name": [{"family": MARK, "given": [MARK], "text": MARK}],
        "telecom": [{"system": "phone", "value": MARK}],
        "address": [{"line": [MARK], "city": MARK, "postalCode": MARK, "text": MARK}],
        "contact": [{"name": {"family": MARK}}],
        "photo": [{"contentType": "image/png", "data": base64.b64encode(MARK.encode()).decode()}],
        **told,
    }
    coded = {"coding": [{"system": f"http://{MARK}.test", "code": MARK, "display": MARK}]}
    measured = creatinine(
        MARK,
        whom,
        identifier=ident,
        note=[{"text": MARK}],
        method={"text": MARK},
        bodySite=coded,
        interpretation=[coded],
        component=[{"code": coded, "valueString": MARK}],
        **told,
    )
    problem = {
        "resourceType": "Condition",
        "id": f"{MARK}-c",
        "subject": {"reference": whom, "display": MARK},
        "code": {**coded, "text": MARK},
        "note": [{"text": MARK}],
    }
    agreed = consent(MARK, whom, identifier=ident, policyRule={"text": MARK}, **told)
    return [person, agreed, measured, problem]


def broken(resource: Json) -> Iterator[bytes]:
    """Spoil a resource in many ways, the mark still in it."""
    whole = raw(resource)
    yield whole[:-20]
    yield whole[:-1] + b',"id":"ZZCANARY"}'
    yield whole.replace(b'"ZZCANARY"', b'"ZZCANARY\\u0000"', 1)
    yield whole.replace(b'"ZZCANARY"', b'["ZZCANARY"]', 1)
    yield whole.replace(b'"ZZCANARY"', b'{"ZZCANARY":"ZZCANARY"}', 1)
    yield whole.replace(b'"ZZCANARY"', b'"ZZCANARY \xff"', 1)
    yield raw({**resource, "status": MARK})
    yield raw({**resource, "birthDate": MARK})
    yield raw({**resource, "valueDecimal": MARK, "valueQuantity": {"value": MARK}})
    yield raw({**resource, "id": MARK * 9})
    yield raw({**resource, "resourceType": MARK})
    yield raw({**resource, "subject": {"reference": f"{MARK}/{MARK}"}})
    yield raw({**resource, "meta": {"lastUpdated": MARK, "versionId": f"{MARK} {MARK}"}})


class Watched:
    """Calls the API and keeps every answer."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.texts: list[str] = []

    def answered(self, response) -> Json:
        assert response.status_code < 500
        parse_resource(response.content)
        self.texts.append(response.text + str(response.headers))
        answer: Json = response.json()
        return answer

    def push(self, body: bytes, kind: str, name: str) -> None:
        self.answered(self.api.post(body, f"/fhir/{kind}"))
        self.answered(self.api.post(body))
        self.answered(self.api.put(body, f"/fhir/{kind}/{name}"))

    def push_resources(self) -> None:
        for resource in canary():
            kind, name = resource["resourceType"], resource["id"]
            self.push(raw(resource), kind, name)
            self.push(raw({**resource, "language": "en"}), kind, name)
            for body in broken(resource):
                self.push(body, kind, name)

    def push_bundles(self) -> None:
        for kind in ("collection", "batch", "transaction", "history"):
            whole = bundle(*canary(), kind=kind, identifier={"value": MARK})
            self.answered(self.api.post(raw(whole)))
            spoiled = [{**each, "status": MARK} for each in canary()]
            self.answered(self.api.post(raw(bundle(*canary()[:1], *spoiled[1:], kind=kind))))

    def read_everything(self) -> None:
        listed = self.answered(self.api.get("/fhir/Task?_count=500"))
        for entry in listed["entry"]:
            task = self.answered(self.api.get(f"/fhir/Task/{entry['resource']['id']}"))
            for output in task.get("output", ()):
                self.answered(self.api.get(f"/fhir/{output['valueReference']['reference']}"))
        self.answered(self.api.get("/fhir/AuditEvent?_count=500", "compliance"))
        self.answered(self.api.get(f"/fhir/Task/{MARK}"))


def test_the_canary_patient_shows_nowhere(
    log: io.StringIO, api: Api, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    watched = Watched(api)

    watched.push_resources()
    watched.push_bundles()
    watched.read_everything()

    assert any("queued" in text for text in watched.texts), "the canary's valid form is admitted"
    assert [text for text in watched.texts if MARK.lower() in text.lower()] == []
    assert MARK not in log.getvalue()
    assert MARK not in "".join(capfd.readouterr())
    assert MARK not in api.client.get("/metrics").text
    assert files_with_the_mark(tmp_path) == []
    with api.store.read() as uow:
        told = bodies(uow.connection)
    assert told
    assert not any(MARK.encode() in body for body in told)


def files_with_the_mark(folder: Path) -> list[str]:
    """Find the mark in the bytes of every file: plainly, in UTF-16, in Base64, in hexadecimal."""
    mark = MARK.encode()
    forms = (mark, MARK.encode("utf-16-le"), base64.b64encode(mark)[:-1], mark.hex().encode())
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "nadi.db" for path in files)
    return [p.name for p in files if any(form in p.read_bytes() for form in forms)]


def test_a_canary_that_is_stored_comes_back_only_by_its_key(api: Api):
    response = api.post(raw(patient(MARK)), "/fhir/Patient")

    assert MARK.encode() in kept(api, response.json()["id"])
