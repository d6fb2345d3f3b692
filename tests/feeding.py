"""A follower of the sandbox EHR with everything real: sockets, database, the API behind them."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
import uvicorn
from starlette.types import ASGIApp

from adapters.authorization import GivenLogin
from adapters.feeds.poll import PollPlan, Query
from adapters.feeds.watch import Patience
from adapters.fhir_rest.client import FhirClient
from gateway.app import build
from gateway.core.clock import utc_now
from gateway.core.errors import StoreUnavailable
from gateway.listeners.door import Door, Taken
from gateway.listeners.following import Follower, FollowPlan
from gateway.listeners.handing_in import HandingIn
from gateway.store.keys import load_or_create
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from tests.conftest import credentials, settings_for
from tests.factories import SITE
from tests.registered import register_brought
from tests.running import TLS
from tests.sandbox import TOKEN, SandboxEhr

SOON = Patience(grace_ms=0, heartbeat_ms=None, retry_ms=0)
_IG = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"


@contextmanager
def fed(url: str, folder: Path) -> Iterator["Feeding"]:
    """Give a sandbox EHR and a gateway on a database, both on sockets."""
    settings = settings_for(folder / "data", url)
    keys = load_or_create(settings.data_dir, master_key_file=None, audit_key_file=None)
    store = Store(url, Sealer(keys.master), consents=keys.consents)
    with store.write() as uow:
        uow.sites.apply(SITE.replace("[push]", "[push, {poll: {types: [Observation]}}]"), "test")
    register_brought(store)
    app = build(settings)
    sandbox = SandboxEhr()
    sandbox.start()
    with on_a_socket(app) as address:
        made = Feeding(sandbox, store, address, credentials(store)["ehr"])
        yield made
        sandbox.stop()
        made.close()
    store.close()


#: So many are written in one transaction.
_MANY = 50


def _reference(resource: dict[str, Any]) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


@contextmanager
def on_a_socket(app: ASGIApp) -> Iterator[str]:
    """Serve an application in this process; give its address."""
    config = uvicorn.Config(app, port=0, log_level="critical", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


class Feeding:
    """One EHR, one gateway, and what follows the one for the other.

    Attributes:
        seconds: How far the follower's clock is ahead of the real one.
    """

    def __init__(self, sandbox: SandboxEhr, store: Store, address: str, token: str) -> None:
        self.sandbox = sandbox
        self.store = store
        self.address = address
        self.token = token
        self.seconds = 0.0
        self.is_api_away = False
        self.base = f"{sandbox.origin}/fhir"
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20, verify=TLS
        )
        self.ehr = FhirClient(
            self.base,
            login=GivenLogin(f"Bearer {TOKEN}"),
            timeout_s=10,
            max_response_bytes=2**24,
        )
        self.handed_over: list[bytes] = []
        self._door = Door(address, lambda: token)
        self.closing: list[Callable[[], None]] = [
            self._http.close,
            self.ehr.close,
            self._door.close,
        ]

    def close(self) -> None:
        for each in self.closing:
            each()

    # -- the EHR ---------------------------------------------------------------------------------

    def put(self, *resources: dict[str, Any]) -> None:
        """Write resources into the EHR; many at once, since that is quicker."""
        if len(resources) > _MANY:
            entries = [
                {"resource": each, "request": {"method": "PUT", "url": _reference(each)}}
                for each in resources
            ]
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
            self._http.post(self.base, json=bundle).raise_for_status()
            return
        for each in resources:
            self._http.put(f"{self.base}/{_reference(each)}", json=each).raise_for_status()

    def enter(self, path: str, said: dict[str, Any]) -> dict[str, Any]:
        """Save something by the REST interface of OpenMRS, as its pages do."""
        answer = self._http.post(f"{self.sandbox.origin}/openmrs/ws/rest/v1/{path}", json=said)
        entered: dict[str, Any] = answer.raise_for_status().json()
        return entered

    def delete(self, reference: str) -> None:
        self._http.delete(f"{self.base}/{reference}").raise_for_status()

    def subscribe(
        self, of: str, *, content: str = "full-resource", heartbeat_s: int | None = None
    ) -> str:
        """Make a topic-based Subscription to this gateway in the EHR; wait for its handshake."""
        beat = {"url": f"{_IG}/backport-heartbeat-period", "valueUnsignedInt": heartbeat_s}
        payload = [{"url": f"{_IG}/backport-payload-content", "valueCode": content}]
        resource = {
            "resourceType": "Subscription",
            "status": "requested",
            "reason": "test",
            "criteria": "http://nadi.test/SubscriptionTopic/any",
            "_criteria": {
                "extension": [{"url": f"{_IG}/backport-filter-criteria", "valueString": of}]
            },
            "channel": {
                **({"extension": [beat]} if heartbeat_s else {}),
                "type": "rest-hook",
                "endpoint": f"{self.address}/fhir",
                "payload": "application/fhir+json",
                "_payload": {"extension": payload},
                "header": [f"Authorization: Bearer {self.token}"],
            },
        }
        answer = self._http.post(f"{self.base}/Subscription", json=resource)
        reference = f"Subscription/{answer.raise_for_status().json()['id']}"
        self.until(lambda: self.status(reference) == "active")
        return reference

    def status(self, reference: str) -> str:
        found: str = self._http.get(f"{self.base}/{reference}").json()["status"]
        return found

    def set_status(self, reference: str, status: str) -> None:
        resource = self._http.get(f"{self.base}/{reference}").json()
        self.put({**resource, "status": status})

    def pushes(self) -> dict[str, int]:
        found: dict[str, int] = self.sandbox.stats()["pushes"]
        return found

    def settle(self) -> None:
        """Wait until the EHR has nothing more to send."""
        ends = ("sent", "refused", "dropped", "lost")
        self.until(lambda: self._settled(ends))

    def _settled(self, ends: Sequence[str]) -> bool:
        counts = self.pushes()
        done = sum(counts.get(each, 0) for each in ends) - counts.get("duplicated", 0)
        return done == counts.get("queued", 0)

    def push(self, bundle: bytes) -> None:
        """Push a notification to the gateway, as the EHR would."""
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/fhir+json",
        }
        self._http.post(f"{self.address}/fhir", content=bundle, headers=headers).raise_for_status()

    # -- the gateway -----------------------------------------------------------------------------

    def events(self, kind: str = "Observation") -> list[str]:
        """Give what was received, once for each event, as `id|version`."""
        query = "select resource_key, version_id from events where resource_type = :kind"
        with self.store.read() as uow:
            rows = uow.connection.execute(sa.text(query), {"kind": kind}).all()
        return [f"{row[0]}|{row[1]}" for row in rows]

    def follower(self, *queries: str, feed: str = "ehr/subscription", **changed: Any) -> Follower:
        """Make a follower, as one that was just started."""
        plan = FollowPlan(
            queries=tuple(map(Query, queries)),
            poll=PollPlan(
                includes=changed.pop("includes", ()),
                overlap_ms=changed.pop("overlap_ms", 2000),
                count=changed.pop("count", 50),
            ),
            every_ms=changed.pop("every_ms", 3_600_000),
            lookback_ms=changed.pop("lookback_ms", 3_600_000),
            patience=changed.pop("patience", SOON),
            **changed,
        )
        way_in = HandingIn(self.hand_over, base_url=self.base, count=lambda *_: None)
        return Follower((feed, "ehr"), plan, (self.store, self.ehr, way_in), self.now)

    def now(self) -> datetime:
        from datetime import timedelta

        return utc_now() + timedelta(seconds=self.seconds)

    def hand_over(self, bundle: bytes) -> tuple[Taken, ...]:
        if self.is_api_away:
            raise StoreUnavailable
        taken = self._door.hand_over(bundle, threading.Event())
        self.handed_over.append(bundle)
        return taken

    def until(self, holds: Callable[[], bool], within_s: float = 10.0) -> None:
        """Wait until something holds."""
        end = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < end, "it never came to hold"
            time.sleep(0.02)
