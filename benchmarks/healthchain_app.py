"""HealthChain doing the nearest thing it can: a result comes in, an Observation goes to the EHR.

Written from HealthChain's own documentation: a `HealthChainAPI` with a `FHIRGateway`, a `Pipeline`
of two nodes (read the features, run the model), and the gateway's `create` for the write-back.

What it has no part for, and so does not do here: nothing is kept on disk (the records live in this
process and are gone with it), no consent is asked, nothing is audited, nothing is retried, a repeat
makes a second Observation. It answers when the result is in the EHR.

Where it was given an advantage: it reads the features with Nadi's code, so that both feed the model
the same; it finds the records in memory; one connection to the EHR is kept, where the gateway would
open one (over TLS, whatever the EHR speaks) for every call; no access log.
"""

import os
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import orjson
from fastapi import Request, Response
from fhir.resources.R4B.codeableconcept import CodeableConcept
from fhir.resources.R4B.coding import Coding
from fhir.resources.R4B.consent import Consent
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.patient import Patient
from fhir.resources.R4B.quantity import Quantity
from fhir.resources.R4B.reference import Reference
from healthchain.gateway.api.app import (  # type: ignore[import-not-found]  # another environment
    HealthChainAPI,
)
from healthchain.gateway.clients.fhir.base import (  # type: ignore[import-not-found]
    FHIRAuthConfig,
    FHIRServerInterface,
)
from healthchain.gateway.clients.fhir.sync.client import (  # type: ignore[import-not-found]
    create_fhir_client,
)
from healthchain.gateway.clients.fhir.sync.connection import (  # type: ignore[import-not-found]
    FHIRConnectionManager,
)
from healthchain.gateway.fhir.sync import FHIRGateway  # type: ignore[import-not-found]
from healthchain.io.containers import Document  # type: ignore[import-not-found]
from healthchain.pipeline.base import Pipeline  # type: ignore[import-not-found]
from starlette.concurrency import run_in_threadpool

from adapters.sandbox.ward_labs import LOCAL_CODES
from models.registry import InstalledModel, load_installed
from workers.features import Features, Refusal, extract

_TYPES = {"Patient": Patient, "Consent": Consent, "Observation": Observation}
_TRIGGERS = {"2160-0", "14682-9"}
_RECORDS: dict[str, list[dict[str, Any]]] = {}


class _PlainHttp(FHIRConnectionManager):  # type: ignore[misc]  # it has no types here
    """Keeps one client, over plain HTTP as the stand-in EHR speaks it."""

    @cache  # noqa: B019 - there is one manager, as long as the process lives
    def get_client(self, source: str | None = None) -> FHIRServerInterface:
        address = self._connection_strings[source or next(iter(self.sources))]
        url = address.replace("fhir://", "http://", 1)
        return create_fhir_client(auth_config=FHIRAuthConfig(base_url=url))


gateway = FHIRGateway()
gateway.connection_manager = _PlainHttp()
gateway.add_source("ehr", f"fhir://{os.environ['HEALTHCHAIN_EHR']}")
app = HealthChainAPI(title="HealthChain")
app.register_gateway(gateway)
pipeline: Any = Pipeline()


@pipeline.add_node
def read_features(document: Document) -> Document:
    """Read what the model wants from the record."""
    trigger, record = document.data["trigger"], document.data["record"]
    patients = [each for each in record if each["resourceType"] == "Patient"]
    document.data["features"] = extract(
        _model().manifest,
        [each for each in record if each["resourceType"] == "Observation"],
        patient=patients[-1] if patients else None,
        at=datetime.fromisoformat(trigger["effectiveDateTime"]),
        local_codes=LOCAL_CODES,
    )
    return document


@pipeline.add_node
def predict(document: Document) -> Document:
    """Run the model on them."""
    features = document.data["features"]
    if isinstance(features, Features):
        session = _session()
        batch = {session.get_inputs()[0].name: features.vector.reshape(1, -1)}
        document.data["probability"] = float(np.asarray(session.run(None, batch)[0])[0, 0])
    return document


@app.post("/fhir/{resource_type}")
async def receive(resource_type: str, request: Request) -> Response:
    """Take one resource; where it starts the model, answer when the result is in the EHR."""
    body = await request.body()
    parsed = _TYPES[resource_type].model_validate_json(body)
    resource = orjson.loads(body)
    record = _RECORDS.setdefault(_patient(resource), [])
    record.append(resource)
    if _starts_model(parsed):
        await run_in_threadpool(_answer, resource, list(record))
    return Response(status_code=202)


def _answer(trigger: dict[str, Any], record: list[dict[str, Any]]) -> None:
    document = pipeline(Document(data={"trigger": trigger, "record": record}))
    features = document.data["features"]
    if not isinstance(features, Refusal):
        gateway.create(_observation(trigger, features, document.data["probability"]), "ehr")


def _observation(trigger: dict[str, Any], features: Features, probability: float) -> Observation:
    output = _model().manifest.outputs[0]
    coding = Coding(system=output.code.system, code=output.code.code)
    sources = [each for each in features.sources if each.startswith("Observation/")]
    return Observation(
        status="preliminary",
        code=CodeableConcept(coding=[coding], text=output.code.display),
        subject=Reference(reference=trigger["subject"]["reference"]),
        effectiveDateTime=trigger["effectiveDateTime"],
        issued=datetime.now(UTC),
        valueQuantity=Quantity(value=probability, unit=output.unit),
        derivedFrom=[Reference(reference=each) for each in sources],
    )


def _patient(resource: dict[str, Any]) -> str:
    if resource["resourceType"] == "Patient":
        return f"Patient/{resource['id']}"
    return str((resource.get("subject") or resource["patient"])["reference"])


def _starts_model(resource: Any) -> bool:  # noqa: ANN401 - of fhir.resources, which has no types
    codings = resource.code.coding if isinstance(resource, Observation) else None
    return any(coding.code in _TRIGGERS for coding in codings or ())


@cache
def _model() -> InstalledModel:
    return load_installed()["ckd-risk"]


@cache
def _session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(_model().weights())
