"""What an EHR's answers mean: outcomes of writes, capabilities, and which error a status is.

Source: FHIR R4 RESTful API (http://hl7.org/fhir/R4/http.html); RFC 9110 sections 10.2.3 and 15.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import orjson

from adapters.fhir_rest.errors import (
    EhrAnswerUnreadable,
    EhrConflict,
    EhrFailed,
    EhrLoginFailed,
    EhrOverloaded,
    EhrRefused,
    EhrTimeout,
    MultipleMatches,
)
from adapters.fhir_rest.transport import Answer
from gateway.core.clock import utc_now
from gateway.core.errors import GatewayError, TransientError

_CREATED = 201
_FHIR_TYPES = frozenset({"application/fhir+json", "application/json", "application/json+fhir"})
_SUCCESS = range(200, 300)
_SERVER_ERRORS = range(500, 600)
_PRECONDITION_FAILED = 412
_NOT_IMPLEMENTED = 501
_TRANSIENT: Mapping[int, type[TransientError]] = {
    401: EhrLoginFailed,
    408: EhrTimeout,
    409: EhrConflict,
    423: EhrConflict,
    425: EhrConflict,
    429: EhrOverloaded,
    503: EhrOverloaded,
    504: EhrTimeout,
}
#: Issue codes are short lower-case words; anything else an EHR puts there may quote a patient.
_MAX_CODE_LENGTH = 20
_MAX_CODES = 5
_MAX_RETRY_AFTER_S = 86_400.0


class Presence(StrEnum):
    """Whether an EHR has a resource; `DELETED` is its own word for it (410), `UNKNOWN` a 404."""

    THERE = "there"
    DELETED = "deleted"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class WriteOutcome:
    """What became of one write.

    Attributes:
        status: HTTP status, of the entry when it was written in a Bundle.
        location: Where the EHR says the resource is, as it wrote it.
        reference: `Type/id` within this EHR, None when the EHR did not say.
        codes: FHIR issue codes of a refused entry.
    """

    status: int
    location: str | None
    reference: str | None
    codes: tuple[str, ...] = ()

    @property
    def created(self) -> bool:
        """Say whether the EHR made a new resource; false when the condition found one."""
        return self.status == _CREATED

    @property
    def is_success(self) -> bool:
        """Say whether the resource is in the EHR now."""
        return self.status in _SUCCESS


@dataclass(frozen=True)
class Content:
    """What an attachment points at: bytes as they were before any encoding.

    Attributes:
        content_type: What it is called; empty when that is not said.
        body: The bytes; they stay out of its representation.
        owner: Reference of the resource whose access rules hold for a Binary.
    """

    content_type: str
    body: bytes = field(repr=False)
    owner: str | None = None


@dataclass(frozen=True)
class TypeCapabilities:
    """What an EHR says it can do with one resource type.

    Attributes:
        ignores_conditions: It says that it does not create on a condition.
    """

    interactions: frozenset[str] = frozenset()
    search_parameters: frozenset[str] = frozenset()
    update_create: bool = False
    conditional_create: bool = False
    ignores_conditions: bool = False


@dataclass(frozen=True)
class EhrCapabilities:
    """What an EHR says of itself; saying is not yet doing.

    Attributes:
        fhir_version: For example `4.0.1`; empty when not said.
        software: Name of the product; empty when not said.
        transaction: Transaction Bundles are taken.
        types: By resource type.
    """

    fhir_version: str
    software: str
    transaction: bool
    batch: bool
    types: Mapping[str, TypeCapabilities]

    def of(self, resource_type: str) -> TypeCapabilities:
        """Give what the EHR can do with a type; nothing when it does not name it."""
        return self.types.get(resource_type, TypeCapabilities())

    def takes(self, resource_type: str) -> bool:
        """Say whether it lets such a resource be created; true when it names no type at all."""
        said = self.types.get(resource_type)
        if said is None:
            return not self.types
        # Interactions are optional: naming a type without any says that it is there.
        return not said.interactions or "create" in said.interactions


def read_json(body: bytes) -> dict[str, Any]:
    """Read a FHIR JSON answer.

    Raises:
        EhrAnswerUnreadable: It is not a JSON object with a resource type.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise EhrAnswerUnreadable from None
    if not isinstance(found, dict) or not isinstance(found.get("resourceType"), str):
        raise EhrAnswerUnreadable
    return found


