"""(6) How reports are put to an EHR: as one transaction Bundle, as batches, or one by one.

* Every entry is a conditional create: `identifier` finds a Device, a result or an attachment that
  is there already; a Provenance has no identifier in R4, so its tag does (`_tag`).
* Inside a Bundle the resources refer to each other by `urn:uuid:`, which the EHR replaces by the
  ids it gives; a Device whose place is known (`with_device`) is referred to there and not sent.
* A report is put into a Bundle as the bytes in which it was stored; `StoredReport.opened` gives its
  resources where an EHR wants them changed.
* An EHR that has no RiskAssessment or no Media gets what it can keep (`as_observation`,
  `without_attachments`); what was changed for it is remembered with the result.
* One canonical spelling of each condition, since some EHRs compare the text of it.

Source: FHIR R4 RESTful API, transaction and conditional create.
"""

from collections.abc import Callable, Mapping, Sequence
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
    result_urn,
)
from gateway.core.ladder import Rung, Terms
from gateway.core.result_carriers import carried, in_words

#: Reference to a Device that lies inside the result.
CONTAINED_DEVICE = "#model"

#: What is said of a result that was changed for an EHR.
AS_OBSERVATION = "as Observation"
WITHOUT_MEDIA = "without Media"
WITHOUT_PROVENANCE = "without Provenance"

#: The element in which a resource names the Device that made it; R4 has none in a DiagnosticReport.
_MADE_BY = {
    "Observation": "device",
    "RiskAssessment": "performer",
    "Media": "device",
    "DocumentReference": "author",
    "Communication": "sender",
    "Task": "requester",
}
#: Where that is a list.
_SEVERAL = frozenset({"DocumentReference"})


class _Identifier(msgspec.Struct):
    value: str


class _Identified(msgspec.Struct):
    identifier: tuple[_Identifier, ...]
    resource_type: str = msgspec.field(name="resourceType")

    @property
    def first(self) -> str:
        return self.identifier[0].value


class _More(msgspec.Struct):
    attachments: tuple[msgspec.Raw, ...] = ()
    instead: msgspec.Raw = msgspec.Raw()


_PARTS = msgspec.json.Decoder(list[msgspec.Raw])
_IDENTIFIED = msgspec.json.Decoder(_Identified)
_MORE = msgspec.json.Decoder(_More)
_NO_MORE = _More()
_ABSENT = b"null"


