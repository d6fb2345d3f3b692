"""(6) How reports are put to an EHR: as one transaction Bundle, or one resource after the other.

* Every entry is a conditional create: `identifier` finds a Device or an Observation that is there
  already; a Provenance has no identifier in R4, so its tag does (`_tag`).
* Inside a Bundle the resources refer to each other by `urn:uuid:`, which the EHR replaces by the
  ids it gives; a Device whose place is known (`with_device`) is referred to there and not sent.
* A report is put into a Bundle as the bytes in which it was stored; `StoredReport.opened` gives its
  resources where an EHR wants them changed.
* One canonical spelling of each condition, since some EHRs compare the text of it.

Source: FHIR R4 RESTful API, transaction and conditional create.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Self

import msgspec
import orjson

from gateway.core.findings import (
    DIGEST_SYSTEM,
    RESULT_SYSTEM,
    Json,
    Report,
    device_urn,
    observation_urn,
)

#: Reference to a Device that lies inside the Observation.
CONTAINED_DEVICE = "#model"


class _Identifier(msgspec.Struct):
    value: str


class _Identified(msgspec.Struct):
    identifier: tuple[_Identifier, ...]

    @property
    def first(self) -> str:
        return self.identifier[0].value


_PARTS = msgspec.json.Decoder(tuple[msgspec.Raw, msgspec.Raw, msgspec.Raw])
_IDENTIFIED = msgspec.json.Decoder(_Identified)
_ABSENT = b"null"


@dataclass(frozen=True)
class StoredReport:
    """A report as `Report.to_json` wrote it, cut into its resources and not yet opened.

    Attributes:
        identifier: Value of the Observation's identifier.
        digest: Digest of the model, the Device's identifier.
        observation: JSON of the Observation.
        device: JSON of the Device.
        provenance: JSON of the Provenance, where there is one.
    """

    identifier: str
    digest: str
    observation: bytes = field(repr=False)
    device: bytes = field(repr=False)
    provenance: bytes | None = field(repr=False)

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Cut what `Report.to_json` wrote.

        Raises:
            msgspec.DecodeError: It is not what `Report.to_json` writes.
        """
        observation, device, provenance = (bytes(part) for part in _PARTS.decode(body))
        return cls(
            _IDENTIFIED.decode(observation).first,
            _IDENTIFIED.decode(device).first,
            observation,
            device,
            None if provenance == _ABSENT else provenance,
        )

    def opened(self) -> Report:
        """Give its resources."""
        provenance = orjson.loads(self.provenance) if self.provenance else None
        return Report(orjson.loads(self.observation), orjson.loads(self.device), provenance)

    def placed(self, reference: str) -> "StoredReport":
        """Give the report with the Device's place in the EHR, as `with_device` does.

        Where the bytes name the Device just once, they are changed without being opened.
        """
        urn = _urn_start(self.digest)
        resources = [part for part in (self.observation, self.provenance) if part]
        if reference == CONTAINED_DEVICE or any(part.count(urn) != 1 for part in resources):
            return StoredReport.read(with_device(self.opened(), reference).to_json())
        place = _reference_start(reference)
        changed = self.provenance and self.provenance.replace(urn, place)
        return replace(self, observation=self.observation.replace(urn, place), provenance=changed)


@dataclass(frozen=True)
class Transaction:
    """A transaction Bundle, and where in it each report's Observation stands.

    Attributes:
        body: The Bundle as JSON.
        devices: Digests of the models whose Devices are the first entries, in their order.
        observations: For each report the index of its Observation among the entries.
        size: Number of entries.
    """

    body: bytes
    devices: tuple[str, ...]
    observations: tuple[int, ...]
    size: int


