"""(1) What a received resource says of itself: identity, version, patient, codes, time.

These few facts are all that admission and the record need; the content itself stays sealed.

Source: FHIR R4 Resource.meta, Reference (http://hl7.org/fhir/R4/references.html).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.core import clinical_time
from gateway.core.deletion import is_deleted
from gateway.core.feeds import FEEDS
from gateway.core.findings import RESULT_SYSTEM
from gateway.core.lanes import Lane, stated_lane
from gateway.core.result_terms import AI_NOTE, AI_VALUE

# The elements that name a resource's patient, in the order they are tried.
_PATIENT_ELEMENTS = ("subject", "patient", "beneficiary", "individual", "for", "securityContext")
TIME_ELEMENTS = (
    "effectiveDateTime",
    "effectiveInstant",
    "onsetDateTime",
    "occurrenceDateTime",
    "performedDateTime",
    "createdDateTime",
    "started",
    "sent",
    "authoredOn",
    "recordedDate",
    "date",
)
_PERIOD = "createdPeriod"

#: Statuses of an Observation, or of another finding, whose value may be used.
SETTLED = frozenset({"final", "amended", "corrected"})
#: Statuses in which a resource of these types is what its author means to say.
_SETTLED_BY_TYPE: Mapping[str, frozenset[str]] = {
    "Observation": SETTLED,
    "RiskAssessment": SETTLED,
    "DiagnosticReport": SETTLED | {"appended"},
    "DocumentReference": frozenset({"current"}),
    "Composition": frozenset({"final", "amended"}),
    "Communication": frozenset({"completed"}),
    "Media": frozenset({"completed"}),
    "ImagingStudy": frozenset({"available"}),
}
_UNSETTLED_DOCUMENTS = frozenset({"preliminary", "entered-in-error"})


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a resource says of itself.

    Attributes:
        patient: `Patient/<id>`, or None when it names no patient of this EHR.
        codes: `system|code` of its `code` and of its components' codes.
        effective: When it was true of the patient; None when it does not say.
        lane: How urgent it says it is.
        based_on: `Type/id` of the orders it was made for, as far as they are this EHR's.
    """

    resource_type: str
    resource_id: str | None
    version_id: str | None
    last_updated: datetime | None
    patient: str | None
    codes: tuple[str, ...]
    effective: datetime | None
    lane: Lane | None = None
    based_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class VersionMark:
    """Which version of a resource something is."""

    version_id: str | None
    last_updated_ms: int | None

    @property
    def is_ordered(self) -> bool:
        """Whether it says anything by which versions are ordered."""
        return self.last_updated_ms is not None or self.number is not None

    @property
    def number(self) -> int | None:
        """Its `versionId`, where that is a number."""
        version = self.version_id
        return int(version) if version is not None and version.isdecimal() else None


def facts(
    content: Mapping[str, Any],
    *,
    base_url: str | None = None,
    urns: Mapping[str, str] | None = None,
) -> Facts:
    """Read the facts of a valid resource.

    Args:
        content: The resource as decoded JSON.
        base_url: FHIR base of the EHR; absolute references below it are its own.
        urns: `urn:uuid:…` to `Type/id`, for a resource that came in a Bundle.
    """
    meta = content.get("meta") or {}
    updated = clinical_time.parse(meta.get("lastUpdated"))
    return Facts(
        resource_type=content["resourceType"],
        resource_id=content.get("id"),
        version_id=meta.get("versionId"),
        last_updated=updated.first if updated else None,
        patient=_patient(content, base_url, urns or {}),
        codes=tuple(_codes(content)),
        effective=_effective(content),
        lane=stated_lane(content),
        based_on=tuple(_orders(content, base_url, urns or {})),
    )


def is_made_by_ai(content: Mapping[str, Any]) -> bool:
    """Say whether a resource was made by AI, by its label or because it is a result of ours.

    An EHR may have dropped both; then the words in which the result says so tell.

    Such a resource neither triggers a model nor is read by one: an answer must not feed itself.

    Source: HL7 AI Transparency on FHIR (STU1 ballot), code AIAST of v3-ObservationValue.
    """
    meta = content.get("meta") or {}
    labels = (*(meta.get("security") or ()), *(meta.get("tag") or ()))
    if "AIAST" in [label.get("code") for label in labels] or _says_so(content):
        return True
    identifiers = content.get("identifier")
    if not isinstance(identifiers, list):
        return False
    return RESULT_SYSTEM in [each.get("system") for each in identifiers]


def _says_so(content: Mapping[str, Any]) -> bool:
    if str(content.get("valueString", "")).startswith(AI_VALUE):
        return True
    notes = content.get("note")
    if not isinstance(notes, list):
        return False
    return any(AI_NOTE in str(each.get("text")) for each in notes if isinstance(each, dict))


def is_unsettled(content: Mapping[str, Any]) -> bool:
    """Say whether a resource can't be relied on (yet): not final, replaced, an error, or deleted.

    Source: FHIR R4 ObservationStatus, DiagnosticReportStatus, DocumentReferenceStatus with
    CompositionStatus for `docStatus`, EventStatus, ImagingStudyStatus.
    """
    settled = _SETTLED_BY_TYPE.get(content["resourceType"])
    status = content.get("status")
    if content.get("docStatus") in _UNSETTLED_DOCUMENTS or is_deleted(content):
        return True
    return status == "entered-in-error" if settled is None else status not in settled


