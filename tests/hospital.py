"""A small hospital for tests of the workers: a database, a site, a toy model and an EHR.

The database, the receiving step and everything of Nadi are real. The EHR is a fake that behaves
like a FHIR server as far as Nadi writes to and searches one, with the faults that real ones have.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from adapters.fhir_rest.answers import (
    Content,
    EhrCapabilities,
    TypeCapabilities,
    WriteOutcome,
)
from adapters.fhir_rest.errors import (
    EhrAnswerTooLarge,
    EhrRefused,
    EhrTimeout,
    EhrUnreachable,
    ForeignAddress,
    MultipleMatches,
    SearchNotWhole,
)
from adapters.site import Site, load_site
from gateway.api.arrivals import Posting
from gateway.api.intake import Intake
from gateway.core.attachments import Listed
from gateway.core.delivery import Backoff, Delivery
from gateway.core.errors import ConfigurationError, NotFound
from gateway.core.fhir import parse_bundle, parse_resource
from gateway.core.findings import RuntimeFacts
from gateway.core.jobs import Job
from gateway.core.principal import Principal, Role
from gateway.store.audit_log import AuditFilter
from gateway.store.consents import ConsentCache
from gateway.store.jobs import JobFilter
from gateway.store.model_watch import ModelWatch
from gateway.store.registering import retire
from gateway.store.sealing import MasterKey, Sealer
from gateway.store.tables import metadata
from gateway.store.unit_of_work import Store
from models.manifest import parse
from tests.consenting import CONSENT_KEY
from tests.registered import ACTOR, register_model
from tests.waiting import due, ready
from workers.climbing import ladder_recipient
from workers.delivery import deliver
from workers.ehr_abilities import EhrAbilities
from workers.inference import infer
from workers.models_loaded import ModelTooSlow
from workers.ports import Ports, Recipient

Json = dict[str, Any]

NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
DIGEST = "d" * 64
LEASE_MS = 60_000
LOINC = "http://loinc.org"
CREATININE, UREA = "2160-0", "3094-0"

SITE = """
site: test-hospital
systems:
  ehr:
    kind: fhir-rest
    base_url: http://ehr.test/fhir
routes:
  toy:
    source: ehr
    match: "Observation.code.coding.where(system='http://loinc.org' and code='2160-0')"
    consent: {purpose: TREAT, default: deny}
    model: toy@1
    sink: {system: ehr, also: [provenance], refusals: REFUSALS}
"""
MANIFEST = f"""
manifest_version = 1
name = "toy"
version = "1.0.0"
title = "Toy risk"
intended_use = "Tests."
not_for = "Patients."
demonstration_only = true
manufacturer = "Nadi"
licence = "Apache-2.0"
card = "card.md"
golden = "golden.json"

[weights]
file = "model.onnx"
sha256 = "{"0" * 64}"
format = "onnx-fp32"
tolerance = 0.001
input_name = "x"
output_name = "y"

[[inputs]]
id = "creatinine"
label = "Creatinine"
unit = "mg/dL"
molar_mass_g_per_mol = 113.12
max_age_h = 48
plausible = [0.1, 50.0]
missing = "refuse"
codes = [{{ system = "{LOINC}", code = "{CREATININE}" }}]

[[inputs]]
id = "urea"
label = "Urea"
unit = "mg/dL"
max_age_h = 48
plausible = [1.0, 500.0]
missing = "mask"
codes = [{{ system = "{LOINC}", code = "{UREA}" }}]

[[inputs]]
id = "age"
label = "Age"
source = "patient-age"
unit = "a"
plausible = [0, 130]
missing = "refuse"

[[outputs]]
name = "risk"
column = 0
code = {{ system = "https://nadi.health/fhir/sid/toy", code = "toy", display = "Toy risk" }}
unit = "1"
range = [0.0, 1.0]
summary = "Toy risk {{percent}} % ({{label}}), {{used}} of {{total}}."

