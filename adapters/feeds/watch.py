"""One Subscription as its receiver sees it: is it alive, and is anything missing?

What the EHR says comes in as notices; what is to be done comes out as a `Step`. All rules are pure:

* a gap in the numbers is given some time, for what is merely late; then it is recovered, once;
* a Subscription that was not heard of for twice its heartbeat is asked for its status;
* one that is in error, or off, is set to `requested` again: only the client may;
* a count that begins anew (the EHR was restored, the Subscription made again) begins anew here,
  and what changed meanwhile is asked for from the cursor.

Source: Subscriptions R5 Backport, "Handling Errors as a Subscriber", `$status`, `$events`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from adapters.feeds.numbers import Numbers
from gateway.core.notice import Notice

#: These tell the count as it is now; a notification of events may have been overtaken.
_TELLS_COUNT = frozenset({"handshake", "heartbeat", "query-status"})
_ENDED = frozenset({"error", "off"})
#: A Subscription is silent after so many heartbeats.
_HEARTBEATS = 2


class Step(StrEnum):
    """What has to be done about a Subscription."""

    RECOVER = "recover"
    ASK_STATUS = "ask-status"
    REACTIVATE = "reactivate"


@dataclass(frozen=True)
class Patience:
    """How long what is waited for.

    Attributes:
        grace_ms: A number that is missing may be late by so much.
        heartbeat_ms: Period of the heartbeat; None where there is none.
        retry_ms: Between two attempts at the same step.
    """

    grace_ms: int
    heartbeat_ms: int | None
    retry_ms: int


@dataclass(frozen=True)
class Watched:
    """What is known of one Subscription.

    Attributes:
        reference: As the EHR wrote it.
        status: Newest that it said; empty where it never did.
        heard_ms: When it was last heard of.
        missing_ms: Since when a number is missing; None when none is.
        tried_ms: When a step was last tried.
    """

    reference: str
    numbers: Numbers
    status: str
    heard_ms: int
    missing_ms: int | None = None
    tried_ms: int | None = None

    @classmethod
    def begin(cls, notice: Notice, at_ms: int) -> Self:
        """Begin with the first that is heard of a Subscription."""
        before = min(notice.numbers) - 1 if notice.numbers else notice.total or 0
        numbers = Numbers.starting_after(max(before, 0))
        return cls(notice.subscription, numbers, notice.status, at_ms)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote."""
        return cls(**{**kept, "numbers": Numbers.from_json(kept["numbers"])})

    def as_json(self) -> dict[str, Any]:
        """Give what is to be kept."""
        return {**vars(self), "numbers": self.numbers.as_json()}

    def begins_anew(self, notice: Notice) -> bool:
        """Say whether the EHR counts from the beginning again."""
        tells = notice.kind in _TELLS_COUNT and notice.total is not None
        return tells and (notice.total or 0) < self.numbers.highest

    def heard(self, notice: Notice, at_ms: int) -> "Watched":
        """Take in what the EHR said."""
        if self.begins_anew(notice):
            return Watched.begin(notice, at_ms)
        numbers = self.numbers.received(notice.numbers)
        if notice.total is not None:
            numbers = numbers.announced(notice.total)
        heard = replace(
            self,
            numbers=numbers,
            status=notice.status or self.status,
            heard_ms=max(self.heard_ms, at_ms),
        )
        return heard.settled(at_ms)

    def settled(self, at_ms: int) -> "Watched":
        """Note since when a number is missing, if one is."""
        if self.numbers.missing is None:
            return replace(self, missing_ms=None)
        since_ms = at_ms if self.missing_ms is None else self.missing_ms
        return replace(self, missing_ms=since_ms)

    def recovered(self, until: int, at_ms: int) -> "Watched":
        """Take in that everything up to a number was received in another way."""
        found = replace(self, numbers=self.numbers.recovered(until), missing_ms=None)
        return found.settled(at_ms)

    def tried(self, at_ms: int) -> "Watched":
        """Note that a step was tried."""
        return replace(self, tried_ms=at_ms)

    def step(self, now_ms: int, patience: Patience) -> Step | None:
        """Say what has to be done now; None when all is well, or was just tried."""
        if self.tried_ms is not None and now_ms < self.tried_ms + patience.retry_ms:
            return None
        if self.status in _ENDED:
            return Step.REACTIVATE
        if self.missing_ms is not None and now_ms >= self.missing_ms + patience.grace_ms:
            return Step.RECOVER
        if patience.heartbeat_ms is None:
            return None
        silent_ms = now_ms - self.heard_ms
        return Step.ASK_STATUS if silent_ms > _HEARTBEATS * patience.heartbeat_ms else None
