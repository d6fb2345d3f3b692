"""A prediction, and when a figure confirms it, kills it, or does so in part.

* **confirmed**: what was foretold, or within the range that was;
* **partly**: at least half of the gain that was foretold, more than the range that was, or so for
  some of what it was foretold of;
* **killed**: anything else. The part may be worth having all the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.result import Result

Values = Mapping[str, float]
CONFIRMED, PARTLY, KILLED = "confirmed", "**partly**", "**killed**"
UNMEASURED = "not measured"
_HALF = 0.5


@dataclass(frozen=True)
class Prediction:
    """Something that was foretold.

    Attributes:
        predicted: In words, with its figures.
        number: The benchmark that judges it.
        needs: Figures of that benchmark without which nothing can be said.
        found: Words what was found.
        judge: Gives the verdict.
    """

    predicted: str
    number: str
    needs: tuple[str, ...]
    found: Callable[[Values], str]
    judge: Callable[[Values], str]

    def verdict(self, results: Mapping[str, Result]) -> str:
        """Judge it by what was measured."""
        result = results.get(self.number)
        if result is None or any(key not in result.values for key in self.needs):
            return UNMEASURED
        return self.judge(result.values)

    def row(self, results: Mapping[str, Result]) -> tuple[str, ...]:
        """Say what was foretold, what was found, the verdict and the command."""
        result, verdict = results.get(self.number), self.verdict(results)
        command = f"`{result.command}`" if result else ""
        is_known = result is not None and all(key in result.values for key in self.needs)
        found = self.found(result.values) if result and is_known else UNMEASURED
        return (self.predicted, found, verdict, command)


@dataclass(frozen=True)
class Recommendation:
    """One of the ten.

    Attributes:
        what: In words.
        predictions: What was foretold of it.
    """

    what: str
    predictions: tuple[Prediction, ...]


def times(found: float, low: float, high: float | None = None) -> str:
    """Judge a ratio that was to be at least so much, or within a range.

    Args:
        found: How many times better it is; 1 is no gain.
        low: What was foretold at least.
        high: What was foretold at most; None where more is as foretold.
    """
    if found >= low:
        return CONFIRMED if high is None or found <= high else PARTLY
    return PARTLY if low > 1 and (found - 1) / (low - 1) >= _HALF else KILLED


def below(found: float, limit: float) -> str:
    """Judge a cost that was to be at most so much; up to twice that is half of what was hoped."""
    if found <= limit:
        return CONFIRMED
    return PARTLY if found * _HALF <= limit else KILLED


def above(found: float, limit: float) -> str:
    """Judge a figure that was to be at least so much; half of it is half of what was hoped."""
    if found >= limit:
        return CONFIRMED
    return PARTLY if found >= limit * _HALF else KILLED


def each_of(*verdicts: str) -> str:
    """Judge what was foretold of several: partly where they differ."""
    return verdicts[0] if len(set(verdicts)) == 1 else PARTLY