[[outputs.bands]]
at_least = 0.0
interpretation = "N"
label = "low"
advice = "None."
"""


class ToyModel:
    """Divides creatinine by ten; breaks or takes too long at a value that a test names."""

    def __init__(self) -> None:
        self.manifest = parse(MANIFEST)
        self.facts = RuntimeFacts(model_digest=DIGEST, runtime="toy 1", kernel_class="none")
        self.encoder = None
        self.batches: list[int] = []
        self.breaks_at: float | None = None
        self.too_slow_above: float | None = None
        self.on_slow: Callable[[], None] = lambda: None

    def predict(self, tensors: Any) -> Any:
        batch = tensors["x"]
        self.batches.append(len(batch))
        if self.breaks_at is not None and np.any(np.isclose(batch[:, 0], self.breaks_at)):
            raise RuntimeError("broken")
        if self.too_slow_above is not None and np.any(batch[:, 0] > self.too_slow_above):
            self.on_slow()
            raise ModelTooSlow
        return (batch[:, :1] / 10).astype(np.float32)


@dataclass
class ToyModels:
    """One model under one digest."""

    model: ToyModel = field(default_factory=ToyModel)
    is_installed: bool = True

    def get(self, digest: str) -> ToyModel:
        if not self.is_installed or digest != DIGEST:
            raise NotFound
        return self.model


class FakeEhr:
    """Keeps resources; its faults are attributes that a test sets.

    Attributes:
        away: Error raised by every call, before anything is done.
        loses_answers: So many writes are done and their answers lost.
        refused: Statuses by resource type; "" stands for transactions, "batch" for batches.
        takes_batches: Its CapabilityStatement names them.
        entry_statuses: How single entries of a batch are answered, by identifier.
        ignores_conditions: If-None-Exist is not looked at.
        is_unlabelled: `identifier` and `_tag` of a search are ignored: everything is found.
        tells_no_place: Answers say nothing of where a resource is.
        types: Resource types that its CapabilityStatement names; None: it has none.
        dies_at: The next call of this name finds the EHR gone.
        contents: What attachments point at, by address.
        drops: Elements that are lost in silence, by resource type.
    """

    def __init__(self) -> None:
        self.resources: dict[str, list[Json]] = {}
        self.calls: list[str] = []
        self.away: Exception | None = None
        self.loses_answers = 0
        self.refused: dict[str, int] = {}
        self.takes_batches = False
        self.entry_statuses: dict[str, int] = {}
        self.ignores_conditions = False
        self.is_unlabelled = False
        self.tells_no_place = False
        self.dies_at = ""
        self.types: tuple[str, ...] | None = ("Observation", "RiskAssessment", "Media", "Device")
        self.contents: dict[str, Content] = {}
        self.drops: dict[str, tuple[str, ...]] = {}

    def of(self, resource_type: str) -> list[Json]:
        return self.resources.get(resource_type, [])

    def results(self) -> list[Json]:
        return [each for each in self.of("Observation") if "device" in each]

    def put(self, resource: Json) -> None:
        self.resources.setdefault(resource["resourceType"], []).append(resource)

    def capabilities(self) -> EhrCapabilities:
        self._called("capabilities")
        if self.types is None:
            raise EhrRefused(404)
        types = {name: TypeCapabilities(frozenset({"create"})) for name in self.types}
        return EhrCapabilities(
            "4.0.1", "fake", transaction=True, batch=self.takes_batches, types=types
        )

    def search(
        self,
        resource_type: str,
        params: Sequence[tuple[str, str]],
        *,
        max_pages: int = 5,
        is_whole: bool = False,
    ) -> list[Json]:
        self._called(f"search {resource_type} {max_pages > 0}")
        if f"search {resource_type}" in self.refused:
            raise EhrRefused(self.refused[f"search {resource_type}"])
        found = [each for each in self.of(resource_type) if self._matches(each, params)]
        if is_whole and len(found) > 100 * max_pages:
            raise SearchNotWhole
        return found

    def read(self, reference: str) -> Json | None:
        self._called(f"read {reference}")
        kind, _, name = reference.partition("/")
        if f"read {kind}" in self.refused:
            raise EhrRefused(self.refused[f"read {kind}"])
        return next((each for each in self.of(kind) if each["id"] == name), None)

    def content(self, address: str, *, max_bytes: int) -> Content | None:
        self._called(f"content {address}")
        if "://" in address and not address.startswith("http://ehr.test/fhir/"):
            raise ForeignAddress
        found = self.contents.get(address)
        if found is not None and len(found.body) > max_bytes:
            raise EhrAnswerTooLarge
        return found

    def create(
        self, resource_type: str, body: bytes, *, if_none_exist: str | None = None
    ) -> WriteOutcome:
        self._called(f"create {resource_type}")
        outcome = self._create(resource_type, orjson.loads(body), if_none_exist)
        self._answer()
        return outcome

    def update(self, reference: str, body: bytes, *, if_match: str | None = None) -> WriteOutcome:
        self._called(f"update {reference}" + (f" if {if_match}" if if_match else ""))
        kind, _, name = reference.partition("/")
        if f"update {kind}" in self.refused:
            raise EhrRefused(self.refused[f"update {kind}"])
        kept = self.of(kind)
        at = next(at for at, each in enumerate(kept) if each["id"] == name)
        kept[at] = self._kept(orjson.loads(body))
        self._answer()
        return self._outcome(200, kept[at])

    def transaction(self, body: bytes) -> list[WriteOutcome]:
        bundle = orjson.loads(body)
        entries = bundle["entry"]
        if bundle["type"] == "batch":
            return self._batch(entries)
        self._called(f"transaction {len(entries)}")
        if "" in self.refused:
            raise EhrRefused(self.refused[""])
        before = {name: [*kept] for name, kept in self.resources.items()}
        try:
            outcomes = [
                self._create(e["request"]["url"], e["resource"], e["request"].get("ifNoneExist"))
                for e in entries
            ]
        except (EhrRefused, MultipleMatches):
            self.resources = before
            raise
        self._answer()
        return outcomes

    def _batch(self, entries: Sequence[Json]) -> list[WriteOutcome]:
        self._called(f"batch {len(entries)}")
        if "batch" in self.refused:
            raise EhrRefused(self.refused["batch"])
        outcomes = [self._entry(entry) for entry in entries]
        self._answer()
        return outcomes

    def _entry(self, entry: Json) -> WriteOutcome:
        resource, request = entry["resource"], entry["request"]
        assert "urn:uuid:" not in str(resource), "entries of a batch can't refer to each other"
        names = [each["value"] for each in resource.get("identifier", [])]
        status = next((self.entry_statuses[n] for n in names if n in self.entry_statuses), None)
        if status is not None:
            return WriteOutcome(status, None, None)
        try:
            return self._create(request["url"], resource, request.get("ifNoneExist"))
        except EhrRefused as error:
            return WriteOutcome(error.status, None, None)
        except MultipleMatches:
            return WriteOutcome(412, None, None)

    def _create(self, resource_type: str, resource: Json, condition: str | None) -> WriteOutcome:
        if resource_type in self.refused:
            raise EhrRefused(self.refused[resource_type])
        kept = self.of(resource_type)
        if condition and not self.ignores_conditions:
            name, _, value = condition.partition("=")
            found = [each for each in kept if self._matches(each, [(name, value)])]
            if len(found) > 1:
                raise MultipleMatches
            if found:
                return self._outcome(200, found[0])
        made = {**self._kept(resource), "id": f"{resource_type.lower()}-{len(kept) + 1}"}
        self.put(made)
        return self._outcome(201, made)

    def _kept(self, resource: Json) -> Json:
        lost = self.drops.get(resource["resourceType"], ())
        kept = {name: value for name, value in resource.items() if name not in lost}
        if "code.text" in lost:
            kept["code"] = {"coding": resource["code"]["coding"]}
        return kept

    def _outcome(self, status: int, resource: Json) -> WriteOutcome:
        reference = f"{resource['resourceType']}/{resource['id']}"
        return WriteOutcome(status, None, None if self.tells_no_place else reference)

    def _matches(self, resource: Json, params: Sequence[tuple[str, str]]) -> bool:
        return all(self._fits(resource, name, value.split(",")) for name, value in params)

    def _fits(self, resource: Json, name: str, values: Sequence[str]) -> bool:
        if name in {"identifier", "_tag"} and self.is_unlabelled:
            return True
        meta = resource.get("meta", {})
        shown = {
            "identifier": [f"{i['system']}|{i['value']}" for i in resource.get("identifier", [])],
            "_tag": [f"{t['system']}|{t['code']}" for t in meta.get("tag", [])],
            "_id": [resource["id"]],
            "patient": [resource.get("subject", {}).get("reference")],
            "code": [
                f"{c['system']}|{c['code']}" if "system" in c else c["code"]
                for c in resource.get("code", {}).get("coding", [])
            ],
        }
        return name not in shown or any(value in shown[name] for value in values)

    def _called(self, call: str) -> None:
        self.calls.append(call)
        if call == self.dies_at:
            self.dies_at = ""
            raise EhrUnreachable
        if self.away is not None:
            raise self.away

    def _answer(self) -> None:
        if self.loses_answers:
            self.loses_answers -= 1
            raise EhrTimeout


class FakeArchive:
    """Keeps DICOM files by the UID of their instance; `on_ask` is called first."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.listed: list[Listed] = []
        self.asked: list[str] = []
        self.away: Exception | None = None
        self.on_ask: Callable[[], None] = lambda: None

    def instances(self, study: str) -> list[Listed]:
        self.asked.append(study)
        if self.away is not None:
            raise self.away
        return [each for each in self.listed if each.instance.study == study]

    def instance(self, study: str, series: str, instance: str, *, max_bytes: int) -> bytes | None:
        self.asked.append(f"{study}/{series}/{instance}")
        self.on_ask()
        if self.away is not None:
            raise self.away
        found = self.files.get(instance)
        if found is not None and len(found) > max_bytes:
            raise EhrAnswerTooLarge
        return found


