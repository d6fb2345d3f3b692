"""What a route would make of a sample: match, consent, features, result; nothing is kept or sent.

The sample stands in for what an EHR pushes. Where an installation is at hand, what it has on record
for the patient is taken into account, as the worker would; the EHR itself is not asked, so what
would be asked of it is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from adapters.site import Site
from adapters.site_trigger import Trigger
from gateway.core import clinical_time
from gateway.core.clock import utc_now
from gateway.core.consent import (
    ConsentDecision,
    ConsentRecord,
    ConsentRequest,
    decide,
    read_consent,
)
from gateway.core.errors import ConfigurationError
from gateway.core.event import Facts, facts
from gateway.core.fhir import BundleEntry, Resource, parse_bundle, parse_resource, resource_type_of
from gateway.core.findings import ResultContext, report, result_identifier
from gateway.core.routing import Route
from gateway.store.identity import dedupe_key
from gateway.store.unit_of_work import Store, UnitOfWork
from models.explained import Explained, NotExplained
from models.registry import InstalledModel
from models.runtime import Runtime
from models.tensors import stack
from workers.explaining import Answered, answer_and_explain_all
from workers.features import FeatureInput, Features, Refusal, extract, still_missing
from workers.models_loaded import OpenModel

Json = Mapping[str, Any]

_READ = ("Observation", "Patient")
#: Somebody waits for it at a terminal; as long as a worker's lease.
_EXPLAIN_WITHIN_S = 60.0


@dataclass(frozen=True)
class Sampled:
    """One valid resource of the sample, and what it says of itself."""

    resource: Resource
    facts: Facts

    @property
    def name(self) -> str:
        """How it is named here."""
        return f"{self.resource.type}/{self.facts.resource_id or '(no id)'}"

    @property
    def versioned(self) -> str | None:
        """Its versioned reference; None when it has no id."""
        if not self.facts.resource_id:
            return None
        version = self.facts.version_id
        return f"{self.name}/_history/{version}" if version else self.name


@dataclass(frozen=True)
class Sample:
    """A sample: its valid resources, and what is wrong with the others."""

    resources: tuple[Sampled, ...]
    problems: tuple[str, ...]


@dataclass
class Explanation:
    """What a route makes of one resource.

    Attributes:
        why_not: Why it does not match; None when it does.
        not_here: `system|code` that the EHR would be asked for.
        result: What would be written; None when there is nothing.
        explained: What moved it, where the route asks for it.
    """

    name: str
    why_not: str | None
    patient: str | None = None
    consent: ConsentDecision | None = None
    inputs: tuple[FeatureInput, ...] = ()
    refusal: Refusal | None = None
    not_here: tuple[str, ...] = ()
    result: Json | None = None
    explained: Explained | NotExplained | None = None
    notes: list[str] = field(default_factory=list)


def read_sample(file: Path, *, base_url: str | None) -> Sample:
    """Read a resource or a Bundle as the API would.

    Raises:
        ContentError: It is no JSON, or not a resource of FHIR R4.
        ConfigurationError: The file can't be read.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} can't be read: {error.strerror}.") from error
    if resource_type_of(raw) != "Bundle":
        found = parse_resource(raw)
        return Sample((Sampled(found, facts(found.content, base_url=base_url)),), ())
    entries = parse_bundle(raw).entries
    urns = _urns(entries)
    return Sample(
        tuple(
            Sampled(entry.resource, facts(entry.resource.content, base_url=base_url, urns=urns))
            for entry in entries
            if entry.resource is not None
        ),
        tuple(
            f"entry[{entry.index}]: {issue.expression or ''} {issue.diagnostics}".replace("  ", " ")
            for entry in entries
            for issue in entry.issues
        ),
    )


