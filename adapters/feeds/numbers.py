"""Which events of one Subscription were received, by their numbers, and which are missing.

A server counts the events of a Subscription from 1 and says with each notification how many there
were. Notifications may come twice, late, in any order or not at all; so what is kept is

* `settled`: every event up to it was received, or given up as recovered otherwise;
* `ahead`: spans of numbers beyond it that were received;
* `highest`: the largest number that was heard of.

What is missing is what lies between. All rules are pure.

Source: Subscriptions R5 Backport, "Event Numbering" and "Handling Errors as a Subscriber".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

#: So many separate spans are kept; numbers beyond are forgotten and asked for again.
_MOST_SPANS = 1000


@dataclass(frozen=True)
class Numbers:
    """The numbers of one Subscription.

    Attributes:
        ahead: First and last number of each span, ascending, apart by a gap at least.
    """

    settled: int
    highest: int
    ahead: tuple[tuple[int, int], ...] = ()

    @classmethod
    def starting_after(cls, number: int) -> Self:
        """Begin to count: what came up to a number is no concern of ours."""
        return cls(number, number)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote."""
        spans = tuple((int(first), int(last)) for first, last in kept["ahead"])
        return cls(int(kept["settled"]), int(kept["highest"]), spans)

    def as_json(self) -> dict[str, Any]:
        """Give what is to be kept."""
        return {
            "settled": self.settled,
            "highest": self.highest,
            "ahead": [list(span) for span in self.ahead],
        }

    @property
    def missing(self) -> tuple[int, int] | None:
        """The span in which numbers are missing; None when none is."""
        return (self.settled + 1, self.highest) if self.highest > self.settled else None

    def announced(self, total: int) -> Self:
        """Take in that so many events there were."""
        return replace(self, highest=max(self.highest, total))

    def received(self, numbers: Iterable[int]) -> Self:
        """Take in events; those that are known change nothing."""
        spans = [*self.ahead, *((number, number) for number in numbers)]
        settled, ahead = _merged(self.settled, sorted(spans))
        highest = max([self.highest, *(last for _, last in spans)])
        return replace(self, settled=settled, highest=highest, ahead=ahead[:_MOST_SPANS])

    def recovered(self, until: int) -> Self:
        """Take in that everything up to a number was received in another way."""
        settled, ahead = _merged(max(self.settled, until), self.ahead)
        return replace(self, settled=settled, highest=max(self.highest, settled), ahead=ahead)


def _merged(
    settled: int, spans: Iterable[tuple[int, int]]
) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Join spans that touch, and let what follows `settled` without a gap settle too."""
    joined: list[tuple[int, int]] = []
    for first, last in spans:
        if first <= settled + 1:
            settled = max(settled, last)
        elif joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return settled, tuple(joined)
