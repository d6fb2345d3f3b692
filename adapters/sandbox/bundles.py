"""Transaction and batch Bundles.

A transaction is done whole or not at all, in the order DELETE, POST, PUT, GET; ids of what it
creates are chosen first, so that `urn:uuid` references among its entries can be rewritten. A
batch is a series of unrelated requests. Answers stand in the order of the entries.

Source: FHIR R4 RESTful API section 3.1.0.11 (http://hl7.org/fhir/R4/http.html#transaction).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from adapters.sandbox.interactions import Answer, Interactions
from adapters.sandbox.keys import Resource
from adapters.sandbox.refusal import Refusal
from adapters.sandbox.results import search_bundle
from adapters.sandbox.search import parse_pairs, run
from adapters.sandbox.store import instant
from gateway.core.clock import new_id

_ORDER = ("DELETE", "POST", "PUT", "PATCH", "HEAD", "GET")
_REFERENCE_URL = re.compile(r"([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/([^/?]+))?")


@dataclass(frozen=True)
class _Entry:
    """One entry, read into what it asks for."""

    method: str
    resource_type: str
    resource_id: str
    condition: str
    version: str | None
    full_url: str
    resource: Resource | None
    if_none_exist: str | None
    if_match: str | None


def perform(interactions: Interactions, bundle: Resource, base_url: str) -> bytes:
    """Do what a Bundle asks and give the Bundle that answers it.

    Raises:
        Refusal: The Bundle is neither transaction nor batch, or a transaction failed; then
            nothing of it was done.
    """
    kind = bundle.get("type")
    if kind == "transaction":
        answers = _transaction(interactions, _entries(bundle), base_url)
    elif kind == "batch":
        answers = _batch(interactions, bundle, base_url)
    else:
        raise Refusal(400, "value", "Bundle.type has to be transaction or batch here.")
    head = {"resourceType": "Bundle", "id": new_id(), "type": f"{kind}-response"}
    return orjson.dumps(head | ({"entry": answers} if answers else {}))


def _entries(bundle: Resource) -> list[_Entry]:
    return [_read_entry(each) for each in bundle.get("entry", ())]


def _read_entry(entry: dict[str, Any]) -> _Entry:
    """Read the request of one entry."""
    request = entry.get("request")
    if not isinstance(request, dict) or request.get("method") not in _ORDER:
        raise Refusal(400, "required", "An entry has no request that can be understood.")
    path, _, condition = str(request.get("url", "")).removeprefix("/").partition("?")
    target = _REFERENCE_URL.fullmatch(path)
    resource = entry.get("resource")
    if request["method"] in {"POST", "PUT"} and not _is_of(resource, path.partition("/")[0]):
        raise Refusal(400, "invalid", "An entry's resource is not of the type of its URL.")
    return _Entry(
        method=request["method"],
        resource_type=target[1] if target else path,
        resource_id=target[2] if target else "",
        condition=condition,
        version=target[3] if target else None,
        full_url=str(entry.get("fullUrl", "")),
        resource=resource,
        if_none_exist=request.get("ifNoneExist"),
        if_match=request.get("ifMatch"),
    )


def _is_of(resource: object, resource_type: str) -> bool:
    return isinstance(resource, dict) and resource.get("resourceType") == resource_type


def _transaction(
    interactions: Interactions, entries: Sequence[_Entry], base_url: str
) -> list[dict[str, Any]]:
    if interactions.knobs.current.no_transaction:
        raise Refusal(501, "not-supported", "This EHR does not do transactions.")
    plan = _Plan(interactions, entries)
    answers: list[dict[str, Any]] = [{}] * len(entries)
    in_order = sorted(range(len(entries)), key=lambda at: _ORDER.index(entries[at].method))
    with interactions.store.transaction():
        for at in in_order:
            answers[at] = _perform(interactions, plan.ready(at), base_url, plan.ids[at])
    return answers


def _batch(interactions: Interactions, bundle: Resource, base_url: str) -> list[dict[str, Any]]:
    if interactions.knobs.current.no_batch:
        raise Refusal(501, "not-supported", "This EHR does not do batches.")
    return [_alone(interactions, each, base_url) for each in bundle.get("entry", ())]


def _alone(interactions: Interactions, entry: dict[str, Any], base_url: str) -> dict[str, Any]:
    """Do one entry of a batch; its refusal is its own."""
    try:
        return _perform(interactions, _read_entry(entry), base_url, None)
    except Refusal as refusal:
        answer = {"status": str(refusal.status), "outcome": orjson.Fragment(refusal.body)}
        return {"response": answer}


class _Plan:
    """The ids of everything a transaction creates, chosen before anything is written."""

    def __init__(self, interactions: Interactions, entries: Sequence[_Entry]) -> None:
        self._interactions = interactions
        self._entries = entries
        self._conditions: dict[tuple[str, str], str] = {}
        self.ids = [self._choose_id(entry) for entry in entries]
        self._addresses = {
            entry.full_url: f"{entry.resource_type}/{chosen}"
            for entry, chosen in zip(entries, self.ids, strict=True)
            if entry.full_url and chosen
        }

    def ready(self, at: int) -> _Entry:
        """Give an entry with every reference inside its resource resolved."""
        entry = self._entries[at]
        if entry.resource is None:
            return entry
        return _Entry(**{**vars(entry), "resource": self._resolved(entry.resource)})

    def _choose_id(self, entry: _Entry) -> str | None:
        if entry.method == "PUT" and entry.condition:
            found = self._interactions.find_one(entry.resource_type, entry.condition)
            return found.id if found else str((entry.resource or {}).get("id") or new_id())
        if entry.method != "POST":
            return entry.resource_id or None
        if entry.if_none_exist is None:
            return new_id()
        # Two entries with one condition are one resource: the second finds the first.
        key = (entry.resource_type, entry.if_none_exist)
        if key not in self._conditions:
            found = self._interactions.find_existing(*key)
            self._conditions[key] = found.id if found else new_id()
        return self._conditions[key]

    def _resolved(self, node: Any) -> Any:  # noqa: ANN401  any JSON
        if isinstance(node, list):
            return [self._resolved(each) for each in node]
        if not isinstance(node, dict):
            return node
        return {
            key: self._address(value)
            if key == "reference" and isinstance(value, str)
            else self._resolved(value)
            for key, value in node.items()
        }

    def _address(self, reference: str) -> str:
        if reference in self._addresses:
            return self._addresses[reference]
        if reference.startswith("urn:"):
            raise Refusal(400, "not-found", "A reference names no entry of the transaction.")
        if "?" not in reference:
            return reference
        resource_type, _, condition = reference.partition("?")
        found = self._interactions.find_one(resource_type, condition)
        if found is None:
            raise Refusal(412, "not-found", "A conditional reference matches nothing.")
        return found.reference


def _perform(
    interactions: Interactions, entry: _Entry, base_url: str, chosen_id: str | None
) -> dict[str, Any]:
    """Do one entry and give its entry of the answer."""
    if entry.method == "GET":
        return _get(interactions, entry, base_url)
    if entry.method == "DELETE":
        answer = interactions.delete(entry.resource_type, entry.resource_id)
    elif entry.resource is None:
        raise Refusal(501, "not-supported", "This EHR does not do that in a Bundle.")
    elif entry.method == "POST":
        answer = interactions.create(
            entry.resource, if_none_exist=entry.if_none_exist, resource_id=chosen_id
        )
    elif entry.condition and chosen_id is None:
        answer = interactions.update_where(entry.resource, entry.condition)
    else:
        resource_id = chosen_id or entry.resource_id
        resource = {**entry.resource, "id": resource_id}
        answer = interactions.update(resource, resource_id, if_match=entry.if_match)
    return {"response": _response(answer, base_url)}


def _get(interactions: Interactions, entry: _Entry, base_url: str) -> dict[str, Any]:
    if entry.resource_id:
        answer = interactions.read(entry.resource_type, entry.resource_id, entry.version)
        body = answer.record.body if answer.record else b""
        resource = orjson.Fragment(body)
        return {"resource": resource, "response": _response(answer, base_url)}
    query = interactions.query(entry.resource_type, parse_pairs(entry.condition))
    found = run(interactions.store, query)
    page = search_bundle(found[: query.count], total=len(found), base_url=base_url)
    return {"resource": orjson.Fragment(page), "response": {"status": "200"}}


def _response(answer: Answer, base_url: str) -> dict[str, str]:
    if answer.record is None:
        return {"status": str(answer.status)}
    record = answer.record
    return {
        "status": str(answer.status),
        "location": f"{base_url}/{record.reference}/_history/{record.version}",
        "etag": record.etag,
        "lastModified": instant(record.updated_ms),
    }