@dataclass(frozen=True)
class StoredReport:
    """A report as `Report.to_json` wrote it, cut into its resources and not yet opened.

    Attributes:
        identifier: Value of the result's identifier.
        digest: Digest of the model, the Device's identifier.
        resource_type: Of the result.
        result: JSON of the result.
        device: JSON of the Device.
        provenance: JSON of the Provenance, where there is one.
        attachments: JSON of each Media that belongs to the result.
        instead: JSON of the Observation for an EHR without the result's type, where there is one.
        changed: In what it differs from what the manifest wants, for the sake of the EHR.
        terms: In which forms it may go.
        taken: Places in the EHR that are known to be of other results of this patient.
        before: The Observation as an earlier attempt may have written it, where that differs.
        patient: JSON of the Patient as received, where no FHIR API can be asked for it.
        has_card: Whether it is shown as a card where the chart is opened.
        may_stand_again: Whether one that stands there as an error is to be written over: it was
            taken back for the sake of its label, and nobody ordered that it be withdrawn.
    """

    identifier: str
    digest: str
    resource_type: str
    result: bytes = field(repr=False)
    device: bytes = field(repr=False)
    provenance: bytes | None = field(repr=False)
    attachments: tuple[bytes, ...] = field(default=(), repr=False)
    instead: bytes | None = field(default=None, repr=False)
    changed: tuple[str, ...] = ()
    terms: Terms = field(default_factory=Terms)
    taken: frozenset[str] = field(default=frozenset(), repr=False)
    before: bytes | None = field(default=None, repr=False)
    patient: bytes | None = field(default=None, repr=False)
    has_card: bool = False
    may_stand_again: bool = False

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Cut what `Report.to_json` wrote.

        Raises:
            msgspec.DecodeError: It is not what `Report.to_json` writes.
        """
        result, device, provenance, *more = map(bytes, _PARTS.decode(body))
        rest = _MORE.decode(more[0]) if more else _NO_MORE
        head = _IDENTIFIED.decode(result)
        return cls(
            head.first,
            _IDENTIFIED.decode(device).first,
            head.resource_type,
            result,
            device,
            _present(provenance),
            tuple(map(bytes, rest.attachments)),
            _present(bytes(rest.instead)),
        )

    def opened(self) -> Report:
        """Give its resources."""
        return Report(
            orjson.loads(self.result),
            orjson.loads(self.device),
            orjson.loads(self.provenance) if self.provenance else None,
            tuple(orjson.loads(each) for each in self.attachments),
            orjson.loads(self.instead) if self.instead else None,
        )

    @property
    def types(self) -> tuple[str, ...]:
        """Resource types that the result may stand under in an EHR."""
        return (self.resource_type, "Observation") if self.instead else (self.resource_type,)

    def as_observation(self) -> "StoredReport":
        """Give the report for an EHR that does not have the result's type.

        Without another form it is given as it is.
        """
        if self.instead is None:
            return self
        changed = (*self.changed, AS_OBSERVATION)
        return replace(
            self, resource_type="Observation", result=self.instead, instead=None, changed=changed
        )

    def carried_as(self, rung: Rung) -> "StoredReport":
        """Give the report in the form of a rung of FHIR below the Observation."""
        form = carried(orjson.loads(self.instead or self.result), rung)
        resource_type = str(form["resourceType"])
        return replace(
            self,
            resource_type=resource_type,
            result=orjson.dumps(form),
            instead=None,
            changed=(*self.changed, f"as {resource_type}"),
        )

    def reobserved(self, rewrite: Callable[[Json], Json], told: str = "") -> "StoredReport":
        """Give the report with its Observation changed for an EHR, whichever form is written."""
        if self.instead is None:
            is_one = self.resource_type == "Observation"
            return self.rewritten(rewrite, told) if is_one else self
        after = replace(self, result=self.instead, changed=()).rewritten(rewrite)
        return replace(self, instead=after.result)

    def in_words(self, told: str) -> "StoredReport":
        """Give the report with the value of its Observation as a text, and remember the number."""
        return replace(self.reobserved(in_words, told), before=self.instead or self.result)

    def rewritten(self, rewrite: Callable[[Json], Json], told: str = "") -> "StoredReport":
        """Give the report with its result changed for an EHR, and what is said of that."""
        before = orjson.loads(self.result)
        after = rewrite(before)
        if after is before:
            return self
        changed = (*self.changed, told) if told else self.changed
        return replace(self, result=orjson.dumps(after), changed=changed)

    def without_attachments(self) -> "StoredReport":
        """Give the report for an EHR that has no Media."""
        changed = (*self.changed, WITHOUT_MEDIA) if self.attachments else self.changed
        return replace(self, attachments=(), changed=changed)

    def without_provenance(self) -> "StoredReport":
        """Give the report for an EHR that has no Provenance."""
        return replace(self, provenance=None, changed=(*self.changed, WITHOUT_PROVENANCE))

    def placed(self, reference: str) -> "StoredReport":
        """Give the report with the Device's place in the EHR, as `with_device` does.

        Where the bytes name the Device just once, they are changed without being opened.
        """
        urn = _urn_start(self.digest)
        others = [part for part in (self.provenance, self.instead) if part]
        resources = [self.result, *others, *self.attachments]
        if reference == CONTAINED_DEVICE or any(part.count(urn) != 1 for part in resources):
            opened = StoredReport.read(with_device(self.opened(), reference).to_json())
            return replace(
                opened,
                changed=self.changed,
                terms=self.terms,
                taken=self.taken,
                before=self.before,
            )
        place = _reference_start(reference)
        return replace(
            self,
            result=self.result.replace(urn, place),
            provenance=self.provenance and self.provenance.replace(urn, place),
            attachments=tuple([each.replace(urn, place) for each in self.attachments]),
            instead=self.instead and self.instead.replace(urn, place),
        )


@dataclass(frozen=True)
class Transaction:
    """A transaction Bundle, and where in it each report's result stands.

    Attributes:
        body: The Bundle as JSON.
        devices: Digests of the models whose Devices are the first entries, in their order.
        results: For each report the index of its result among the entries.
        size: Number of entries.
    """

    body: bytes
    devices: tuple[str, ...]
    results: tuple[int, ...]
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
        urn, condition = result_urn(report.identifier), result_condition(report.identifier)
        entries.append(_entry(report.resource_type, report.result, condition, urn))
    for report in placed:
        entries += _attachment_entries(report)
    entries += [
        _entry("Provenance", provenance, provenance_condition(report.identifier))
        for report in placed
        if (provenance := _provenance(report)) is not None
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    return Transaction(orjson.dumps(bundle), tuple(devices), tuple(positions), len(entries))


def result_batch(reports: Sequence[StoredReport]) -> bytes:
    """Put results into one batch Bundle, in their order.

    Args:
        reports: With the places of their Devices: the entries of a batch don't know each other.
    """
    return _batch(
        [_entry(r.resource_type, r.result, result_condition(r.identifier)) for r in reports]
    )


def provenance_batch(written: Sequence[tuple[StoredReport, str]]) -> bytes:
    """Put Provenances into one batch Bundle, in their order.

    Args:
        written: Reports that have a Provenance, each with the place of its result.
    """
    return _batch(
        [
            _entry(
                "Provenance",
                orjson.dumps(provenance_of(report.opened(), place)),
                provenance_condition(report.identifier),
            )
            for report, place in written
        ]
    )


def _batch(entries: Sequence[Json]) -> bytes:
    return orjson.dumps({"resourceType": "Bundle", "type": "batch", "entry": entries})


def _attachment_entries(report: StoredReport) -> list[Json]:
    entries = []
    for attachment in report.attachments:
        own = _IDENTIFIED.decode(attachment).first
        entries.append(_entry("Media", attachment, result_condition(own), result_urn(own)))
    return entries


def _provenance(report: StoredReport) -> bytes | None:
    """Give the Provenance; it has the attachments as its targets too, where they are written."""
    if report.provenance is None or not report.attachments:
        return report.provenance
    opened = report.opened()
    targets = [result_urn(identifier_of(each)) for each in (opened.result, *opened.attachments)]
    return orjson.dumps(provenance_of(opened, *targets))


def result_condition(identifier: str) -> str:
    """Give the query that finds a result, or an attachment of one, by its identifier."""
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
        reference: `Device/<id>`, or `CONTAINED_DEVICE` for an EHR that takes no Device: then each
            resource carries it, and the Provenance names it by its identifier.
    """
    placed = replace(
        report,
        result=_made_by(report.result, report.device, reference),
        attachments=tuple(_made_by(each, report.device, reference) for each in report.attachments),
        instead=report.instead and _made_by(report.instead, report.device, reference),
    )
    if report.provenance is None:
        return placed
    who: Json = {"reference": reference}
    if reference == CONTAINED_DEVICE:
        who = {"type": "Device", "identifier": report.device["identifier"][0]}
    author, *others = report.provenance["agent"]
    named = {**author, "who": {**who, "display": author["who"]["display"]}}
    return replace(placed, provenance={**report.provenance, "agent": [named, *others]})


