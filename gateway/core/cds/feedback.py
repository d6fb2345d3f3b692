"""What became of a card: read and checked. It may come again; the same is kept once.

What a clinician wrote may name a patient: it is kept sealed, and neither logged nor audited.

Source: CDS Hooks 2.0, "Feedback".
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import orjson

from gateway.core import clinical_time
from gateway.core.cds.card import REASON_SYSTEM, REASONS
from gateway.core.errors import InvalidResource, Issue
from gateway.core.r4_json import decode

Outcome = Literal["accepted", "overridden"]
_OUTCOMES = ("accepted", "overridden")
_MOST = 100
_LONGEST_CARD = 64
_MAX_DEPTH = 12


@dataclass(frozen=True)
class Feedback:
    """What became of one card.

    Attributes:
        card: Its uuid.
        reason: One of our codes of why it was overridden; `other` or empty.
        said: JSON of all that was said beside, to be sealed.
    """

    card: str
    outcome: Outcome
    at: datetime
    reason: str = ""
    said: bytes = field(default=b"", repr=False)


def read_feedback(raw: bytes) -> tuple[Feedback, ...]:
    """Read the body of a feedback call.

    Raises:
        MalformedJson: Not JSON.
        TooLarge: Nested too deep.
        InvalidResource: Something is missing or wrong; it is named.
    """
    content = decode(raw, max_depth=_MAX_DEPTH)
    listed = content.get("feedback") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not 1 <= len(listed) <= _MOST:
        words = f"A list of 1 to {_MOST} entries."
        raise InvalidResource((Issue("required", words, "feedback"),))
    issues: list[Issue] = []
    found: list[Feedback] = []
    for index, each in enumerate(listed):
        made = _one(each, f"feedback[{index}]")
        (issues if isinstance(made, Issue) else found).append(made)  # type: ignore[arg-type]
    if issues:
        raise InvalidResource(tuple(issues))
    return tuple(found)


def _one(each: Any, at: str) -> Feedback | Issue:  # noqa: ANN401 - whatever stands there
    if not isinstance(each, dict):
        return Issue("structure", "Has to be a JSON object.", at)
    card, outcome = each.get("card"), each.get("outcome")
    if not isinstance(card, str) or not 0 < len(card) <= _LONGEST_CARD:
        return Issue("required", "The uuid of the card.", f"{at}.card")
    if outcome not in _OUTCOMES:
        return Issue("value", "accepted or overridden.", f"{at}.outcome")
    moment = clinical_time.parse(each.get("outcomeTimestamp"))
    if moment is None or moment.first.tzinfo is None:
        words = "When it was, as an ISO 8601 instant."
        return Issue("required", words, f"{at}.outcomeTimestamp")
    why = each.get("overrideReason") or {}
    if not isinstance(why, dict) or not isinstance(why.get("reason") or {}, dict):
        return Issue("structure", "Has to be a JSON object.", f"{at}.overrideReason")
    said = {name: each[name] for name in ("acceptedSuggestions", "overrideReason") if name in each}
    return Feedback(card, outcome, moment.first, _reason(why), orjson.dumps(said) if said else b"")


def _reason(why: dict[str, Any]) -> str:
    coding = why.get("reason") or {}
    if coding.get("system") == REASON_SYSTEM and coding.get("code") in REASONS:
        return str(coding["code"])
    return "other" if why else ""