def transaction(reports: Sequence[StoredReport], places: Mapping[str, str]) -> Transaction:
    """Put reports into one transaction Bundle; a Device that they share stands in it once.

    Args:
        reports: What is to be written.
        places: `Device/<id>` by model digest, of the Devices that need not be sent.
    """
    devices = {each.digest: each.device for each in reports if each.digest not in places}
    placed = [r.placed(places[r.digest]) if r.digest in places else r for r in reports]
    entries = [
        _entry("Device", device, device_condition(digest), device_urn(digest))
        for digest, device in devices.items()
    ]
    positions = range(len(entries), len(entries) + len(reports))
    for report in placed:
        urn, condition = observation_urn(report.identifier), result_condition(report.identifier)
        entries.append(_entry("Observation", report.observation, condition, urn))
    entries += [
        _entry("Provenance", report.provenance, provenance_condition(report.identifier))
        for report in placed
        if report.provenance is not None
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    return Transaction(orjson.dumps(bundle), tuple(devices), tuple(positions), len(entries))


def result_condition(identifier: str) -> str:
    """Give the query that finds a result's Observation."""
    return f"identifier={RESULT_SYSTEM}|{identifier}"


def provenance_condition(identifier: str) -> str:
    """Give the query that finds a result's Provenance."""
    return f"_tag={RESULT_SYSTEM}|{identifier}"


def device_condition(digest: str) -> str:
    """Give the query that finds a model's Device."""
    return f"identifier={DIGEST_SYSTEM}|{digest}"


def with_device(report: Report, reference: str) -> Report:
    """Give the report with the Device's place in the EHR instead of its `urn:uuid:`.

    Args:
        report: The report.
        reference: `Device/<id>`, or `CONTAINED_DEVICE` for an EHR that takes no Device: then the
            Observation carries it, and the Provenance names it by its identifier.
    """
    observation = {**report.observation, "device": {"reference": reference}}
    who: Json = {"reference": reference}
    if reference == CONTAINED_DEVICE:
        observation["contained"] = [{**report.device, "id": CONTAINED_DEVICE.removeprefix("#")}]
        who = {"type": "Device", "identifier": report.device["identifier"][0]}
    if report.provenance is None:
        return replace(report, observation=observation)
    author, *others = report.provenance["agent"]
    named = {**author, "who": {**who, "display": author["who"]["display"]}}
    provenance = {**report.provenance, "agent": [named, *others]}
    return replace(report, observation=observation, provenance=provenance)


def provenance_of(report: Report, observation: str) -> Json | None:
    """Give the Provenance with the Observation's place in the EHR as its target."""
    if report.provenance is None:
        return None
    return {**report.provenance, "target": [{"reference": observation}]}


def is_result(resource: Json, identifier: str) -> bool:
    """Say whether an Observation is this result; an EHR may ignore what it was asked for."""
    return _has_identifier(resource, RESULT_SYSTEM, identifier)


def is_provenance(resource: Json, identifier: str) -> bool:
    """Say whether a Provenance is the one of this result."""
    tags = (resource.get("meta") or {}).get("tag") or ()
    return any((tag.get("system"), tag.get("code")) == (RESULT_SYSTEM, identifier) for tag in tags)


def is_device(resource: Json, digest: str) -> bool:
    """Say whether a Device is the one of this model."""
    return _has_identifier(resource, DIGEST_SYSTEM, digest)


def _has_identifier(resource: Json, system: str, value: str) -> bool:
    found = resource.get("identifier") or ()
    return any((each.get("system"), each.get("value")) == (system, value) for each in found)


@lru_cache(maxsize=64)
def _urn_start(digest: str) -> bytes:
    return _reference_start(device_urn(digest))


def _reference_start(reference: str) -> bytes:
    """Give how a Reference begins in JSON; no text inside a JSON string can look like it."""
    return orjson.dumps({"reference": reference})[:-1]


def _entry(
    resource_type: str, resource: bytes, condition: str, full_url: str | None = None
) -> Json:
    request = {"method": "POST", "url": resource_type, "ifNoneExist": condition}
    entry: Json = {"resource": orjson.Fragment(resource), "request": request}
    return {"fullUrl": full_url, **entry} if full_url else entry