def _made_by(resource: Json, device: Json, reference: str) -> Json:
    name = _MADE_BY.get(resource["resourceType"])
    if name is None:
        return resource
    is_list = resource["resourceType"] in _SEVERAL
    made_by: Json = {"reference": reference}
    made = {**resource, name: [made_by] if is_list else made_by}
    if reference == CONTAINED_DEVICE:
        made["contained"] = [{**device, "id": CONTAINED_DEVICE.removeprefix("#")}]
    return made


def provenance_of(report: Report, *places: str) -> Json | None:
    """Give the Provenance with the places of the result and its attachments as its targets."""
    if report.provenance is None:
        return None
    return {**report.provenance, "target": [{"reference": place} for place in places]}


def attachments_of(report: Report, place: str) -> list[Json]:
    """Give the attachments as parts of the result that stands at this place."""
    return [{**each, "partOf": [{"reference": place}]} for each in report.attachments]


def identifier_of(resource: Json) -> str:
    """Give the value of the first identifier of a result or an attachment."""
    return str(resource["identifier"][0]["value"])


def is_result(resource: Json, identifier: str) -> bool:
    """Say whether a resource is this result; an EHR may ignore what it was asked for."""
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


def _present(part: bytes) -> bytes | None:
    return part if part and part != _ABSENT else None


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