@dataclass(frozen=True)
class FakeConnection:
    client: FakeEhr
    archive: FakeArchive | None
    recipient: Recipient
    base_url: str = "http://ehr.test/fhir"
    oru: None = None


@dataclass
class FakeConnections:
    """The connection to the one EHR, unless the site has forgotten it."""

    known: FakeConnection | None

    def connection(self, system: str) -> FakeConnection:
        if self.known is None:
            raise ConfigurationError(f"The site has no system '{system}' (any more).")
        return self.known


class Hospital:
    """Everything in one folder, with a clock that a test turns."""

    def __init__(
        self,
        folder: Path,
        *,
        refusals: str = "none",
        site: Site | None = None,
        model: ToyModel | None = None,
        url: str = "",
    ) -> None:
        self.now = NOW
        self.url = url or f"sqlite:///{folder}/nadi.db"
        self.store = Store(
            self.url,
            Sealer(MasterKey(b"k" * 32)),
            clock=lambda: self.now,
            consents=CONSENT_KEY,
        )
        metadata.create_all(self.store.engine)
        self.site = site or _site(refusals)
        self.ehr, self.archive = FakeEhr(), FakeArchive()
        self.models = ToyModels(model or ToyModel())
        register_model(self.store, self.models.model.manifest, DIGEST)
        recipient = ladder_recipient(self.ehr, EhrAbilities(self.ehr))
        connection = FakeConnection(self.ehr, self.archive, recipient)
        self.ehrs = FakeConnections(connection)
        self.ports = Ports(
            store=self.store,
            site=lambda: self.site,
            models=self.models,
            ehrs=self.ehrs,
            owner="worker@one",
            lease_ms=LEASE_MS,
            backoff=Backoff(base_s=1, max_s=300, budget_s=3600),
            random=lambda: 0.5,
            clock=lambda: self.now,
        )
        self._intake = Intake(
            self.store,
            lambda: self.site,
            ModelWatch(self.store, every_s=0).current,
            process_name="api",
            after_commit=lambda: None,
        )

    def close(self) -> None:
        self.store.close()

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def explain(self) -> None:
        """Apply a site whose routes explain their results."""
        routes = tuple(replace(route, explain=True) for route in self.site.routes)
        self.site = replace(self.site, routes=routes)

    def remove_routes(self) -> None:
        """Apply a site that has no route any more."""
        self.site = replace(self.site, routes=())

    def retire_model(self, reason: str = "It was found wanting.") -> int:
        """Retire the toy model; give how many jobs that stopped."""
        with self.store.write() as uow:
            return retire(uow, DIGEST, reason, ACTOR)

    def forget_consents(self) -> None:
        """Begin as a process does: with no consent read yet."""
        self.store._consents = ConsentCache()

    # -- what the EHR pushes -----------------------------------------------------------------

    def push(self, *resources: Json) -> None:
        principal = Principal("c1", "ehr", Role.EHR, "ehr")
        self._intake(
            [
                Posting(
                    principal=principal,
                    system="ehr",
                    request_id=None,
                    address=None,
                    resource=parse_resource(orjson.dumps(resource)),
                )
                for resource in resources
            ]
        )

    def push_bundle(self, *entries: tuple[str | None, Json]) -> None:
        """Push a collection; each entry is its `fullUrl`, if it has one, and its resource."""
        bundle = {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [
                ({"fullUrl": url} if url else {}) | {"resource": each} for url, each in entries
            ],
        }
        principal = Principal("c1", "ehr", Role.EHR, "ehr")
        self._intake(
            [
                Posting(
                    principal=principal,
                    system="ehr",
                    request_id="r1",
                    address=None,
                    bundle=parse_bundle(orjson.dumps(bundle)),
                )
            ]
        )

    def admit_patient(self, name: str = "p1", consent: str | None = "permit") -> None:
        """Push a patient and, unless None, a consent."""
        self.push(patient(name))
        if consent is not None:
            self.push(consent_of(name, consent))

    # -- what the workers do -----------------------------------------------------------------

    def infer(self) -> int:
        with self.store.read() as uow:
            ids = [job_id for job_id, _ in ready(uow.jobs, 100)]
        return infer(ids, self.ports)

    def deliver(self) -> int:
        with self.store.read() as uow:
            ids = [delivery_id for delivery_id, _ in due(uow.deliveries, 100)]
        return deliver(ids, self.ports)

    # -- what came of it ---------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """Give all jobs, oldest first."""
        with self.store.read() as uow:
            return list(reversed(uow.jobs.find(JobFilter())))

    def job(self) -> Job:
        (found,) = self.jobs()
        return found

    def delivery(self) -> Delivery | None:
        with self.store.read() as uow:
            return uow.deliveries.of_jobs([self.job().id]).get(self.job().id)

    def audited(self) -> list[tuple[str, str]]:
        """Give event and outcome of every AuditEvent, oldest first."""
        with self.store.read() as uow:
            rows = uow.audit_log.search(AuditFilter(limit=1000))
        return [(row.event, row.outcome) for row in reversed(rows)]


