"""Read an ABDM consent notification and the artefact in it, as strictly as a permission deserves.

* Three wrappings are in use: `notification` around it (v0.5 and v3 callbacks), `consent` around it
  (what a fetch answers), and none.
* What limits the permission (`careContexts`, `hiTypes`, all of `permission`) has to be there, known
  and readable, or the artefact grants nothing. Fields beside these are ignored: they can't widen.
* A REVOKED or EXPIRED notification brings no `consentDetail`; it is about the scope known before.

Source: NHA ABDM Health Information Exchange, consent manager API v0.5 and v3.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.core.errors import ContentError

Json = Mapping[str, Any]

ACCESS_MODES = frozenset({"VIEW", "STORE", "QUERY", "STREAM"})
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})?", re.ASCII)
_PERMISSION = frozenset({"accessMode", "dateRange", "dataEraseAt", "frequency"})
_RANGE = frozenset({"from", "to"})
_FREQUENCY = frozenset({"unit", "value", "repeats"})
_HOUR_S = 3600
# A month and a year at their longest: the longer the window, the fewer uses it permits.
_UNITS_S = {
    "HOUR": _HOUR_S,
    "DAY": 24 * _HOUR_S,
    "WEEK": 7 * 24 * _HOUR_S,
    "MONTH": 31 * 24 * _HOUR_S,
    "YEAR": 366 * 24 * _HOUR_S,
}


class ArtefactUnreadable(ContentError):
    """This is not a consent notification of ABDM: it has no consent id or no status."""


class ScopeUnclear(ContentError):
    """What an artefact permits is missing, or written in a way that is not known."""


@dataclass(frozen=True, kw_only=True)
class Notification:
    """What a consent manager said of one artefact.

    Attributes:
        status: As it was written; what is not known stays as it is.
        detail: `consentDetail`; None where the notification has none.
    """

    consent_id: str
    status: str
    detail: Json | None = None


@dataclass(frozen=True, kw_only=True)
class Frequency:
    """How often the data may be fetched; `most` is None when as often as one likes."""

    most: int | None
    per_s: int


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What an artefact permits.

    Attributes:
        purpose: ABDM's code.
        hi_types: As they are written; a member that is not known stays, and matches nothing.
        care_contexts: Each `careContextReference`.
        access_mode: One of `ACCESS_MODES`.
        first: The beginning of its date range.
        last: The end.
        erase_at: When the permission ends, and what was had under it is to be erased.
        hip: Id of the facility the data is at; None where it is not named.
        hiu: Id of the one that may use it; None where it is not named (v0.5 to the facility).
    """

    purpose: str
    hi_types: frozenset[str]
    care_contexts: frozenset[str]
    access_mode: str
    first: datetime
    last: datetime
    erase_at: datetime
    frequency: Frequency
    consent_manager: str | None
    hip: str | None
    hiu: str | None


def read_notification(raw: bytes) -> Notification:
    """Read a notification in any of its wrappings.

    Raises:
        ArtefactUnreadable: It is no JSON, repeats a key, or has no consent id or status.
    """
    try:
        body = json.loads(raw, object_pairs_hook=_without_repeats)
        inner = body.get("notification", body.get("consent", body))
        detail = inner.get("consentDetail")
        written = detail.get("consentId") if detail is not None else None
        consent_id = inner.get("consentId", written)
        status = inner.get("status")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ArtefactUnreadable from error
    if not _is_text(consent_id) or not _is_text(status) or written not in (None, consent_id):
        raise ArtefactUnreadable
    return Notification(consent_id=consent_id, status=status, detail=detail)


def patient_address(detail: Json) -> str | None:
    """Give the ABHA address an artefact is about, as it is compared: in lower case."""
    patient = detail.get("patient")
    found = patient.get("id") if isinstance(patient, Mapping) else None
    return found.lower() if isinstance(found, str) and found else None


def read_scope(detail: Json) -> Scope:
    """Read what an artefact permits.

    Raises:
        ScopeUnclear: Something that limits it is missing or not known; the message says what.
    """
    permission = _object(detail, "permission", known=_PERMISSION)
    span = _object(permission, "dateRange", known=_RANGE)
    first, last = read_time(span.get("from"), "dateRange.from"), read_time(span.get("to"), _TO)
    if last < first:
        raise ScopeUnclear("permission.dateRange ends before it begins")
    mode = permission.get("accessMode")
    if not isinstance(mode, str) or mode not in ACCESS_MODES:
        raise ScopeUnclear("permission.accessMode is missing or not known")
    return Scope(
        purpose=_text(_object(detail, "purpose"), "code", "purpose.code"),
        hi_types=frozenset(_texts(detail.get("hiTypes"), "hiTypes")),
        care_contexts=frozenset(_care_contexts(detail)),
        access_mode=mode,
        first=first,
        last=last,
        erase_at=read_time(permission.get("dataEraseAt"), "dataEraseAt"),
        frequency=_frequency(_object(permission, "frequency", known=_FREQUENCY)),
        consent_manager=_id_of(detail, "consentManager"),
        hip=_id_of(detail, "hip"),
        hiu=_id_of(detail, "hiu"),
    )


_TO = "dateRange.to"


def read_time(written: object, path: str) -> datetime:
    """Read a time of an artefact: up to nine digits of a second, and UTC without a zone.

    Raises:
        ScopeUnclear: It is missing, or written otherwise.
    """
    try:
        if not isinstance(written, str) or not _TIME.fullmatch(written):
            raise ScopeUnclear(f"permission.{path} is missing or no time")
        moment = datetime.fromisoformat(written)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ScopeUnclear(f"permission.{path} is no time") from error


def _frequency(written: Json) -> Frequency:
    unit, value, repeats = (written.get(name) for name in ("unit", "value", "repeats"))
    unit_s = _UNITS_S.get(unit) if isinstance(unit, str) else None
    if unit_s is None or not _is_count(value, least=1) or not _is_count(repeats, least=0):
        raise ScopeUnclear("permission.frequency is missing or not known")
    return Frequency(most=repeats or None, per_s=unit_s * int(str(value)))


def _care_contexts(detail: Json) -> Sequence[str]:
    found = detail.get("careContexts")
    if not isinstance(found, list) or not found:
        raise ScopeUnclear("careContexts are missing")
    if not all(isinstance(each, Mapping) for each in found):
        raise ScopeUnclear("careContexts can't be read")
    return _texts([each.get("careContextReference") for each in found], "careContexts")


def _texts(found: object, path: str) -> list[str]:
    if not isinstance(found, list) or not found or not all(map(_is_text, found)):
        raise ScopeUnclear(f"{path} are missing or can't be read")
    return found


def _object(parent: Json, name: str, *, known: frozenset[str] | None = None) -> Json:
    found = parent.get(name)
    if not isinstance(found, Mapping):
        raise ScopeUnclear(f"{name} is missing")
    if known is not None and not known.issuperset(found):
        # Beside its limits a permission holds limits: one that is not known may not be passed over.
        raise ScopeUnclear(f"{name} holds what is not known")
    return found


def _text(parent: Json, name: str, path: str) -> str:
    found = parent.get(name)
    if not isinstance(found, str) or not found:
        raise ScopeUnclear(f"{path} is missing")
    return found


def _id_of(detail: Json, name: str) -> str | None:
    found = detail.get(name)
    if found is None:
        return None
    return _text(_object(detail, name), "id", f"{name}.id")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_count(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MOST_COUNT


_MOST_COUNT = 1_000_000


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found