def read_content(content_type: str, body: bytes) -> Content:
    """Read what an EHR gave for the content of an attachment: a Binary in JSON, or plain bytes.

    Raises:
        EhrAnswerUnreadable: It is FHIR and no Binary, or a Binary with broken base64.
    """
    if content_type.partition(";")[0].strip().lower() not in _FHIR_TYPES:
        return Content(content_type, body)
    binary = read_json(body)
    if binary["resourceType"] != "Binary":
        raise EhrAnswerUnreadable
    try:
        plain = base64.b64decode(str(binary.get("data", "")))
    except ValueError:  # broken, or letters that are no ASCII
        raise EhrAnswerUnreadable from None
    owner = binary.get("securityContext")
    reference = owner.get("reference") if isinstance(owner, dict) else None
    return Content(str(binary.get("contentType", "")), plain, reference)


def expect(answer: Answer) -> Answer:
    """Let a success pass and raise what anything else stands for.

    Raises:
        TransientError: It may pass later.
        EhrRefused: It won't.
    """
    if answer.is_success:
        return answer
    raise error_of(answer.status, answer.headers, answer.body, utc_now())


def error_of(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> GatewayError:
    """Choose the error that a status outside 2xx stands for.

    Args:
        status: HTTP status.
        headers: Of the answer; only Retry-After is looked at.
        body: Only the issue codes of an OperationOutcome are taken from it.
        now: Present time, to read a Retry-After that is a date.
    """
    retry_after_s = read_retry_after(headers.get("retry-after", ""), now)
    if status in _TRANSIENT:
        return _TRANSIENT[status](retry_after_s=retry_after_s)
    if status == _PRECONDITION_FAILED:
        return MultipleMatches()
    if status in _SERVER_ERRORS and status != _NOT_IMPLEMENTED:
        return EhrFailed(f"The EHR failed: HTTP {status}.", retry_after_s=retry_after_s)
    return EhrRefused(status, issue_codes(body))


def read_retry_after(text: str, now: datetime) -> float | None:
    """Read Retry-After, seconds or HTTP-date, as seconds from now; at most a day."""
    try:
        seconds = float(text) if text.strip().isdecimal() else _until(text, now)
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_S) if math.isfinite(seconds) else None


def sent_at(text: str) -> datetime | None:
    """Read the Date of an answer: what the EHR's clock said; None when it does not say."""
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def issue_codes(body: bytes) -> tuple[str, ...]:
    """Take the issue codes out of an OperationOutcome, and nothing else."""
    try:
        return _codes_of(read_json(body))
    except EhrAnswerUnreadable:
        return ()


def read_capabilities(statement: Mapping[str, Any]) -> EhrCapabilities:
    """Read a CapabilityStatement; what it does not say counts as "no"."""
    server = next((each for each in _dicts(statement, "rest") if each.get("mode") == "server"), {})
    interactions = _names(server, "interaction", "code")
    software = statement.get("software")
    return EhrCapabilities(
        fhir_version=str(statement.get("fhirVersion", "")),
        software=str(software.get("name", "")) if isinstance(software, dict) else "",
        transaction="transaction" in interactions,
        batch="batch" in interactions,
        types={str(each.get("type")): _read_type(each) for each in _dicts(server, "resource")},
    )


def _read_type(resource: Mapping[str, Any]) -> TypeCapabilities:
    return TypeCapabilities(
        interactions=_names(resource, "interaction", "code"),
        search_parameters=_names(resource, "searchParam", "name"),
        update_create=resource.get("updateCreate") is True,
        conditional_create=resource.get("conditionalCreate") is True,
        ignores_conditions=resource.get("conditionalCreate") is False,
    )


def _names(parent: Mapping[str, Any], key: str, name: str) -> frozenset[str]:
    return frozenset(str(each.get(name)) for each in _dicts(parent, key))


def _dicts(parent: Mapping[str, Any], key: str) -> Sequence[dict[str, Any]]:
    """Give the objects of a list; an EHR's answer may hold anything there."""
    found = parent.get(key)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else ()


def _codes_of(outcome: Mapping[str, Any]) -> tuple[str, ...]:
    codes = [str(each.get("code", "")) for each in _dicts(outcome, "issue")]
    plain = (each for each in codes if _is_code(each))
    return tuple(dict.fromkeys(plain))[:_MAX_CODES]


def _is_code(text: str) -> bool:
    letters = text.replace("-", "")
    return len(text) <= _MAX_CODE_LENGTH and letters.isalpha() and letters.islower()


def _until(text: str, now: datetime) -> float:
    moment = parsedate_to_datetime(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()