class Explainer:
    """Explains one route with the models, the site and the records at hand."""

    def __init__(
        self, site: Site, route: Route, model: InstalledModel | None, store: Store | None
    ) -> None:
        self._site = site
        self._route = route
        self._model = model
        self._store = store
        self._open: OpenModel | None = None

    def explain(self, sample: Sample) -> list[Explanation]:
        """Explain every resource of a sample."""
        return [self._one(each, sample) for each in sample.resources]

    def _one(self, each: Sampled, sample: Sample) -> Explanation:
        made = Explanation(each.name, self._why_not(each))
        if made.why_not is not None:
            return made
        made.patient = each.facts.patient
        if made.patient is None:
            made.notes.append("It names no patient: the job would be refused (patient-unknown).")
            return made
        made.consent = self._decide(made.patient, sample)
        if self._model is None:
            made.notes.append(f"Model {self._route.model} is not installed (model-unavailable).")
            return made
        self._infer(made, each, sample, self._model)
        return made

    def _why_not(self, each: Sampled) -> str | None:
        route = self._route
        if route.resource_type not in (None, each.resource.type):
            return f"the route looks at {route.resource_type} only"
        if isinstance(route.trigger, Trigger):
            return route.trigger.explain(each.resource.content)
        return None if route.trigger(each.resource.content) else "the expression gives nothing"

    def _decide(self, patient: str, sample: Sample) -> ConsentDecision:
        in_sample = [
            read_consent(each.resource.content, f"{each.name} (sample)", patient=each.facts.patient)
            for each in sample.resources
            if each.resource.type == "Consent"
        ]
        request = ConsentRequest(patient, self._route.purpose, utc_now())
        records = [*in_sample, *self._consents_on_record(patient)]
        return decide(request, records, default=self._route.consent_default)

    def _consents_on_record(self, patient: str) -> Sequence[ConsentRecord]:
        if self._store is None:
            return ()
        key = self._store.sealer.patient_key(self._route.source, patient)
        with self._store.read() as uow:
            return uow.events.consents([key])[key]

    def _infer(
        self, made: Explanation, each: Sampled, sample: Sample, model: InstalledModel
    ) -> None:
        resources = self._resources(made, sample)
        patients = [found for found in resources if found.get("resourceType") == "Patient"]
        at = clinical_time.clinical_time(each.resource.content) or utc_now()
        known: dict[str, Any] = {
            "patient": patients[-1] if patients else None,
            "at": at,
            "local_codes": self._site.local_codes,
        }
        wanted = still_missing(model.manifest, resources, **known)
        made.not_here = tuple(dict.fromkeys(f"{c.system}|{c.code}" for c in wanted))
        read = extract(model.manifest, resources, **known)
        if isinstance(read, Refusal):
            made.refusal = read
            return
        made.inputs = read.inputs
        made.result = self._result(each, made, read, at)

    def _resources(self, made: Explanation, sample: Sample) -> list[Json]:
        """Give what is known of the patient; the sample comes last and so counts as newer."""
        mine = [
            each.resource.content
            for each in sample.resources
            if each.facts.patient == made.patient and each.resource.type in _READ
        ]
        if self._store is None or made.consent is None or not made.consent.is_permitted:
            return list(mine)
        key = self._store.sealer.patient_key(self._route.source, str(made.patient))
        with self._store.read() as uow:
            return [*_record(uow, key), *mine]

    def _result(
        self, each: Sampled, made: Explanation, read: Features, at: datetime
    ) -> Json | None:
        model = self._loaded()
        answered = self._answered(model, read)
        made.explained = answered.explained
        content = each.resource.content
        effective = {name: value for name, value in content.items() if name.startswith("effective")}
        context = ResultContext(
            identifier=self._identifier(each),
            subject=str(made.patient),
            encounter=(content.get("encounter") or {}).get("reference"),
            effective=effective or {"effectiveDateTime": at.isoformat()},
            issued=utc_now(),
            trigger=each.versioned,
            with_provenance=self._route.with_provenance,
        )
        made_report = report(
            model.manifest,
            answered.row,
            inputs=read.inputs,
            context=context,
            runtime=model.facts,
            explained=answered.explained,
        )
        found: Json = orjson.loads(orjson.dumps(made_report.result))
        return found

    def _answered(self, model: OpenModel, read: Features) -> Answered:
        if self._route.explain:
            return answer_and_explain_all(model, [read.tensors], within_s=_EXPLAIN_WITHIN_S)[0]
        return Answered(model.predict(stack([read.tensors]))[0].tolist())

    def _identifier(self, each: Sampled) -> str:
        """Give the identifier that it would have; without the installation's key a stand-in."""
        digest = sha256(each.resource.raw).hexdigest()
        name = digest
        if self._store is not None:
            name = dedupe_key(self._store.sealer, self._route.source, each.facts, digest)
        route = self._route
        return result_identifier(route.source, name, route.name, self._loaded().facts.model_digest)

    def _loaded(self) -> OpenModel:
        if self._open is None:
            if self._model is None:
                raise ConfigurationError(f"Model {self._route.model} is not installed.")
            self._open = OpenModel(Runtime(self._model))
        return self._open


def _record(uow: UnitOfWork, key: str) -> list[Json]:
    found = uow.events.record(key, _READ)
    uow.patient_keys.load([key])
    return [orjson.loads(uow.events.content(event)) for event in found]


def _urns(entries: Sequence[BundleEntry]) -> dict[str, str]:
    return {
        entry.full_url: f"{entry.resource.type}/{entry.resource.content['id']}"
        for entry in entries
        if entry.full_url and entry.resource and "id" in entry.resource.content
    }
