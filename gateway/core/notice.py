"""A notice: an EHR says that something changed, without saying all of it.

An empty POST says only that; a notification of the Backport says how many events there were, which
it is about, and perhaps where each is to be read. What a notice asks for is done by a listener of
its system: read what is wanted, ask for what is missing, query again from the cursor.

The API keeps a notice before it answers, so that none is lost when a process dies.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

PING = "ping"


@dataclass(frozen=True)
class Notice:
    """What an EHR said.

    Attributes:
        kind: `ping`, or a code of SubscriptionStatus.type.
        subscription: Reference of the Subscription, as written; empty in a ping.
        status: Of the Subscription; empty when it does not say.
        total: Events since the Subscription started; None when it does not say.
        numbers: Of the events that it is about.
        wanted: References of what it points at and does not bring.
        is_blind: Whether something changed that it does not point at.
    """

    kind: str
    subscription: str = ""
    status: str = ""
    total: int | None = None
    numbers: tuple[int, ...] = ()
    wanted: tuple[str, ...] = ()
    is_blind: bool = False

    @property
    def asks(self) -> bool:
        """Whether something has to be fetched for it."""
        return self.is_blind or bool(self.wanted)

    def as_json(self) -> dict[str, Any]:
        """Give what is to be kept."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote."""
        lists = {name: tuple(kept[name]) for name in ("numbers", "wanted")}
        return cls(**{**kept, **lists})
