"""What moved an answer, in words: how it changes when parts of what it was made from are hidden.

An explanation tells of the model and not of the patient: "with the creatinine hidden the model
would have said less" is no cause of a disease. Whether the single effects add up to the effect of
hiding all of them is computed and said: if they don't, only their order means something.

A probability near 0 or 1 hardly moves whatever is hidden. Then the factors of its odds are told,
which still do; so is the map of an image, whose squares are small.

Numpy is not needed here: what words a result is written in is decided in processes without it.
"""

from dataclasses import dataclass
from math import exp, log
from typing import Literal

from models.manifest_outputs import Output

Part = Literal["inputs", "phrases", "squares"]

_POINTS = 100
_MINUS = "\N{MINUS SIGN}"
#: Largest gap, as a share of the effects, at which they are said to add up: less than is shown.
_TOLERANCE = 0.005
#: A smaller factor of the odds is none that anybody would call an effect.
LEAST_FACTOR = 1.05
#: Where float32 can't tell a probability from 0 or 1 any more.
_EDGE = 2.0**-24
_WORDS: dict[Part, str] = {
    "inputs": "What moved it, each input hidden in turn",
    "phrases": "The words that carried it, each phrase hidden in turn",
    "squares": "Where it came from, each square of the image hidden in turn",
}
#: From which probability on an answer that is mostly lowered has to be explained.
_HIGH = 0.5
#: How "suggested" and a map that is mostly blue go together.
_LOWERING = (
    "More of the image lowers the value than raises it: no single square explains why it is high."
)


@dataclass(frozen=True)
class Effect:
    """What one part did to the answer.

    Attributes:
        part: What people call it; of a text, its own words.
        change: The answer minus the answer with this part hidden.
        log_odds: The same for the logarithm of the odds, where the answer is a probability.
    """

    part: str
    change: float
    log_odds: float = 0.0


