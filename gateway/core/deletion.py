"""A deletion, as the last version of a resource: what was known of it, entered in error.

An EHR that deletes says a type and an id and nothing else. It is received as a version of our own
making, so that whatever a new version does happens: the one before is in force no more, its jobs
are superseded, a Consent permits nothing, and the audit log can account for it.

* Its time is that of the deletion: what was written before and arrives later changes nothing.
* Its status is `entered-in-error` where its type has that; its tag says that it was deleted.

Source: FHIR R4 http.html#delete, and the status `entered-in-error` of its resources.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from gateway.core.errors import ContentError
from gateway.core.fhir import Resource, parse_resource

RECEIVED_SYSTEM = "https://nadi.health/fhir/CodeSystem/received"
DELETED = "deleted"
_TAG = {"system": RECEIVED_SYSTEM, "code": DELETED}
_ERROR = "entered-in-error"


def is_deleted(content: Mapping[str, Any]) -> bool:
    """Say whether a resource is the version that says it was deleted."""
    meta = content.get("meta") or {}
    return any(
        tag.get("system") == RECEIVED_SYSTEM and tag.get("code") == DELETED
        for tag in meta.get("tag") or ()
    )


def deleted_version(
    reference: tuple[str, str], known: Mapping[str, Any] | None, at: datetime
) -> Resource:
    """Give the version of a resource that says it was deleted.

    Args:
        reference: Its type and id.
        known: Its newest version; None when it was never received.
        at: When it was deleted, as far as we know.
    """
    kind, name = reference
    meta = {"lastUpdated": at.isoformat(timespec="milliseconds"), "tag": [_TAG]}
    content = {**(known or {}), "resourceType": kind, "id": name, "meta": meta}
    if "status" in content and _is_valid({**content, "status": _ERROR}):
        content["status"] = _ERROR
    return Resource(kind, content, orjson.dumps(content))


def _is_valid(content: Mapping[str, Any]) -> bool:
    try:
        parse_resource(orjson.dumps(content))
    except ContentError:
        return False
    return True
