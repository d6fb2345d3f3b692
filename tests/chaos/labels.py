"""Whether what an EHR dropped of a result was told, and whether people still see whose it is.

What is looked at are the elements that a reader or Nadi itself relies on (docs/write-back.md): each
result has them all when it is sent.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping

from tests.chaos.case import Case, identifier
from tests.chaos.evidence import Row

_AIAST = "AIAST"
_SAYS_AI = re.compile(r"\bAI\b")
#: Where a person reads what stands beside the value.
_SHOWN = ("code", "type", "text", "note", "description", "valueString", "content")


def _is_coded(kept: Row) -> bool:
    security = kept.get("meta", {}).get("security", ())
    return any(coding.get("code") == _AIAST for coding in security)


#: By the name under which a loss is told: whether a resource still has it.
_LABELS: Mapping[str, Callable[[Row], bool]] = {
    "meta.security": _is_coded,
    "identifier": lambda kept: bool(identifier(kept)),
    "device": lambda kept: bool(kept.get("device") or kept.get("author")),
}
_OF_OBSERVATIONS = ("note", "method", "text", "interpretation", "derivedFrom")
_AS_TEXT = "value as text"
#: Told in the place of labels, where nobody could look.
UNREAD = "not read back"


def reported(case: Case) -> Iterator[str]:
    """What the EHR dropped of a result stands at its delivery and in its AuditEvent, no more."""
    told = _told(case)
    for row in case.rows("deliveries"):
        if row["state"] == "delivered" and told.get(row["job_id"], ("", ""))[0] != row["lost"]:
            yield f"delivery {row['id']} and its AuditEvent tell of different losses"
    if not case.evidence.simulator.kept_as:
        return
    for moment, deliveries in case.deliveries_at.items():
        kept = case.results_at.get(moment, [])
        for row in deliveries:
            own = [each for each in kept if identifier(each) in {"", row["identifier"]}]
            if row["state"] == "delivered" and own:
                yield from _judged(row, own, told[row["job_id"]])


def _judged(row: Row, kept: list[Row], told: tuple[str, str]) -> Iterator[str]:
    """Compare what was told of a delivery with what is in the EHR of it, or of those like it."""
    lost, changed = set(told[0].split(", ")), told[1]
    missing = {name for each in kept for name in _missing(each)}
    if UNREAD not in lost and (untold := missing - lost):
        yield f"delivery {row['id']} does not tell that the EHR dropped {sorted(untold)}"
    if feigned := lost & (_LABELS.keys() | set(_OF_OBSERVATIONS)) - missing:
        yield f"delivery {row['id']} tells of a loss of {sorted(feigned)}, which are there"
    if all("valueString" in each for each in kept) and _AS_TEXT not in changed:
        yield f"delivery {row['id']} does not tell that its value is a text"


def legible(case: Case) -> Iterator[str]:
    """Every result in the EHR says that an AI made it: by its label, or in words beside it."""
    for each in case.results:
        shown = json.dumps([each[name] for name in _SHOWN if name in each])
        if not _is_coded(each) and not _SAYS_AI.search(shown):
            states = [row["state"] for row in case.deliveries_of(each)]
            yield f"{each['resourceType']}/{each['id']} does not say that an AI made it ({states})"


def _missing(kept: Row) -> Iterator[str]:
    for name, has in _LABELS.items():
        if not has(kept):
            yield name
    for name in _OF_OBSERVATIONS if kept["resourceType"] == "Observation" else ():
        if not kept.get(name):
            yield name


def _told(case: Case) -> Mapping[str, tuple[str, str]]:
    """Give, by job, what the AuditEvent of its delivery says was lost, and was changed."""
    found = {}
    for row in case.rows("audit_events"):
        if row["event"] != "deliver":
            continue
        details = {
            detail["type"]: detail["valueString"]
            for entity in json.loads(row["body"]).get("entity", ())
            for detail in entity.get("detail", ())
        }
        found[row["job_id"]] = (details.get("lost", ""), details.get("changed", ""))
    return found
