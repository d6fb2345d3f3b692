"""The FHIR interactions on the store: what a request does, whichever way it came in.

Requests and the entries of Bundles meet here, so both obey the same rules and the same faults.

Source: FHIR R4 RESTful API (http://hl7.org/fhir/R4/http.html).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from adapters.sandbox.faults import FaultKnobs
from adapters.sandbox.keys import Resource
from adapters.sandbox.pickiness import refused
from adapters.sandbox.refusal import Refusal
from adapters.sandbox.search import Pairs, Query, parse_pairs, parse_query, run
from adapters.sandbox.store import Record, Store
from adapters.sandbox.subscriptions import read_subscriber
from gateway.core.clock import new_id
from gateway.core.errors import GatewayError

#: Raises a `GatewayError` for a resource that this EHR does not take; gets its JSON.
Validate = Callable[[bytes], object]

_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


@dataclass(frozen=True)
class Answer:
    """Outcome of an interaction: the HTTP status and the version it is about."""

    status: int
    record: Record | None = None


class Interactions:
    """Reads and writes, with the faults of the moment."""

    def __init__(self, store: Store, knobs: FaultKnobs, validate: Validate | None = None) -> None:
        self.store = store
        self.knobs = knobs
        self._validate = validate

    def create(
        self,
        resource: Resource,
        *,
        if_none_exist: str | None = None,
        resource_id: str | None = None,
    ) -> Answer:
        """Store a new resource, unless `if_none_exist` finds it already there.

        Raises:
            Refusal: The resource is not acceptable, or the condition matches several (412).
        """
        found = self.find_existing(resource["resourceType"], if_none_exist)
        if found is not None:
            return Answer(200, found)
        return Answer(201, self._put(resource, resource_id or new_id()))

    def find_existing(self, resource_type: str, condition: str | None) -> Record | None:
        """Give the one resource that a condition names; None when there is none.

        Raises:
            Refusal: Several match (412).
        """
        if condition is None or self.knobs.current.no_conditional_create:
            return None
        return self.find_one(resource_type, condition)

    def find_one(self, resource_type: str, condition: str) -> Record | None:
        """Give the one resource that a query finds; None when there is none.

        Raises:
            Refusal: Several match (412), or the query names nothing to match by (400).
        """
        query = self._query(resource_type, parse_pairs(condition.rpartition("?")[2]))
        if not query.matches and query.ids is None:
            raise Refusal(400, "required", "A condition has to name a search parameter.")
        found = run(self.store, query)
        if len(found) > 1:
            raise Refusal(412, "multiple-matches", "The condition matches several resources.")
        return found[0] if found else None

    def update(
        self, resource: Resource, resource_id: str, *, if_match: str | None = None
    ) -> Answer:
        """Store the next version of a resource, or its first under the id that the client chose.

        Raises:
            Refusal: Not acceptable (400, 422), or not the version the client meant (412).
        """
        if resource.get("id", resource_id) != resource_id:
            raise Refusal(400, "invalid", "The id of the body is not that of the URL.")
        self._check_id(resource_id)
        before = self._living(resource["resourceType"], resource_id)
        self._check_version(before, if_match)
        if before is None and self.knobs.current.no_update_create:
            status = self.knobs.current.unknown_id_status
            raise Refusal(status, "not-supported", "This EHR chooses ids itself.")
        return Answer(200 if before else 201, self._put(resource, resource_id))

    def update_where(self, resource: Resource, condition: str) -> Answer:
        """Update the one resource that a query finds, or create it (conditional update).

        Raises:
            Refusal: Several match (412), or the resource is not acceptable.
        """
        found = self.find_one(resource["resourceType"], condition)
        resource_id = found.id if found else str(resource.get("id") or new_id())
        return self.update({**resource, "id": resource_id}, resource_id)

    def delete(self, resource_type: str, resource_id: str) -> Answer:
        """Delete a resource; deleting what is not there succeeds too."""
        self.check_type(resource_type)
        if self._living(resource_type, resource_id) is not None:
            self.store.delete(resource_type, resource_id)
        return Answer(204)

    def read(self, resource_type: str, resource_id: str, version: str | None = None) -> Answer:
        """Give the newest version of a resource, or the one named.

        Raises:
            Refusal: It is not there (404) or was deleted (410).
        """
        self._check_readable()
        self.check_type(resource_type)
        record = (
            self.store.version(resource_type, resource_id, version)
            if version
            else self.store.current(resource_type, resource_id)
        )
        if record is None:
            raise Refusal(404, "not-found", "No such resource.")
        if record.is_deleted and self.knobs.current.forgets_deleted:
            raise Refusal(404, "not-found", "No such resource.")
        if record.is_deleted:
            raise Refusal(410, "deleted", "That resource was deleted.")
        return Answer(200, record)

    def query(self, resource_type: str, pairs: Pairs) -> Query:
        """Parse a search as this EHR, with its faults, understands it.

        Raises:
            Refusal: A parameter is unknown or can't be read (400).
        """
        self._check_readable()
        return self._query(resource_type, pairs)

    def _check_readable(self) -> None:
        if self.knobs.current.no_reads:
            raise Refusal(404, "not-found", "There is no such address here.")

    def _query(self, resource_type: str, pairs: Pairs) -> Query:
        self.check_type(resource_type)
        faults = self.knobs.current
        return parse_query(
            resource_type,
            pairs,
            ignore_unknown=faults.ignore_unknown_params,
            ignored=faults.ignored_params,
            count=faults.page_size,
            max_count=faults.max_page_size,
        )

    def check_type(self, resource_type: str) -> None:
        """Refuse what is no resource type, or none of this EHR (404)."""
        is_known = _TYPE.fullmatch(resource_type)
        if not is_known or resource_type in self.knobs.current.unsupported_types:
            raise Refusal(404, "not-supported", "This EHR does not have that resource type.")

    def _put(self, resource: Resource, resource_id: str) -> Record:
        self.check_type(resource["resourceType"])
        refusal = refused(resource, self.knobs.current)
        if refusal is not None:
            raise refusal
        self._check_content(resource)
        if resource["resourceType"] == "Subscription":
            found = read_subscriber(resource, resource_id)
            # A topic-based one is active only after its handshake.
            if found is not None and found.topic is None:
                resource = {**resource, "status": "active"}
        return self.store.put(self.knobs.strip(resource), resource_id)

    def _check_content(self, resource: Resource) -> None:
        if self._validate is None:
            return
        try:
            self._validate(orjson.dumps(resource))
        except GatewayError as error:
            raise Refusal(422, error.issue_type, error.message) from error

    def _check_id(self, resource_id: str) -> None:
        if not _ID.fullmatch(resource_id):
            raise Refusal(400, "value", "That is no FHIR id.")

    def _check_version(self, before: Record | None, if_match: str | None) -> None:
        if if_match is not None and (before is None or before.etag != if_match):
            raise Refusal(412, "conflict", "The resource has another version by now.")

    def _living(self, resource_type: str, resource_id: str) -> Record | None:
        record = self.store.current(resource_type, resource_id)
        return None if record is None or record.is_deleted else record
