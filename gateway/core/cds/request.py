"""What an EHR sends when a hook fires: read, checked, and cut into the resources that it brings.

* Every problem is named by its place, and no value is repeated.
* A resource stays as the bytes that were received; of the prefetch only what was asked for is
  taken.
* A key of the prefetch that is absent or an OperationOutcome was not got by the EHR: it is missing.
  Null, or a Bundle without entries, is an answer: the EHR has nothing of it. Only that there is no
  patient is not believed, since she stands in the context.

Source: CDS Hooks 2.0, "HTTP Request" and the hooks' own pages.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec
import orjson

from gateway.core.errors import InvalidResource, Issue, MalformedJson
from gateway.core.r4_json import decode

_STAFF = frozenset({"Practitioner", "PractitionerRole"})
#: Hook to the users that it may be called for, and whether it brings draft orders.
HOOKS: Mapping[str, tuple[frozenset[str], bool]] = {
    "patient-view": (
        _STAFF | {"Patient", "RelatedPerson"},
        False,
    ),
    "order-sign": (_STAFF, True),
    "order-select": (_STAFF, True),
    "encounter-start": (_STAFF, False),
    "encounter-discharge": (_STAFF, False),
}
#: What may be ordered; nothing else is taken out of draft orders.
_ORDERS = frozenset(
    {
        "DeviceRequest",
        "MedicationRequest",
        "NutritionOrder",
        "ServiceRequest",
        "SupplyRequest",
        "VisionPrescription",
    }
)
_NEEDS_ENCOUNTER = frozenset({"encounter-start", "encounter-discharge"})

#: Key of the prefetch under which the patient comes.
PATIENT_KEY = "patient"
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_MOST_TEXT = 2048
_HEAD, _FOOT = b'{"resourceType":"Bundle","type":"collection","entry":[', b"]}"


class _Entry(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw()
    fullUrl: str | None = None  # noqa: N815 - FHIR's name


class _Bundle(msgspec.Struct):
    entry: list[_Entry] | None = None


class _Context(msgspec.Struct):
    draftOrders: msgspec.Raw = msgspec.Raw()  # noqa: N815 - the standard's name


class _Slices(msgspec.Struct):
    context: _Context
    prefetch: dict[str, msgspec.Raw] | None = None


_slices = msgspec.json.Decoder(_Slices)
_bundle = msgspec.json.Decoder(_Bundle)


@dataclass(frozen=True)
class Brought:
    """A resource that a hook brings.

    Attributes:
        raw: Its bytes as received.
        content: The same, decoded.
        full_url: Of its entry, where it stood in a Bundle.
    """

    raw: bytes = field(repr=False)
    content: Mapping[str, Any] = field(repr=False)
    full_url: str | None = None


@dataclass(frozen=True)
class CdsRequest:
    """A valid call of a service.

    Attributes:
        instance: The `hookInstance`.
        user: Who looks: `Practitioner/<id>` and the like.
        patient: Id of the patient in the context.
        orders: The draft orders.
        prefetch: By key what the EHR has; a key that it did not get is absent.
        fhir_server: Base URL of the caller's FHIR server.
        access_token: For that server.
    """

    hook: str
    instance: str
    user: str
    patient: str
    orders: tuple[Brought, ...] = ()
    prefetch: Mapping[str, tuple[Brought, ...]] = field(default_factory=dict)
    fhir_server: str | None = None
    access_token: str | None = field(default=None, repr=False)

    @property
    def subject(self) -> str:
        """The patient of the context as the EHR names her."""
        return f"Patient/{self.patient}"

    @property
    def is_of_staff(self) -> bool:
        """Whether a clinician looks; a result that nobody reviewed is not for patients."""
        return self.user.partition("/")[0] in _STAFF


def is_cds_request(content: object) -> bool:
    """Say whether a JSON document means to be a call of a CDS service."""
    return isinstance(content, dict) and not content.keys().isdisjoint(("hook", "hookInstance"))


def read_request(raw: bytes, *, hook: str | None = None, max_depth: int = 40) -> CdsRequest:
    """Read a call of a service.

    Args:
        raw: The body as received.
        hook: The hook that the service is for; any that is known, if none is given.
        max_depth: Deepest nesting of JSON that is accepted.

    Raises:
        MalformedJson: Not JSON, or a property is given twice.
        TooLarge: Nested too deep.
        InvalidResource: Something is missing or wrong; it is named.
    """
    content = decode(raw, max_depth=max_depth)
    if not isinstance(content, dict):
        raise InvalidResource((Issue("structure", "A CDS Hooks request is a JSON object."),))
    issues = [*_head_issues(content, hook), *_server_issues(content)]
    if not issues:
        issues += _context_issues(content["context"], content["hook"])
        issues += _prefetch_issues(content.get("prefetch"))
    if issues:
        raise InvalidResource(tuple(issues))
    return _read(raw, content)


def _read(raw: bytes, content: Mapping[str, Any]) -> CdsRequest:
    try:
        slices = _slices.decode(raw)
        given = slices.prefetch or {}
        decoded, context = content.get("prefetch") or {}, content["context"]
        prefetch = {key: _got(bytes(value), decoded[key]) for key, value in given.items()}
        orders: Iterable[Brought] = ()
        if _brings(content):
            orders = _orders(bytes(slices.context.draftOrders), context["draftOrders"])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise MalformedJson from error
    authorization = content.get("fhirAuthorization") or {}
    return CdsRequest(
        hook=content["hook"],
        instance=content["hookInstance"],
        user=context["userId"],
        patient=context["patientId"],
        orders=tuple(orders),
        prefetch={
            key: part
            for key, part in prefetch.items()
            if part is not None and (part or key != PATIENT_KEY)
        },
        fhir_server=content.get("fhirServer"),
        access_token=authorization.get("access_token"),
    )


def _orders(raw: bytes, content: Mapping[str, Any]) -> Iterator[Brought]:
    entries = _entries(raw, content)
    return (each for each in entries if each.content.get("resourceType") in _ORDERS)


def _brings(content: Mapping[str, Any]) -> bool:
    return HOOKS[content["hook"]][1]


def _got(raw: bytes, content: Mapping[str, Any] | None) -> tuple[Brought, ...] | None:
    """Give the resources of one prefetch; None where the EHR did not get it."""
    if content is None:
        return ()
    if content["resourceType"] == "OperationOutcome":
        return None
    if content["resourceType"] == "Bundle":
        return tuple(_entries(raw, content))
    return (Brought(raw, content),)


def entries_of(raw: bytes) -> Iterator[Brought]:
    """Give the resources of a Bundle.

    Args:
        raw: JSON of a Bundle, as received.

    Raises:
        MalformedJson: It can't be read as one.
    """
    try:
        yield from _entries(raw, msgspec.json.decode(raw))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise MalformedJson from error


def bundle_of(brought: Sequence[Brought]) -> bytes:
    """Put resources into a Bundle of type `collection`, each as the bytes in which it came."""
    entries = []
    for each in brought:
        # Only what is referred to within the Bundle: two searches may have found the same resource.
        is_needed = (each.full_url or "").startswith("urn:")
        address = b'"fullUrl":' + orjson.dumps(each.full_url) + b"," if is_needed else b""
        entries.append(b"{" + address + b'"resource":' + each.raw + b"}")
    return _HEAD + b",".join(entries) + _FOOT


def _entries(raw: bytes, bundle: Mapping[str, Any]) -> Iterator[Brought]:
    """Give the resources of a Bundle, of its bytes and of what was decoded from them."""
    entries, decoded = _bundle.decode(raw).entry or (), bundle.get("entry") or ()
    for entry, known in zip(entries, decoded, strict=True):
        content = known.get("resource")
        # A searchset may say in an entry what went wrong with the search.
        if isinstance(content, dict) and content.get("resourceType") != "OperationOutcome":
            yield Brought(bytes(entry.resource), content, entry.fullUrl)


# -- what may be wrong -----------------------------------------------------------------------


def _head_issues(content: Mapping[str, Any], hook: str | None) -> Iterator[Issue]:
    named = content.get("hook")
    if named not in HOOKS or (hook is not None and named != hook):
        wanted = hook or ", ".join(HOOKS)
        yield Issue("value", f"The hook of this service is {wanted}.", "hook")
    if not _is_uuid(content.get("hookInstance")):
        yield Issue("required", "A UUID that is new for each call.", "hookInstance")
    if not isinstance(content.get("context"), dict):
        yield Issue("required", "The context of the hook, a JSON object.", "context")


def _is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and str(UUID(value)) == value.lower()
    except ValueError:
        return False


def _server_issues(content: Mapping[str, Any]) -> Iterator[Issue]:
    server, authorization = content.get("fhirServer"), content.get("fhirAuthorization")
    if server is not None and not _is_url(server):
        yield Issue("value", "The base URL of a FHIR server, http or https.", "fhirServer")
    if authorization is None:
        return
    if server is None:
        words = "Needed with fhirAuthorization: the server that the token is for."
        yield Issue("required", words, "fhirServer")
    yield from _authorization_issues(authorization)


def _authorization_issues(authorization: object) -> Iterator[Issue]:
    at = "fhirAuthorization"
    if not isinstance(authorization, dict):
        yield Issue("structure", "A JSON object with the access token.", at)
        return
    token, expires = authorization.get("access_token"), authorization.get("expires_in")
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]{1,16384}", token):
        yield Issue("required", "An access token.", f"{at}.access_token")
    if authorization.get("token_type") != "Bearer":
        yield Issue("value", "Has to be Bearer.", f"{at}.token_type")
    if isinstance(expires, bool) or not isinstance(expires, int) or expires < 0:
        yield Issue("required", "Seconds, a whole number.", f"{at}.expires_in")
    for name in ("scope", "subject"):
        if not isinstance(authorization.get(name), str):
            yield Issue("required", "A text.", f"{at}.{name}")


def _is_url(value: object) -> bool:
    is_text = isinstance(value, str) and len(value) <= _MOST_TEXT
    return is_text and re.fullmatch(r"https?://[^\s?#@]+", str(value)) is not None


def _context_issues(context: Mapping[str, Any], hook: str) -> Iterator[Issue]:
    users, brings_orders = HOOKS[hook]
    kind, _, user = str(context.get("userId")).partition("/")
    if kind not in users or not _ID.fullmatch(user):
        words = f"Type and id of the user: {', '.join(sorted(users))}."
        yield Issue("required", words, "context.userId")
    if not _is_id(context.get("patientId")):
        yield Issue("required", "The FHIR id of the patient, without type.", "context.patientId")
    encounter = context.get("encounterId")
    if (encounter is not None or hook in _NEEDS_ENCOUNTER) and not _is_id(encounter):
        yield Issue("value", "The FHIR id of the encounter, without type.", "context.encounterId")
    if brings_orders:
        yield from _order_issues(context.get("draftOrders"))
    if hook == "order-select" and not _are_references(context.get("selections")):
        words = "The orders that were selected: a list of Type/id."
        yield Issue("required", words, "context.selections")


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _are_references(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def _order_issues(orders: object) -> Iterator[Issue]:
    if not isinstance(orders, dict) or orders.get("resourceType") != "Bundle":
        yield Issue("required", "A Bundle of the draft orders.", "context.draftOrders")
        return
    yield from _bundle_issues(orders, "context.draftOrders")


def _bundle_issues(bundle: Mapping[str, Any], at: str) -> Iterator[Issue]:
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        yield Issue("structure", "Has to be a list.", f"{at}.entry")
        return
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            yield Issue("structure", "Has to be a JSON object.", f"{at}.entry[{index}]")
        elif not isinstance(entry.get("fullUrl", ""), str):
            yield Issue("structure", "Has to be a text.", f"{at}.entry[{index}].fullUrl")


def _prefetch_issues(prefetch: object) -> Iterator[Issue]:
    if prefetch is None:
        return
    if not isinstance(prefetch, dict):
        yield Issue("structure", "A JSON object: a resource by key.", "prefetch")
        return
    for key, value in prefetch.items():
        at = f"prefetch.{key}" if _ID.fullmatch(key) else "prefetch"
        if value is None:
            continue
        if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
            yield Issue("structure", "Has to be a FHIR resource, or null.", at)
        elif value["resourceType"] == "Bundle":
            yield from _bundle_issues(value, at)
