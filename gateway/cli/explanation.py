"""What a route would make of a sample: match, consent, features, result; nothing is kept or sent.

The sample stands in for what an EHR pushes. Where an installation is at hand, what it has on record
for the patient is taken into account, as the worker would; the EHR itself is not asked, so what
would be asked of it is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson

from adapters.site import Site
from adapters.site_trigger import Trigger
from gateway.cli.sample import Sample, Sampled
from gateway.cli.sample_documents import SampleShelf, WouldAsk
from gateway.core import clinical_time
from gateway.core.clock import utc_now
from gateway.core.consent import (
    READ,
    About,
    ConsentDecision,
    ConsentRecord,
    Model,
    Question,
    question,
    read_consent,
)
from gateway.core.errors import ConfigurationError
from gateway.core.event import effective_element, encounter_of, reference_of
from gateway.core.findings import ResultContext, report, result_identifier
from gateway.core.routing import Route
from gateway.store.identity import dedupe_key
from gateway.store.unit_of_work import Store, UnitOfWork
from models.explained import Explained, NotExplained
from models.manifest import Manifest
from models.registry import InstalledModel
from models.runtime import Runtime
from models.tensors import stack
from workers.documents import DocumentRefused, kind_of, read_document, refusal_of
from workers.explaining import Answered, answer_and_explain_all
from workers.features import FeatureInput, Features, Refusal, extract, still_missing
from workers.masking import attached_parted, labels_of_made, parted, refusal_of_hidden
from workers.models_loaded import OpenModel
from workers.shelf import Shelf

Json = Mapping[str, Any]

_READ = ("Observation", "Patient")
#: Somebody waits for it at a terminal; as long as a worker's lease.
_EXPLAIN_WITHIN_S = 60.0


@dataclass
class Explanation:
    """What a route makes of one resource.

    Attributes:
        why_not: Why it does not match; None when it does.
        question: What is asked of the patient's consents about each resource.
        not_here: `system|code` that the EHR would be asked for.
        known: What the model may read.
        result: What would be written; None when there is nothing.
        explained: What moved it, where the route asks for it.
    """

    name: str
    why_not: str | None
    patient: str | None = None
    question: Question | None = None
    consent: ConsentDecision | None = None
    inputs: tuple[FeatureInput, ...] = ()
    refusal: Refusal | None = None
    not_here: tuple[str, ...] = ()
    result: Json | None = None
    explained: Explained | NotExplained | None = None
    known: list[Json] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Explainer:
    """Explains one route with the models, the site and the records at hand."""

    def __init__(
        self,
        site: Site,
        route: Route,
        model: InstalledModel | None,
        store: Store | None,
        *,
        obeys: bool = False,
    ) -> None:
        """Take the route and what is at hand.

        Args:
            site: The site.
            route: The route.
            model: Its model; None where it is not in service.
            store: The installation's database; None where there is none.
            obeys: Whether the model is not asked where consent does not permit it; otherwise it is
                told what would be if it did, from the sample alone.
        """
        self._obeys = obeys
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
        made.question = self._question(made.patient, sample)
        made.consent = made.question.decide(each.resource.content)
        if self._model is None:
            made.notes.append(f"Model {self._route.model} is not in service (model-unavailable).")
            return made
        if made.consent.is_permitted or not self._obeys:
            self._infer(made, each, sample, self._model)
        return made

    def _why_not(self, each: Sampled) -> str | None:
        route = self._route
        if route.resource_type not in (None, each.resource.type):
            return f"the route looks at {route.resource_type} only"
        if isinstance(route.trigger, Trigger):
            return route.trigger.explain(each.resource.content)
        return None if route.trigger(each.resource.content) else "the expression gives nothing"

    def _question(self, patient: str, sample: Sample) -> Question:
        in_sample = [
            read_consent(one.resource.content, f"{one.name} (sample)", patient=one.facts.patient)
            for one in sample.resources
            if one.resource.type == "Consent"
        ]
        records = [*in_sample, *self._consents_on_record(patient)]
        digest = self._model.digest if self._model else ""
        about = About(patient, None, utc_now())
        return question(self._route.asks, about, records, Model(self._route.model, digest), READ)

    def _consents_on_record(self, patient: str) -> Sequence[ConsentRecord]:
        if self._store is None:
            return ()
        key = self._store.sealer.patient_key(self._route.source, patient)
        with self._store.read() as uow:
            return uow.consents.of([key], self._site.abdm_policy)[key]

    def _infer(
        self, made: Explanation, each: Sampled, sample: Sample, model: InstalledModel
    ) -> None:
        asked = self._limits(made)
        resources: Sequence[Json] = self._resources(made, sample)
        resources, hidden = parted(asked, resources) if asked else (resources, ())
        patients = [found for found in resources if found.get("resourceType") == "Patient"]
        made.known.extend(resources)
        at = _time_of(each)
        known: dict[str, Any] = {
            "patient": patients[-1] if patients else None,
            "at": at,
            "local_codes": self._site.local_codes,
        }
        made.refusal = refusal_of_hidden(model.manifest, hidden, at, self._site.local_codes)
        if made.refusal is not None:
            return
        wanted = still_missing(model.manifest, resources, **known)
        made.not_here = tuple(dict.fromkeys(f"{c.system}|{c.code}" for c in wanted))
        read = extract(model.manifest, resources, trigger=each.resource.content, **known)
        if isinstance(read, Refusal):
            made.refusal = read
            return
        made.inputs = read.inputs
        whole = self._with_document(made, each, sample, read)
        if whole is not None:
            made.inputs = whole.used
            made.result = self._result(each, made, whole)

    def _with_document(
        self, made: Explanation, each: Sampled, sample: Sample, read: Features
    ) -> Features | None:
        """Add the image or note that the model reads; None where there is none, and say why."""
        model = self._loaded()
        if kind_of(model.manifest) is None:
            return read
        content = each.resource.content
        shelves = SampleShelf(self._site, self._route, sample, self._readable(made))
        try:
            shelf = self._shown(made, shelves.of(str(made.patient), content), model.manifest)
            if shelf is None:
                return None
            document = read_document(model.manifest, model.encoder, content, shelf)
        except WouldAsk as asked:
            made.not_here = (*made.not_here, str(asked))
            made.notes.append("The EHR would be asked for it: put it into the sample to see more.")
            return None
        except DocumentRefused as refused:
            made.refusal = refusal_of(model.manifest, refused, content)
            return None
        tensors = {**read.tensors, **document.tensors}
        return replace(read, tensors=tensors, documents=(document.input,))

    def _limits(self, made: Explanation) -> Question | None:
        """Give what each resource is asked by; None where all is permitted or nothing is.

        Where nothing is permitted, it is told what would be if the patient consented.
        """
        is_permitted = made.consent is not None and made.consent.is_permitted
        asked = made.question
        return asked if is_permitted and asked is not None and asked.is_limited else None

    def _shown(self, made: Explanation, shelf: Shelf, manifest: Manifest) -> Shelf | None:
        """Take what consent hides from a shelf; None, with the refusal, if the model reads that."""
        asked = self._limits(made)
        if asked is None:
            made.known.extend(shelf.received.values())
            return shelf
        shown, hidden = attached_parted(asked, shelf.received)
        made.known.extend(shown.values())
        # An image or a text counts whatever its time.
        made.refusal = refusal_of_hidden(manifest, hidden, utc_now(), self._site.local_codes)
        return replace(shelf, received=shown) if made.refusal is None else None

    def _readable(self, made: Explanation) -> Store | None:
        """Give the store where what is on record may be read."""
        is_permitted = made.consent is not None and made.consent.is_permitted
        return self._store if is_permitted else None

    def _resources(self, made: Explanation, sample: Sample) -> list[Json]:
        """Give what is known of the patient; the sample comes last and so counts as newer."""
        mine = [
            each.resource.content
            for each in sample.resources
            if each.facts.patient == made.patient and each.resource.type in _READ
        ]
        store = self._readable(made)
        if store is None:
            return list(mine)
        key = store.sealer.patient_key(self._route.source, str(made.patient))
        with store.read() as uow:
            return [*_record(uow, key), *mine]

    def _result(self, each: Sampled, made: Explanation, read: Features) -> Json | None:
        model = self._loaded()
        answered = self._answered(model, read)
        made.explained = answered.explained
        content = each.resource.content
        context = ResultContext(
            identifier=self._identifier(each),
            subject=str(made.patient),
            encounter=encounter_of(content),
            effective=effective_element(content)
            or {"effectiveDateTime": _time_of(each).isoformat()},
            issued=utc_now(),
            trigger=reference_of(content) or None,
            with_provenance=self._route.with_provenance,
            labels=labels_of_made(content, made.known, read.sources, self._route),
        )
        made_report = report(
            model.manifest,
            answered.row,
            inputs=read.used,
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
                raise ConfigurationError(f"Model {self._route.model} is not in service.")
            self._open = OpenModel(Runtime(self._model))
        return self._open


def _time_of(each: Sampled) -> datetime:
    return clinical_time.clinical_time(each.resource.content) or each.facts.effective or utc_now()


def _record(uow: UnitOfWork, key: str) -> list[Json]:
    found = uow.events.record(key, _READ)
    uow.patient_keys.load([key])
    return [orjson.loads(uow.events.content(event)) for event in found]
