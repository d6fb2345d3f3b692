"""What moved an answer, in words: how it changes when parts of what it was made from are hidden.

An explanation tells of the model and not of the patient: "with the creatinine hidden the model
would have said less" is no cause of a disease. Whether the single effects add up to the effect of
hiding all of them is computed and said: if they don't, only their order means something.

Numpy is not needed here: what words a result is written in is decided in processes without it.
"""

from dataclasses import dataclass
from typing import Literal

from models.manifest_outputs import Output

Part = Literal["inputs", "phrases", "squares"]

_POINTS = 100
_MINUS = "\N{MINUS SIGN}"
#: Largest gap, as a share of the effects, at which they are said to add up: less than is shown.
_TOLERANCE = 0.005
_WORDS: dict[Part, str] = {
    "inputs": "What moved it, each input hidden in turn",
    "phrases": "The words that carried it, each phrase hidden in turn",
    "squares": "Where it came from, each square of the image hidden in turn",
}


@dataclass(frozen=True)
class Effect:
    """What one part did to the answer.

    Attributes:
        part: What people call it; of a text, its own words.
        change: The answer minus the answer with this part hidden.
    """

    part: str
    change: float


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
        subject: Which class, or which label of a panel, that is; empty for the chief answer.
        effects: Of every part, in the order of the parts.
        total: The answer minus the answer with all parts hidden.
        most: How many parts are named.
        kept: What could not be hidden, as people call it.
        drawing: Of an image: where.
    """

    parts: Part
    output: Output
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
        return f"{said} {self._together()}{kept}"

    def _effects(self) -> str:
        if self.parts == "squares":
            changes = [each.change for each in self.effects]
            low, high = self._shown(min(changes)), self._shown(max(changes))
            return f"between {low} and {high}; the map shows where"
        named = self.named
        if not named:
            return "no single one changes it on its own"
        told = [f"{self._name(each)} {self._shown(each.change)}" for each in named]
        rest = len(self.effects) - len(named)
        if rest:
            left = self.sum - sum(each.change for each in named)
            told.append(f"{rest} {'other' if rest == 1 else 'others'} {self._shown(left)}")
        return ", ".join(told)

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
        """Write a change for people: a probability in percentage points."""
        if self.output.kind in {"probability", "class"}:
            number: float = round(_POINTS * change)
            unit = "points"
        elif self.output.kind == "score":
            number, unit = round(change), self.output.unit_text or "points"
        else:
            number, unit = float(f"{change:.2g}"), self.output.unit_text or str(self.output.unit)
        sign = "+" if number >= 0 else _MINUS
        is_one = abs(number) == 1 and unit == "points"
        return f"{sign}{abs(number):g} {'point' if is_one else unit}"


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
