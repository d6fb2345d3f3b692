"""(6) How reports are put to an EHR: as one transaction Bundle, or one resource after the other.

* Every entry is a conditional create: `identifier` finds a Device or an Observation that is there
  already; a Provenance has no identifier in R4, so its tag does (`_tag`).
* Inside a Bundle the resources refer to each other by `urn:uuid:`, which the EHR replaces by the
  ids it gives; a Device whose place is known (`with_device`) is referred to there and not sent.
* One canonical spelling of each condition, since some EHRs compare the text of it.

Source: FHIR R4 RESTful API, transaction and conditional create.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


def transaction(reports: Sequence[Report]) -> Transaction:
    """Put reports into one transaction Bundle; a Device that they share stands in it once."""
    devices = {
        report.digest: report.device
        for report in reports
        if report.observation["device"]["reference"] == device_urn(report.digest)
    }
    entries = [
        _entry(device_urn(digest), device, device_condition(digest))
        for digest, device in devices.items()
    ]
    positions = []
    for report in reports:
        positions.append(len(entries))
        urn = observation_urn(report.identifier)
        entries.append(_entry(urn, report.observation, result_condition(report.identifier)))
    entries += [
        _entry(None, report.provenance, provenance_condition(report.identifier))
        for report in reports
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


def _entry(full_url: str | None, resource: Json, condition: str) -> Json:
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": condition}
    entry: Json = {"resource": resource, "request": request}
    return {"fullUrl": full_url, **entry} if full_url else entry
