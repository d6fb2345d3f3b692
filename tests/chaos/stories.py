"""What an EHR pushes, patient by patient, from a seed; and what should come of each push.

Every text and every number of a patient carries a mark that is found again wherever it leaks: a
token in names, ids and identifiers, a tail of digits in measured values and telephone numbers, and
the birth dates themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.chaos.expected import Expected
from tests.chaos.lab import Message, oru
from tests.people import Person, versioned

Json = dict[str, Any]

#: Kinds of stories and how often each is told.
KINDS = {
    "permits": 8,
    "denies": 2,
    "silent": 1,
    "other-code": 1,
    "implausible": 1,
    "corrected": 3,
    "late-version": 2,
    "withdraws": 4,
    "agrees-later": 2,
}
#: Kinds whose results the laboratory may send, and how often it does.
_BY_LAB = frozenset({"permits", "denies", "silent", "implausible", "withdraws", "agrees-later"})
_BY_LAB_SHARE = 0.4
_BIRTH_DATES = tuple(f"{1941 + 3 * n}-0{1 + n % 9}-{11 + n}" for n in range(12))
_AGO = timedelta(minutes=5)


@dataclass(frozen=True)
class Push:
    """One resource to be pushed.

    Attributes:
        withdraws: Whether nothing may be written about the patient once it is acknowledged.
        message: The resource as the laboratory sends it; None where the EHR pushes it.
    """

    resource: Json
    expected: Expected = Expected.NO_JOB
    withdraws: bool = False
    message: Message | None = None


@dataclass(frozen=True)
class Story:
    """One patient: first the chart, in one Bundle or one by one, then what happens, in order."""

    kind: str
    patient_id: str
    chart: tuple[Push, ...]
    then: tuple[Push, ...]
    as_bundle: bool


@dataclass
class Teller:
    """Tells stories from a seed: the same seed tells the same ones, but for their times."""

    seed: int
    _dice: Random = field(init=False)
    _lab_dice: Random = field(init=False)

    def __post_init__(self) -> None:
        self._dice = Random(f"stories {self.seed}")  # noqa: S311 - a game, not a key
        self._lab_dice = Random(f"laboratory {self.seed}")  # noqa: S311
        self.token = f"qz{self._dice.randrange(16**6):06x}"
        self.tail = str(self._dice.randrange(10**7, 10**8) * 10 + 7)[-8:]

    @property
    def marks(self) -> tuple[bytes, ...]:
        """Everything of which one occurrence is a leak."""
        return (self.token.encode(), self.tail.encode(), *(d.encode() for d in _BIRTH_DATES))

    def stories(self) -> Iterator[Story]:
        """Tell one story after the other, without end."""
        number = 0
        while True:
            (kind,) = self._dice.choices(tuple(KINDS), KINDS.values())
            yield self._story(kind, number)
            number += 1

    def _story(self, kind: str, number: int) -> Story:
        at = datetime.now(UTC).replace(microsecond=0) - _AGO
        person = Person(f"{self.token}-{number:05d}", at)
        chart = [Push(each) for each in self._chart(person, kind)]
        as_bundle = self._dice.random() < 0.5
        then = self._then(person, kind)
        if self._lab_dice.random() < _BY_LAB_SHARE and kind in _BY_LAB:
            then = [self._by_lab(push, person, turn) for turn, push in enumerate(then, 1)]
        return Story(kind, person.id, tuple(chart), tuple(then), as_bundle)

    def _chart(self, person: Person, kind: str) -> list[Json]:
        first = {"denies": "deny", "agrees-later": "deny"}.get(kind, "permit")
        consent = [] if kind == "silent" else [versioned(person.consent(first), 1)]
        labs = [self._marked(versioned(lab, 1)) for lab in person.labs]
        self._dice.shuffle(labs)
        return [self._named(person), *consent, *labs]

    def _then(self, person: Person, kind: str) -> list[Push]:
        creatinine = self._creatinines(person)
        if kind == "permits":
            return [Push(next(creatinine), Expected.ONE) for _ in range(self._dice.randint(1, 3))]
        if kind in {"denies", "silent"}:
            return [Push(next(creatinine), Expected.NONE)]
        if kind == "other-code":
            other = person.observation("other", "2345-7", 101, "mg/dL")
            return [Push(self._marked(versioned(other, 1)))]
        if kind == "implausible":
            return [Push(self._marked(versioned(person.creatinine(4800), 1)), Expected.NONE)]
        if kind in {"corrected", "late-version"}:
            return self._versions(next(creatinine), is_late=kind == "late-version")
        return self._changes_mind(person, creatinine, withdraws=kind == "withdraws")

    def _by_lab(self, push: Push, person: Person, turn: int) -> Push:
        """Let the laboratory send a result; each has a clinical time of its own."""
        if push.resource["resourceType"] != "Observation":
            return push
        number = person.id.rpartition("-")[2]
        message = oru(
            push.resource,
            # Of the run, not of the patient: an acknowledgement repeats it.
            control_id=f"M{number}-{turn}",
            name=f"Family{self.token}",
            at=person.at + timedelta(seconds=turn),
            sent=datetime.now(UTC),
        )
        return replace(push, message=message)

    def _versions(self, first: Json, *, is_late: bool) -> list[Push]:
        """Push two versions of one result, in their order or the newer one first."""
        second = self._marked({**versioned(first, 2), "status": "corrected"})
        if is_late:
            return [Push(second, Expected.ONE), Push(first, Expected.STALE)]
        return [Push(first, Expected.MAYBE), Push(second, Expected.ONE)]

    def _changes_mind(
        self, person: Person, creatinine: Iterator[Json], *, withdraws: bool
    ) -> list[Push]:
        if withdraws:
            no = versioned(person.consent(status="inactive"), 2)
            return [
                Push(next(creatinine), Expected.MAYBE),
                Push(no, withdraws=True),
                Push(next(creatinine), Expected.NONE),
            ]
        yes = versioned(person.consent("permit"), 2)
        return [
            Push(next(creatinine), Expected.NONE),
            Push(yes),
            Push(next(creatinine), Expected.ONE),
        ]

    def _creatinines(self, person: Person) -> Iterator[Json]:
        """Give one after the other: of half of the patients all have the same clinical time."""
        number, apart_s = 0, self._dice.choice((0, 1))
        while True:
            number += 1
            one = person.creatinine(
                self._dice.uniform(2, 9),
                id=f"{person.id}-cr{number}",
                effectiveDateTime=(person.at + timedelta(seconds=number * apart_s)).isoformat(),
            )
            yield self._marked(versioned(one, 1))

    def _named(self, person: Person) -> Json:
        digits = f"{self._dice.randrange(10**4):04d}{self.tail}"
        return {
            **versioned(person.patient, 1),
            "birthDate": self._dice.choice(_BIRTH_DATES),
            "name": [{"family": f"Family{self.token}", "given": [f"Given{self.token}"]}],
            "identifier": [{"system": "https://hospital.example/mrn", "value": f"MRN{digits}"}],
            "telecom": [{"system": "phone", "value": f"+91 {digits}"}],
        }

    def _marked(self, resource: Json) -> Json:
        """Give the value of a result the tail of digits that no other number has."""
        quantity = resource["valueQuantity"]
        value = float(f"{quantity['value']:.2f}{self.tail}")
        return {**resource, "valueQuantity": {**quantity, "value": value}}
