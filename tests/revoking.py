"""One patient's job taken through its life by hand, so that she can withdraw consent at any point.

The API, the database, the workers' stories, the model, the EHR's client and the stand-in EHR on a
socket are the real ones. What a test adds stands at their seams: a store, models and a client that
tell when they are used, so that the withdrawal is posted just then.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from orjson import loads

from adapters.authorization import GivenLogin
from adapters.fhir_rest.client import FhirClient
from adapters.site import SiteWatch
from gateway.app import build
from gateway.core.delivery import Backoff, Circuit
from gateway.core.findings import RESULT_SYSTEM
from gateway.core.jobs import Job
from gateway.settings import Settings
from gateway.store.consents import ConsentCache
from gateway.store.jobs import JobFilter
from gateway.store.keys import load_or_create
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store, UnitOfWork
from models.library import Library
from models.registry import REFERENCE_MODELS
from tests.asgi import AsgiClient
from tests.conftest import Api, credentials, settings_for
from tests.factories import raw
from tests.people import Person, person, versioned
from tests.registered import register_brought
from tests.running import TLS
from tests.sandbox import TOKEN, SandboxEhr
from tests.waiting import due, ready
from workers.delivery import deliver
from workers.inference import infer
from workers.models_loaded import OpenModels
from workers.ports import LoadedModel, Ports
from workers.result_recipient import ResultRecipient
from workers.retracting import Retractor

LEASE_MS = 60_000
EHR_TIMEOUT_S = 2.0
#: Longer than the EHR's client waits, so that what hangs is settled within it.
REVOCATION_WAIT_S = 8.0

SITE = """
site: revoking
systems:
  ehr: {{kind: fhir-rest, base_url: "{base}/fhir"}}