def effective_element(content: Mapping[str, Any]) -> dict[str, Any]:
    """Give the clinical time of a resource as the `effective[x]` of what is said about it.

    It is taken over as it was written: a day stays a day.

    Returns:
        One element by its name; empty when the resource does not say when.
    """
    written = {name: value for name, value in content.items() if name.startswith("effective")}
    if written:
        return written
    for name in TIME_ELEMENTS:
        if clinical_time.parse(content.get(name)):
            return {"effectiveDateTime": content[name]}
    period = content.get(_PERIOD)
    return {"effectivePeriod": period} if _of_period(period) else {}


def encounter_of(content: Mapping[str, Any]) -> str | None:
    """Give the reference of the encounter that a resource belongs to, as it is written.

    One into a Bundle or into the resource itself means nothing outside of it and is left out.
    """
    context = content.get("context")
    listed = context.get("encounter") if isinstance(context, Mapping) else None
    element = content.get("encounter") or next(iter(listed or ()), None)
    reference = str(element.get("reference", "")) if isinstance(element, Mapping) else ""
    return None if reference.startswith(("urn:", "#")) else reference or None


def is_older(candidate: VersionMark, known: VersionMark) -> bool:
    """Say whether a version is older than one already known.

    `lastUpdated` decides; where it is equal or absent, a numeric `versionId` does. Versions that
    can't be compared are taken in the order they arrive.
    """
    ours, theirs = candidate.last_updated_ms, known.last_updated_ms
    if ours is not None and theirs is not None and ours != theirs:
        return ours < theirs
    if candidate.number is not None and known.number is not None:
        return candidate.number < known.number
    return False


def relative_reference(
    literal: str, *, base_url: str | None = None, urns: Mapping[str, str] | None = None
) -> str | None:
    """Turn a literal reference into `Type/id` of this EHR; None when it is someone else's."""
    if literal.startswith("urn:"):
        return (urns or {}).get(literal)
    if base_url and literal.startswith(base_url.rstrip("/") + "/"):
        literal = literal[len(base_url.rstrip("/")) + 1 :]
    parts = literal.split("/_history/")[0].split("/")
    return "/".join(parts) if len(parts) == 2 and all(parts) else None  # noqa: PLR2004 - type, id


def reference_of(resource: Mapping[str, Any]) -> str:
    """Give the reference of a resource, with its version where there is one; empty without id.

    What a listener made of a message is in no EHR: its reference begins with the feed's. Only its
    Patient is one, of the id that it has there.
    """
    if "id" not in resource:
        return ""
    meta = resource.get("meta") or {}
    version, source = meta.get("versionId"), str(meta.get("source", ""))
    plain = f"{resource['resourceType']}/{resource['id']}"
    if source.startswith(FEEDS) and resource["resourceType"] != "Patient":
        plain = f"{source}/{plain}"
    return f"{plain}/_history/{version}" if version else plain


def _patient(
    content: Mapping[str, Any], base_url: str | None, urns: Mapping[str, str]
) -> str | None:
    if content["resourceType"] == "Patient":
        return f"Patient/{content['id']}" if "id" in content else None
    for name in _PATIENT_ELEMENTS:
        element = content.get(name)
        literal = element.get("reference") if isinstance(element, Mapping) else None
        if not isinstance(literal, str):
            continue
        reference = relative_reference(literal, base_url=base_url, urns=urns)
        if reference and reference.startswith("Patient/"):
            return reference
    return None


def _orders(
    content: Mapping[str, Any], base_url: str | None, urns: Mapping[str, str]
) -> Iterator[str]:
    listed = content.get("basedOn")
    for element in listed if isinstance(listed, list) else ():
        literal = element.get("reference") if isinstance(element, Mapping) else None
        if isinstance(literal, str):
            reference = relative_reference(literal, base_url=base_url, urns=urns)
            if reference:
                yield reference


def _codes(content: Mapping[str, Any]) -> Iterator[str]:
    yield from _concept_codes(content.get("code"))
    for component in content.get("component") or ():
        yield from _concept_codes(component.get("code"))


def _concept_codes(concept: object) -> Iterable[str]:
    if not isinstance(concept, Mapping):
        return ()
    codings = concept.get("coding") or ()
    return [f"{c.get('system', '')}|{c['code']}" for c in codings if "code" in c]


def _effective(content: Mapping[str, Any]) -> datetime | None:
    span = clinical_time.effective(content)
    if span is None:
        texts = (content.get(name) for name in TIME_ELEMENTS)
        span = next((found for text in texts if (found := clinical_time.parse(text))), None)
        span = span or _of_period(content.get(_PERIOD))
    return span.last.astimezone(UTC) if span else None


def _of_period(period: object) -> clinical_time.Span | None:
    return clinical_time.effective({"effectivePeriod": period} if isinstance(period, dict) else {})
