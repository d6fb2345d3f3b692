"""The Celery side of the plain build: one task per event, everything with its defaults."""

import json
from datetime import datetime
from functools import cache
from typing import Any

import httpx
import numpy as np
import onnxruntime
from celery import Celery
from sqlalchemy import select
from sqlalchemy.orm import Session as OrmSession

from adapters.sandbox.ward_labs import LOCAL_CODES
from benchmarks.plain.consent import is_permitted
from benchmarks.plain.database import Event, Job, Session
from benchmarks.plain.observation import IDENTIFIER_SYSTEM, result_identifier, result_observation
from benchmarks.plain.settings import settings
from models.registry import InstalledModel, load_installed
from workers.features import Refusal, extract

app = Celery("plain", broker=settings.broker_url)


@app.task(  # type: ignore[untyped-decorator]  # Celery has no types
    autoretry_for=(httpx.HTTPError,), retry_backoff=True, max_retries=10
)
def process(job_id: int) -> None:
    """Check consent, read the record, run the model, send the result, store the status."""
    with Session() as session:
        job = session.get_one(Job, job_id)
        trigger = session.get_one(Event, job.event_id)
        record = _record(session, trigger.patient)
        if not is_permitted(record["Consent"]):
            job.status, job.reason = "rejected", "consent-denied"
        else:
            _run(job, json.loads(trigger.body), record)
        session.commit()


def _record(session: OrmSession, patient: str) -> dict[str, list[dict[str, Any]]]:
    """Read everything on record for a patient, by type, the oldest first."""
    found = session.scalars(select(Event).where(Event.patient == patient).order_by(Event.id))
    record: dict[str, list[dict[str, Any]]] = {"Patient": [], "Consent": [], "Observation": []}
    for each in found:
        record[each.resource_type].append(json.loads(each.body))
    return record


def _run(job: Job, trigger: dict[str, Any], record: dict[str, list[dict[str, Any]]]) -> None:
    model, session = _model(), _session()
    features = extract(
        model.manifest,
        record["Observation"],
        patient=record["Patient"][-1] if record["Patient"] else None,
        at=datetime.fromisoformat(trigger["effectiveDateTime"]),
        local_codes=LOCAL_CODES,
    )
    if isinstance(features, Refusal):
        job.status, job.reason = "rejected", features.reason
        return
    batch = features.vector.reshape(1, -1)
    (answer,) = session.run(None, {session.get_inputs()[0].name: batch})
    probability, identifier = float(np.asarray(answer)[0, 0]), result_identifier(model, trigger)
    observation = result_observation(model, probability, identifier, trigger, features)
    body = observation.model_dump_json()
    _send(body, identifier)
    job.result = body
    job.status = "completed"


def _send(body: str, identifier: str) -> None:
    answer = _client().post(
        f"{settings.ehr_url}/Observation",
        content=body,
        headers={
            "Content-Type": "application/fhir+json",
            "If-None-Exist": f"identifier={IDENTIFIER_SYSTEM}|{identifier}",
        },
    )
    answer.raise_for_status()


@cache
def _model() -> InstalledModel:
    return load_installed()["ckd-risk"]


@cache
def _session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(_model().weights())


@cache
def _client() -> httpx.Client:
    return httpx.Client()