routes:
  ckd-risk:
    source: ehr
    match: "Observation.code.coding.where(system='http://loinc.org' and code='2160-0')"
    consent: {{purpose: TREAT, default: deny}}
    model: ckd-risk@1
    sink: {{system: ehr, also: [provenance], refusals: none}}
{more}
"""


@dataclass
class Hooks:
    """What happens when a seam is passed; each happens once."""

    _waiting: dict[str, Callable[[], None]] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)

    def at(self, point: str, do: Callable[[], None]) -> None:
        self._waiting[point] = do

    def tell(self, point: str) -> None:
        self.passed.append(point)
        do = self._waiting.pop(point, None)
        if do is not None:
            do()

    @property
    def unused(self) -> set[str]:
        return set(self._waiting)


class TellingStore(Store):
    """A store whose worker tells before each transaction."""

    def telling(self, hooks: Hooks) -> "TellingStore":
        self.hooks = hooks
        return self

    def write(self, *, is_durable: bool = True) -> AbstractContextManager[UnitOfWork]:
        self.hooks.tell("write")
        return super().write(is_durable=is_durable)

    def read(self) -> AbstractContextManager[UnitOfWork]:
        self.hooks.tell("read")
        return super().read()


class TellingModels:
    """The real models; tells when one is taken, and before and after it is asked."""

    def __init__(self, models: OpenModels, hooks: Hooks) -> None:
        self._models, self._hooks = models, hooks

    def get(self, digest: str) -> LoadedModel:
        self._hooks.tell("model")
        return TellingModel(self._models.get(digest), self._hooks)

    def retire(self, digests: Any) -> int:
        return self._models.retire(digests)


class TellingModel:
    def __init__(self, model: LoadedModel, hooks: Hooks) -> None:
        self._model, self._hooks = model, hooks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, batch: Any) -> Any:
        self._hooks.tell("predict")
        answers = self._model.predict(batch)
        self._hooks.tell("predicted")
        return answers


class TellingClient:
    """The real client of the EHR; tells before each call, by name."""

    def __init__(self, client: FhirClient, hooks: Hooks) -> None:
        self._client, self._hooks = client, hooks

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def told(first: Any = None, *rest: Any, **named: Any) -> Any:
            self._hooks.tell(f"{name} {first}" if isinstance(first, str) else name)
            given = () if first is None else (first,)
            return call(*given, *rest, **named)

        return told


@dataclass(frozen=True)
class TellingConnection:
    client: Any
    recipient: ResultRecipient
    base_url: str
    archive: None = None
    oru: None = None


@dataclass(frozen=True)
class OneConnection:
    """The connection to the one EHR."""

    known: TellingConnection

    def connection(self, _system: str) -> TellingConnection:
        return self.known


@dataclass
class Acknowledgement:
    """What came of posting the withdrawal.

    Attributes:
        statuses: What each try was answered with.
        refusals: What the answers but the last said.
        seen: What the EHR held of the patient when the last answer came.
    """

    statuses: list[int] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)


class Ward:
    """One patient, her EHR, and the steps of her job."""

    def __init__(self, api: Api, ehr: SandboxEhr, ports: Ports, hooks: Hooks) -> None:
        self.api, self.ehr, self.ports, self.hooks = api, ehr, ports, hooks
        self.journal = ehr.journal
        self.settings = Settings()
        self.app: Any = None
        self.patient = person("revokes")
        self.acknowledgement = Acknowledgement()
        self._posting: threading.Thread | None = None

    def forget_consents(self) -> None:
        """Begin as processes do: with no consent read yet."""
        self.api.store._consents = ConsentCache()
        self.ports.store._consents = ConsentCache()

    # -- what the EHR pushes -----------------------------------------------------------------

    def push(self, *resources: dict[str, Any]) -> None:
        for each in resources:
            answer = self.api.put(raw(each), f"/fhir/{each['resourceType']}/{each['id']}")
            assert answer.status_code == 202, answer.text

    def admit(self, someone: Person | None = None, *, labs: bool = True) -> None:
        """Push the chart of a consenting patient, and the result that starts the route."""
        someone = someone or self.patient
        self.push(someone.patient, versioned(someone.consent(), 1))
        self.push(*(someone.labs if labs else ()), someone.creatinine())

    def store_in_ehr(self, *resources: dict[str, Any]) -> None:
        """Put resources into the EHR, as somebody at the ward does."""
        for each in resources:
            url = f"{self.ehr.origin}/fhir/{each['resourceType']}/{each['id']}"
            headers = {"Authorization": f"Bearer {TOKEN}"}
            httpx.put(url, json=each, headers=headers, verify=TLS).raise_for_status()

    @property
    def denial(self) -> dict[str, Any]:
        return versioned(self.patient.consent("deny"), 2)

    def revoke(self) -> None:
        """Post the withdrawal until it is acknowledged; look at the EHR at that moment."""
        while True:
            answer = self.api.put(raw(self.denial), f"/fhir/Consent/{self.denial['id']}")
            self.acknowledgement.statuses.append(answer.status_code)
            if answer.status_code == 202:
                break
            assert answer.status_code == 503, answer.text
            self.acknowledgement.refusals.append(answer.json()["issue"][0]["diagnostics"])
        self.acknowledgement.seen = self.held()

    def revoke_beside(self) -> None:
        """Post the withdrawal in a thread; go on when it is in force, acknowledged or not."""
        self._posting = threading.Thread(target=self.revoke, daemon=True)
        self._posting.start()
        wait_until(self._is_in_force)

    def _is_in_force(self) -> bool:
        query = (
            "select count(*) from events where resource_type = 'Consent'"
            " and is_current and version_id = '2'"
        )
        with self.api.store.read() as uow:
            return bool(uow.connection.scalar(sa.text(query)))

    def acknowledged(self) -> Acknowledgement:
        """Wait for the acknowledgement."""
        if self._posting:
            self._posting.join(30)
            assert not self._posting.is_alive(), "the withdrawal was never acknowledged"
        assert self.acknowledgement.statuses, "the withdrawal was never posted"
        return self.acknowledgement

    # -- what the workers do -----------------------------------------------------------------

    def rung(self) -> list[str]:
        with self.api.store.read() as uow:
            return [job_id for job_id, _ in ready(uow.jobs, 100)]

    def due(self) -> list[str]:
        with self.api.store.read() as uow:
            return [delivery_id for delivery_id, _ in due(uow.deliveries, 100)]

    def infer(self) -> int:
        return infer(self.rung(), self.ports)

    def deliver(self) -> int:
        return deliver(self.due(), self.ports)

    def work_on(self) -> None:
        """Do everything that is left to do, with an EHR that is well and time that has passed."""
        self.ehr.faults(down="no", slow_ms=0, drop_after_commit_rate=0)
        self.infer()
        for _ in range(3):
            with self.api.store.write() as uow:
                uow.deliveries.set_circuit("ehr", Circuit())
                uow.deliveries.wake("ehr")
                uow.deliveries.release(self.ports.owner)
            self.deliver()

    def retract(self) -> int:
        """Do what is on the list of results to be marked, as if its time had come."""
        with self.api.store.write() as uow:
            statement = "update retractions set next_attempt_ms = 0 where state = 'pending'"
            uow.connection.execute(sa.text(statement))
        retractor = Retractor(
            self.ports.store,
            self.ports.site,
            self.ports.ehrs,
            process="relay",
            backoff=self.ports.backoff,
        )
        return retractor.turn()

    # -- what came of it ---------------------------------------------------------------------

    def written(self, resource_type: str) -> list[dict[str, Any]]:
        """Give every version of every resource of a type that the EHR was given, oldest first."""
        lines = self.journal.read_bytes().splitlines()
        return [
            entry["resource"]
            for line in lines
            for entry in loads(line)
            if entry["type"] == resource_type
        ]

    def versions(self) -> list[dict[str, Any]]:
        """Give every version of the results about the patient, oldest first."""
        mine = self.patient.reference
        return [each for each in self.written("Observation") if is_result_of(each, mine)]

    def held(self, someone: Person | None = None) -> list[tuple[str, str]]:
        """Give id and version of every result about a patient that the EHR ever held.

        Read from its journal, which it writes before it answers, whatever its faults are.
        """
        wanted = (someone or self.patient).reference
        written = [
            entry for line in self.journal.read_bytes().splitlines() for entry in loads(line)
        ]
        return [
            (entry["id"], str(entry["version"]))
            for entry in written
            if entry["type"] == "Observation" and is_result_of(entry["resource"], wanted)
        ]

    def jobs(self, someone: Person | None = None) -> list[Job]:
        key = self.api.store.sealer.patient_key("ehr", (someone or self.patient).reference)
        with self.api.store.read() as uow:
            return uow.jobs.find(JobFilter(patient_key=key))

    def job(self) -> Job:
        (found,) = self.jobs()
        return found

    def steps(self) -> list[tuple[str, str]]:
        """Give event and outcome of every AuditEvent about the job, oldest first."""
        query = "select event, outcome from audit_events where job_id = :id order by seq"
        with self.api.store.read() as uow:
            rows = uow.connection.execute(sa.text(query), {"id": self.job().id})
            return [(row.event, row.outcome) for row in rows]


@contextmanager
def ward(
    folder: Path,
    url: str,
    ehr: SandboxEhr,
    *,
    lease_ms: int = LEASE_MS,
    wait_s: float = REVOCATION_WAIT_S,
    site: str = "",
) -> Iterator[Ward]:
    """Put the API and one worker together on a fresh database.

    Args:
        folder: Where keys go.
        url: A database of the newest schema.
        ehr: Running; it may have faults.
        lease_ms: How long the worker may hold what it claimed.
        wait_s: How long a Consent waits to be acknowledged.
        site: Further keys of the site file.
    """
    settings = settings_for(folder / "data", url, revocation_wait_s=wait_s)
    app = build(settings)
    keys = load_or_create(settings.data_dir, master_key_file=None, audit_key_file=None)
    store = Store(url, Sealer(keys.master), consents=keys.consents)
    with store.write() as uow:
        uow.sites.apply(SITE.format(base=ehr.origin, more=site), "test")
    register_brought(store)
    hooks = Hooks()
    working = TellingStore(url, Sealer(keys.master), consents=keys.consents).telling(hooks)
    with AsgiClient(app) as client, _client(ehr) as fhir:
        ports = _ports(working, fhir, hooks, ehr, lease_ms)
        made = Ward(Api(client, store, credentials(store)), ehr, ports, hooks)
        made.settings, made.app = settings, app
        yield made
    working.close()
    store.close()


def _client(ehr: SandboxEhr) -> FhirClient:
    return FhirClient(
        f"{ehr.origin}/fhir",
        login=GivenLogin(f"Bearer {TOKEN}"),
        timeout_s=EHR_TIMEOUT_S,
        max_response_bytes=2**20,
    )


def _ports(
    store: TellingStore, fhir: FhirClient, hooks: Hooks, ehr: SandboxEhr, lease_ms: int
) -> Ports:
    client = TellingClient(fhir, hooks)
    connection = TellingConnection(client, ResultRecipient(client), f"{ehr.origin}/fhir")
    return Ports(
        store=store,
        site=SiteWatch(store).current,
        models=TellingModels(open_models(), hooks),
        ehrs=OneConnection(connection),
        owner="worker@one",
        lease_ms=lease_ms,
        backoff=Backoff(base_s=1, max_s=300, budget_s=3600),
        random=lambda: 0.5,
    )


_opened: list[OpenModels] = []


def open_models() -> OpenModels:
    """Open the models that come with Nadi, once."""
    if not _opened:
        _opened.append(OpenModels(Library(REFERENCE_MODELS, Path("/nowhere"))))
    return _opened[0]


def spent(ports: Ports) -> Ports:
    """Give the ports of a worker that gives a result up at its first failure."""
    return replace(ports, backoff=Backoff(base_s=1, max_s=1, budget_s=0))


def is_result_of(resource: dict[str, Any], patient: str) -> bool:
    """Say whether a resource is a result of ours about a patient."""
    systems = {each["system"] for each in resource.get("identifier", ())}
    return RESULT_SYSTEM in systems and resource["subject"]["reference"] == patient


def wait_until(holds: Callable[[], bool], *, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.01)
