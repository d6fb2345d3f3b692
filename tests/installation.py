"""An installation without processes: keys, database, site and credentials in a folder.

Resources are received as the API receives them, and the audit log is integrated as the relay does;
inference and delivery are left to the tests of a whole Nadi.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from adapters.site import Site, SiteWatch
from gateway.api.arrivals import Posting
from gateway.api.intake import Intake
from gateway.cli.prepare import prepare_data
from gateway.core.clock import new_id
from gateway.core.fhir import parse_bundle, parse_resource
from gateway.core.principal import Principal, Role
from gateway.settings import Settings
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.keys import Keys, load_or_create
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store

DIGEST = "d" * 64


@dataclass
class Installation:
    """What the tests reach."""

    folder: Path
    settings: Settings
    keys: Keys
    store: Store

    def receive(self, *resources: Mapping[str, Any]) -> list[str]:
        """Receive resources one by one; give the ids of their events."""
        parsed = [parse_resource(orjson.dumps(resource)) for resource in resources]
        postings = [self._posting(resource=each) for each in parsed]
        return [receipt.event.id for [receipt] in self._intake()(postings) if receipt.event]

    def receive_bundle(self, *resources: Mapping[str, Any]) -> None:
        """Receive a collection."""
        entries = [{"resource": resource} for resource in resources]
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
        self._intake()([self._posting(bundle=parse_bundle(orjson.dumps(bundle)))])

    def integrate(self) -> None:
        """Do once what the relay does every few seconds."""
        with self.store.write() as uow:
            uow.audit_log.integrate(self.keys.signing, self.keys.origin)
            note = uow.audit_log.newest_checkpoint()
        CheckpointFile(self.folder).append(note or "")

    def site(self) -> Site:
        """Give the site in force."""
        return SiteWatch(self.store).current()

    def _intake(self) -> Intake:
        models = {"ckd-risk@1": DIGEST}
        return Intake(
            self.store,
            self.site,
            lambda: models,
            process_name="api",
            after_commit=lambda: None,
        )

    def _posting(self, **content: Any) -> Posting:
        principal = Principal(new_id(), "the EHR", Role.EHR, "ehr")
        return Posting(
            principal=principal, system="ehr", request_id=new_id(), address=None, **content
        )


@contextmanager
def installation(folder: Path) -> Iterator[Installation]:
    """Make an installation with the sandbox's site in an empty folder."""
    prepare_data(Settings(data_dir=folder), sandbox=True)
    with reopened(folder) as made:
        yield made


@contextmanager
def reopened(folder: Path) -> Iterator[Installation]:
    """Open an installation that was made before."""
    settings = Settings(data_dir=folder)
    keys = load_or_create(folder)
    store = Store(settings.resolved_database_url, Sealer(keys.master), consents=keys.consents)
    try:
        yield Installation(folder, settings, keys, store)
    finally:
        store.close()


def consent(patient: str, *, rule: str = "permit", version: str = "1") -> dict[str, Any]:
    """Give a Consent of a patient to treatment."""
    return {
        "resourceType": "Consent",
        "id": f"{patient}-consent",
        "meta": {"versionId": version, "lastUpdated": f"2026-11-0{version}T08:00:00Z"},
        "status": "active",
        "scope": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/consentscope",
                    "code": "patient-privacy",
                }
            ]
        },
        "category": [{"text": "privacy"}],
        "patient": {"reference": f"Patient/{patient}"},
        "policyRule": {"text": "the hospital's"},
        "provision": {"type": rule},
    }


def creatinine(patient: str, number: int = 1) -> dict[str, Any]:
    """Give a result that starts the sandbox's route."""
    return {
        "resourceType": "Observation",
        "id": f"{patient}-creatinine-{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": "2026-11-20T08:00:00Z",
        "valueQuantity": {
            "value": 1.4,
            "unit": "mg/dL",
            "system": "http://unitsofmeasure.org",
            "code": "mg/dL",
        },
    }
