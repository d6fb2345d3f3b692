"""What is published, and what can go wrong with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.core.errors import ProcessingError, TransientError


class WitnessAway(TransientError):
    """The witness can't be reached or did not take the checkpoint; it is tried again."""


class WitnessDisagrees(ProcessingError):
    """The witness holds a checkpoint that this log does not continue: look into it at once."""

    issue_type = "security"


class WitnessUnreadable(ProcessingError):
    """This kind of witness can't be asked for what it holds."""

    issue_type = "not-supported"


@dataclass(frozen=True)
class Publication:
    """A checkpoint on its way out.

    Attributes:
        note: The signed note.
        prove: Gives the consistency proof from an earlier size to this one.
        confirmed_size: Newest size that this witness is known to have; 0 when none.
        at: When it is published.
    """

    origin: str
    size: int
    note: str
    prove: Callable[[int], Sequence[bytes]]
    confirmed_size: int
    at: datetime


class Witness(Protocol):
    """Somebody who keeps checkpoints."""

    def publish(self, publication: Publication) -> None:
        """Hand a checkpoint over.

        Raises:
            WitnessAway: It could not be done now.
            WitnessDisagrees: The witness has seen another log.
        """

    def kept(self, origin: str) -> list[str]:
        """Give the notes that it keeps of a log.

        Raises:
            WitnessAway: It can't be asked now.
            WitnessUnreadable: It can't be asked at all.
        """
