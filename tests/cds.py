"""An EHR that asks by CDS Hooks, and a worker behind the API that answers in time, or not."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from adapters.site import SiteWatch
from gateway.core.delivery import Backoff
from gateway.store.unit_of_work import Store
from models.library import Library
from models.registry import REFERENCE_MODELS
from tests.conftest import Api
from tests.factories import SITE, bundle, consent, creatinine, patient, raw
from tests.waiting import ready
from workers.ehrs import Ehrs
from workers.inference import infer
from workers.models_loaded import OpenModels
from workers.ports import Ports

Json = dict[str, Any]

BASE = "https://nadi.test"
ISSUER = "https://ehr.test"
SERVICE = "ckd-risk-patient-view"
_LOINC = "http://loinc.org"
#: Inputs of ckd-risk beside creatinine: template, code, value, unit.
OTHERS = (
    ("urea", "3091-6", 90.0, "mg/dL"),
    ("sodium", "2951-2", 132.0, "mmol/L"),
    ("potassium", "2823-3", 5.4, "mmol/L"),
    ("haemoglobin", "718-7", 9.1, "g/dL"),
    ("diastolic", "8462-4", 90.0, "mm[Hg]"),
    ("haematocrit", "4544-3", 28.0, "%"),
    ("leukocytes", "6690-2", 9.0, "10*3/uL"),
    ("erythrocytes", "789-8", 3.4, "10*6/uL"),
    ("glucose", "2345-7", 120.0, "mg/dL"),
)


@cache
def key() -> ECKey:
    """The EHR's own key."""
    return ECKey.generate_key("P-384", parameters={"kid": "ehr-1"})


def cds_site(within_ms: int = 5000, base_url: str = "http://ehr.test/fhir") -> str:
    """A site whose EHR asks by CDS Hooks."""
    public = orjson.dumps(key().as_dict(private=False)).decode()
    site = SITE.replace("http://ehr.test/fhir", base_url).replace(
        "    sink: {system: ehr}\n",
        "    sink: {system: ehr}\n    cds_hooks: {hooks: [patient-view, order-sign]}\n",
    )
    return f"""{site}cds_hooks:
  base_url: {BASE}
  within_ms: {within_ms}
  clients:
    ehr: {{system: ehr, issuer: "{ISSUER}", keys: [{public}], origins: ["https://ehr.test"]}}
"""


def token(path: str, signed_by: ECKey | RSAKey | None = None, alg: str = "ES384", **claims: Any):
    """Make a token for one call of an address."""
    now = int(time.time())
    said = {
        "iss": ISSUER,
        "aud": f"{BASE}{path}",
        "iat": now,
        "exp": now + 300,
        "jti": str(uuid.uuid4()),
        **claims,
    }
    kept = {name: value for name, value in said.items() if value is not None}
    signing = signed_by or key()
    return jwt.encode({"alg": alg, "typ": "JWT"}, kept, signing, algorithms=[alg])


def chart(number: int = 1, creatinine_at: str = "2026-11-20T08:00:00+05:30") -> Json:
    """What an EHR brings along of one patient: enough for ckd-risk."""
    whose = f"Patient/p{number}"
    found: Json = {"patient": patient(number)}
    found["creatinine"] = bundle(
        creatinine(f"{number}-crea", whose, effectiveDateTime=creatinine_at), kind="searchset"
    )
    for name, code, value, unit in OTHERS:
        observed = creatinine(
            f"{number}-{name}",
            whose,
            code={"coding": [{"system": _LOINC, "code": code}]},
            valueQuantity={
                "value": value,
                "unit": unit,
                "system": "http://unitsofmeasure.org",
                "code": unit,
            },
        )
        found[name] = bundle(observed, kind="searchset")
    return found


def request(number: int = 1, *, hook: str = "patient-view", **changed: Any) -> Json:
    """A call of a service as the standard shows it, with all that is asked for."""
    asked: Json = {
        "hook": hook,
        "hookInstance": str(uuid.uuid4()),
        "context": {"userId": "Practitioner/dr1", "patientId": f"p{number}"},
        "prefetch": chart(number),
        **changed,
    }
    return asked


class Ehr:
    """Asks."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def ask(self, body: Json | bytes, service: str = SERVICE, **headers: str):
        """Call a service with a token of its own."""
        return self.post(f"/cds-services/{service}", body, **headers)

    def post(self, path: str, body: Json | bytes, **headers: str):
        given = {
            "Authorization": f"Bearer {token(path)}",
            "Content-Type": "application/json",
            **headers,
        }
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.api.client.post(path, content=content, headers=given)

    def permit(self, number: int = 1, kind: str = "permit") -> None:
        """Push a consent of a patient."""
        said = consent(number, f"Patient/p{number}")
        said["provision"]["type"] = kind
        assert self.api.post(raw(said), "/fhir/Consent").status_code == 202

    def card(self, body: Json, service: str = SERVICE) -> Json:
        answer = self.ask(body, service)
        assert answer.status_code == 200, answer.text
        (card,) = answer.json()["cards"]
        return dict(card)


def ports_of(store: Store, imported: Path) -> Ports:
    """Give the outside of a worker with the models that come with Nadi."""
    watch = SiteWatch(store, every_s=0)
    return Ports(
        store=store,
        site=watch.current,
        models=OpenModels(Library(REFERENCE_MODELS, imported)),
        ehrs=Ehrs(watch.current, store=store, timeout_s=0.2),
        owner="worker@test",
        lease_ms=60_000,
        backoff=Backoff(base_s=1, max_s=5, budget_s=60),
        random=lambda: 0.5,
    )


@contextmanager
def working(store: Store, imported: Path) -> Iterator[None]:
    """Run what is ready, as the relay and a worker do."""
    ports = ports_of(store, imported)
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.01):
            with store.read() as uow:
                ids = [job_id for job_id, _ in ready(uow.jobs)]
            if ids:
                infer(ids, ports)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()
