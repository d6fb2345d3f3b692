"""The HTTP side of the plain build: parse, store, commit, queue a task, answer 202."""

import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fhir.resources.R4B.consent import Consent
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.patient import Patient
from fhir.resources.R4B.resource import Resource
from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError

from benchmarks.plain.database import Base, Event, Job, Session, engine
from benchmarks.plain.settings import settings
from benchmarks.plain.worker import process

LOINC = "http://loinc.org"
TRIGGER_CODES = {"2160-0", "14682-9"}
MODELS: dict[str, type[Resource]] = {
    "Patient": Patient,
    "Consent": Consent,
    "Observation": Observation,
}


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    Base.metadata.create_all(engine)
    yield


app = FastAPI(title="Plain reference build", lifespan=_lifespan)


def check_token(authorization: Annotated[str, Header()] = "") -> None:
    """Let only the holder of the token in."""
    if not hmac.compare_digest(authorization.encode(), f"Bearer {settings.token}".encode()):
        raise HTTPException(401)


@app.get("/health/ready")
def ready() -> dict[str, str]:
    """Say that requests can be taken."""
    return {"status": "ready"}


@app.post("/fhir/{resource_type}", status_code=202, dependencies=[Depends(check_token)])
async def create(resource_type: str, request: Request, response: Response) -> dict[str, Any]:
    """Receive one resource."""
    if resource_type not in MODELS:
        raise HTTPException(404)
    body = await request.body()
    try:
        resource = MODELS[resource_type].model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(400, f"{error.error_count()} problems in the resource") from None
    job_id = await run_in_threadpool(_store, resource_type, resource, body.decode())
    if job_id is not None:
        await run_in_threadpool(process.delay, job_id)
        response.headers["Location"] = f"/jobs/{job_id}"
    return {"status": "accepted", "job": job_id}


@app.get("/jobs/{job_id}", dependencies=[Depends(check_token)])
def job(job_id: int) -> dict[str, Any]:
    """Tell how far a job is."""
    with Session() as session:
        found = session.get(Job, job_id)
        if found is None:
            raise HTTPException(404)
        result = json.loads(found.result) if found.result else None
        return {"status": found.status, "reason": found.reason, "result": result}


def _store(resource_type: str, resource: Resource, body: str) -> int | None:
    """Commit the event, with a job if it triggers the model; None when there is none to run."""
    meta = resource.meta
    received = Event(
        resource_type=resource_type,
        resource_id=resource.id,
        version=(meta and meta.versionId) or "",
        patient=_patient(resource),
        body=body,
    )
    with Session() as session:
        session.add(received)
        try:
            session.flush()
        except IntegrityError:
            return None
        job = Job(event_id=received.id) if _is_trigger(resource) else None
        if job:
            session.add(job)
        session.commit()
        return job.id if job else None


def _patient(resource: Resource) -> str:
    match resource:
        case Consent(patient=reference) | Observation(subject=reference) if reference:
            return str(reference.reference)
        case _:
            return f"Patient/{resource.id}"


def _is_trigger(resource: Resource) -> bool:
    if not isinstance(resource, Observation):
        return False
    codings = resource.code.coding or ()
    return any(c.system == LOINC and c.code in TRIGGER_CODES for c in codings)
