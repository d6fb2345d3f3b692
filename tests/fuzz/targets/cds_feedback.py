"""Feedback on cards: what is taken has a card, an outcome, a moment, and a reason of ours."""

from gateway.core.cds.card import REASON_SYSTEM, REASONS
from gateway.core.cds.feedback import read_feedback
from gateway.core.errors import ContentError
from tests.factories import raw
from tests.fuzz.target import Target


def run(data: bytes) -> None:
    """Read feedback; nothing of a comment is left in the clear."""
    for each in read_feedback(data):
        assert each.card
        assert each.outcome in {"accepted", "overridden"}
        assert each.at.tzinfo is not None
        assert each.reason in {"", "other", *REASONS}
        assert "said" not in repr(each)


def seeds() -> list[bytes]:
    """Give feedback of both outcomes."""
    at = {"card": "c1", "outcomeTimestamp": "2026-11-26T10:00:00Z"}
    why = {"reason": {"system": REASON_SYSTEM, "code": "disagree"}, "userComment": "no"}
    overridden = {**at, "outcome": "overridden", "overrideReason": why}
    accepted = {**at, "outcome": "accepted", "acceptedSuggestions": [{"id": "s"}]}
    return [raw({"feedback": [overridden, accepted]}), raw({"feedback": [accepted]})]


TARGET = Target(run, seeds, (ContentError,))