@dataclass(frozen=True)
class Drawing:
    """A picture of the effects.

    Attributes:
        png: The file.
        width: In pixels.
        height: In pixels.
    """

    png: bytes
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What moved an answer.

    Attributes:
        parts: What was hidden.
        output: Of the answer that is explained.
        value: The answer; 0 where nobody said it.
        subject: Which class, or which label of a panel, that is; empty for the chief answer.
        effects: Of every part, in the order of the parts.
        total: The answer minus the answer with all parts hidden.
        most: How many parts are named.
        kept: What could not be hidden, as people call it.
        drawing: Of an image: where.
    """

    parts: Part
    output: Output
    value: float = 0.0
    subject: str = ""
    effects: tuple[Effect, ...]
    total: float
    most: int
    kept: tuple[str, ...] = ()
    drawing: Drawing | None = None

    @property
    def sum(self) -> float:
        """What the effects add up to."""
        return sum(each.change for each in self.effects)

    @property
    def gap(self) -> float:
        """The effect of hiding all parts minus the sum of the single effects."""
        return self.total - self.sum

    @property
    def is_additive(self) -> bool:
        """Whether the effects add up to that of hiding all parts."""
        changes = sum(abs(each.change) for each in self.effects)
        scale = max(abs(self.total), changes)
        return abs(self.gap) <= _TOLERANCE * scale

    @property
    def named(self) -> tuple[Effect, ...]:
        """The parts that moved it most, as many as may be named, none that moved nothing."""
        moved = [each for each in self.effects if self._shown(each.change) != self._shown(0.0)]
        moved.sort(key=lambda each: abs(each.change), reverse=True)
        return tuple(moved[: self.most])

    def describe(self) -> str:
        """Say it in one paragraph, for the narrative of a result."""
        subject = f" ({self.subject})" if self.subject else ""
        said = f"{_WORDS[self.parts]}{subject}: {self._effects()}."
        kept = f" Not hidden: {', '.join(self.kept)}." if self.kept else ""
        fits = f" {_LOWERING}" if self._is_mostly_lowering() else ""
        return f"{said} {self._together()}{kept}{fits}"

    def _effects(self) -> str:
        if self.parts == "squares":
            return self._range()
        named = self.named
        if not named:
            return f"no single one changes it on its own{self._odds()}"
        told = [f"{self._name(each)} {self._shown(each.change)}" for each in named]
        rest = len(self.effects) - len(named)
        if rest:
            left = self.sum - sum(each.change for each in named)
            told.append(f"{rest} {'other' if rest == 1 else 'others'} {self._shown(left)}")
        return ", ".join(told)

    def _range(self) -> str:
        changes = [each.change for each in self.effects]
        shown_range = tuple(dict.fromkeys(map(self._shown, (min(changes), max(changes)))))
        if shown_range == (self._shown(0.0),):
            told = "no square alone changes it by as much as would be shown"
        else:
            told = f"between {' and '.join(shown_range)}" if shown_range[1:] else shown_range[0]
        told += self._range_of_odds()
        return f"{told}; the map shows where" if self.drawing else f"{told}; too little for a map"

    def _range_of_odds(self) -> str:
        """Tell by how much squares change the odds, in both directions where both do."""
        odds = [each.log_odds for each in self.effects]
        found = [each for each in (min(odds), max(odds)) if _is_factor(each)]
        told = [shown_odds(each) for each in dict.fromkeys(found)]
        return f", its odds by up to {' and '.join(told)}" if told else ""

    def _is_mostly_lowering(self) -> bool:
        """Whether the squares of a map, taken one by one, speak against a high probability."""
        odds = sum(each.log_odds for each in self.effects)
        return self.drawing is not None and odds < 0 and self.value >= _HIGH

    def _odds(self) -> str:
        """Tell the factors of the odds, where the probability itself hides what moved it."""
        found = [each for each in self.effects if _is_factor(each.log_odds)]
        found.sort(key=lambda each: abs(each.log_odds), reverse=True)
        told = [f"{self._name(each)} {shown_odds(each.log_odds)}" for each in found[: self.most]]
        return f"; its odds by {', '.join(told)}" if told else ""

    def _name(self, effect: Effect) -> str:
        return f"“{effect.part}”" if self.parts == "phrases" else effect.part

    def _together(self) -> str:
        total = f"All hidden together: {self._shown(self.total)}"
        if self.parts == "squares" or not self.named:  # squares overlap: nobody would add them up
            return f"{total}."
        if self.is_additive:
            return f"{total}, which is their sum."
        return (
            f"{total}, but their sum is {self._shown(self.sum)}: they do not add up, so read "
            "them as an order only."
        )

    def _shown(self, change: float) -> str:
        return shown(self.output, change)


@dataclass(frozen=True)
class NotExplained:
    """An explanation was asked for and there is none; the answer stands all the same.

    Attributes:
        why: Half a sentence for people, without any value.
    """

    why: str

    @property
    def drawing(self) -> None:
        """There is none."""
        return

    def describe(self) -> str:
        """Say it in the narrative."""
        return f"No explanation: {self.why}."


def shown(output: Output, change: float) -> str:
    """Write a change of an answer for people: of a probability in percentage points."""
    if output.kind in {"probability", "class"}:
        number: float = round(_POINTS * change)
        unit = "points"
    elif output.kind == "score":
        number, unit = round(change), output.unit_text or "points"
    else:
        number, unit = float(f"{change:.2g}"), output.unit_text or str(output.unit)
    sign = "+" if number >= 0 else _MINUS
    is_one = abs(number) == 1 and unit == "points"
    return f"{sign}{abs(number):g} {'point' if is_one else unit}"


def shown_odds(log_odds: float) -> str:
    """Write a change of the logarithm of the odds as the factor that it is.

    >>> shown_odds(2.302585), shown_odds(-2.302585)
    ('\u00d710', '\u00f710')
    """
    sign = "×" if log_odds >= 0 else "÷"  # noqa: RUF001 - the signs that people write
    return f"{sign}{two_digits(exp(abs(log_odds)))}"


def two_digits(number: float) -> str:
    """Write a positive number as roughly as it is known.

    >>> two_digits(392.4), two_digits(1.26)
    ('390', '1.3')
    """
    return f"{float(f'{number:.2g}'):.12g}"


def log_odds_change(answer: float, change: float) -> float:
    """Say how the logarithm of the odds changed with a probability.

    Args:
        answer: The probability.
        change: The probability minus what it became.
    """
    return _log_odds(answer) - _log_odds(answer - change)


def _log_odds(probability: float) -> float:
    inside = min(max(probability, _EDGE), 1 - _EDGE)
    return log(inside / (1 - inside))


def _is_factor(log_odds: float) -> bool:
    return abs(log_odds) >= log(LEAST_FACTOR)