@cache
def _site(refusals: str) -> Site:
    return load_site(SITE.replace("REFUSALS", refusals), version=1)


def patient(name: str = "p1") -> Json:
    return {"resourceType": "Patient", "id": name, "birthDate": "1970-01-01", "gender": "female"}


def consent_of(name: str = "p1", kind: str = "permit", version: str = "1") -> Json:
    return {
        "resourceType": "Consent",
        "id": f"consent-{name}",
        "meta": {"versionId": version},
        "status": "active",
        "scope": _coded("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy"),
        "category": [_coded("http://loinc.org", "59284-0")],
        "patient": {"reference": f"Patient/{name}"},
        "policyRule": _coded("http://terminology.hl7.org/CodeSystem/v3-ActCode", "OPTIN"),
        "provision": {"type": kind},
    }


def observation(
    value: float = 1.8,
    *,
    name: str = "o1",
    of: str = "p1",
    code: str = CREATININE,
    version: str = "1",
    at: datetime = NOW - timedelta(hours=1),
) -> Json:
    return {
        "resourceType": "Observation",
        "id": name,
        "meta": {"versionId": version},
        "status": "final",
        "code": _coded(LOINC, code),
        "subject": {"reference": f"Patient/{of}"},
        "encounter": {"reference": "Encounter/e1"},
        "effectiveDateTime": at.isoformat(),
        "valueQuantity": {
            "value": value,
            "unit": "mg/dL",
            "system": "http://unitsofmeasure.org",
            "code": "mg/dL",
        },
    }


def away() -> EhrUnreachable:
    return EhrUnreachable()


def busy(seconds: float) -> EhrUnreachable:
    return EhrUnreachable(retry_after_s=seconds)


def _coded(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}
