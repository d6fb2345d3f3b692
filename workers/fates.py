"""(6.3) What can become of one result that was to be written into an EHR."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from gateway.core.errors import GatewayError, RateTaken, TransientError
from gateway.core.ladder import Left, Rung
from gateway.core.write_back import StoredReport


@dataclass(frozen=True)
class Written:
    """The result is in the EHR.

    Attributes:
        location: For example `Observation/<id>`, None when the EHR does not say.
        status: HTTP status; 200 when it was there already, 0 where it went by another protocol.
        is_repeated: The EHR holds it more than once: people have to look at it.
        changed: In what it had to be changed for the EHR, for example `as Observation`.
        rung: The form that it has there.
        lost: What of it the EHR did not keep, where that was looked at.
        left: The better forms, and why none of them was used.
        answer: What was answered by another protocol than HTTP; codes, never its text.
        is_by_looks: It was found there by what it is about, since it has no identifier there.
        is_read: It was read back; elsewhere another one of its kind speaks for it.
    """

    location: str | None
    status: int
    is_repeated: bool = False
    changed: tuple[str, ...] = ()
    rung: Rung | None = None
    lost: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()
    answer: str = ""
    is_by_looks: bool = False
    is_read: bool = field(default=False, compare=False)

    @property
    def said(self) -> str:
        """What was answered, in whatever protocol."""
        return self.answer or str(self.status)


@dataclass(frozen=True)
class OnWorklist:
    """No EHR takes it: it stays with Nadi, where clinicians read it.

    Attributes:
        left: Every other form, and why none of them was used.
    """

    left: tuple[Left, ...]


@dataclass(frozen=True)
class OnCard:
    """No EHR takes it: it is shown as a card when somebody opens the chart, and not before.

    Attributes:
        left: Every better form, and why none of them was used.
    """

    left: tuple[Left, ...]


@dataclass(frozen=True)
class NotTaken:
    """The EHR refuses this result for good; sending it unchanged again is pointless.

    Attributes:
        status: HTTP status; 0 where it was not sent.
        why: Why it was not sent, or not left there.
        answer: What was answered by another protocol than HTTP; codes, never its text.
    """

    status: int
    why: str = ""
    answer: str = ""

    @property
    def said(self) -> str:
        """What was answered, in whatever protocol."""
        return self.answer or (str(self.status) if self.status else "not sent")


@dataclass(frozen=True)
class NotReached:
    """It is not known whether the result is in the EHR, or it is not there yet.

    Attributes:
        error: Name of what happened.
        retry_after_s: When the EHR wants to be asked again, if it said so.
        is_of_system: The EHR as a whole is away; otherwise only this result had bad luck.
        refused_with: HTTP status, where the EHR answered that it has no such service.
        says: What it means and how to mend it, in a sentence; empty where the name says it all.
    """

    error: str
    retry_after_s: float | None = None
    is_of_system: bool = True
    refused_with: int | None = field(default=None, compare=False)
    says: str = field(default="", compare=False)

    @property
    def said(self) -> str:
        """What happened, by its name and in words."""
        return f"{self.error}: {self.says}" if self.says else f"{self.error}."


@dataclass(frozen=True)
class Withheld:
    """The gate did not let it go: nothing of this result was sent."""


Fate = Written | OnWorklist | OnCard | NotTaken | NotReached | Withheld

#: Gives the identifiers of those reports that may be sent now.
Gate = Callable[[Sequence[StoredReport]], Collection[str]]


def open_gate(reports: Sequence[StoredReport]) -> Collection[str]:
    """Let everything go."""
    return {report.identifier for report in reports}


def not_reached(error: TransientError) -> NotReached:
    """Say what it means that the EHR could not do it now."""
    # A conflict is about this one result, and a full line is our own; anything else is about the
    # whole EHR.
    is_there = isinstance(error, RateTaken) or error.issue_type == "lock-error"
    return replace(failed(error), retry_after_s=error.retry_after_s, is_of_system=not is_there)


def failed(error: Exception) -> NotReached:
    """Say what an error stops: all of the EHR where it is one of ours, else this one result.

    No such system, no credential: the integrator's turn. Anything else is not the system's.
    """
    is_ours = isinstance(error, GatewayError)
    says = error.message if isinstance(error, GatewayError) else ""
    return NotReached(type(error).__name__, is_of_system=is_ours, says=says)
