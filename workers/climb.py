"""(6.3) One result on its way down the ladder, and the rungs that are no resource in an EHR.

What goes beyond FHIR is the same for every system: a message is sent, a card waits for whoever
opens the chart, the worklist keeps the rest. `workers.climbing` has the rungs of FHIR.

Source: docs/write-back.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.core.findings import Json
from gateway.core.ladder import LOSES, Ladder, Left, Rung, ladder, said
from gateway.core.write_back import StoredReport
from workers.fates import (
    Fate,
    Gate,
    NotReached,
    NotTaken,
    OnCard,
    OnWorklist,
    Withheld,
    Written,
    open_gate,
)

#: The two forms in which a model's result is itself.
OWN_FORMS = frozenset({Rung.OBSERVATION, Rung.RISK_ASSESSMENT})
NO_API = "The system has no FHIR API."
#: Nothing is sent: the result stays here.
_KEPT_HERE = frozenset({Rung.CDS_CARD, Rung.WORKLIST})


@dataclass(frozen=True)
class Unfit:
    """A result has no such form; it may have a lower one.

    Attributes:
        why: In a sentence without any value.
    """

    why: str


class Sender(Protocol):
    """Sends results in a form beyond FHIR, as HL7 v2."""

    def send(self, report: StoredReport, let_go: Callable[[], bool]) -> Fate | Unfit:
        """Send one result.

        Args:
            report: The result.
            let_go: Asked right before anything of it leaves.
        """


@dataclass(frozen=True)
class Climb:
    """A result on its way down.

    Attributes:
        report: As it is stored.
        ladder: Its rungs, and those that were left before it began.
        at: On which rung it stands.
        left: The rungs that were tried.
        fate: What the last one that should have been there answered.
    """

    report: StoredReport
    ladder: Ladder
    at: int = 0
    left: tuple[Left, ...] = ()
    fate: NotReached | None = None

    @property
    def rung(self) -> Rung | None:
        """The rung it stands on; None below the last."""
        return self.ladder.rungs[self.at] if self.at < len(self.ladder.rungs) else None

    @property
    def above(self) -> tuple[Left, ...]:
        """What was left so far."""
        rung = self.rung
        return (*(self.ladder.above(rung) if rung else self.ladder.left), *self.left)

    @property
    def is_below_own(self) -> bool:
        """Say whether one of its own two forms was tried and will not do."""
        return any(each.rung in OWN_FORMS for each in self.left)

    def down(self, why: str, fate: NotReached | None = None) -> "Climb":
        """Give it one rung lower; where the EHR refused a result, it refused both its own forms."""
        rungs, at = self.ladder.rungs, self.at + 1
        while fate and at < len(rungs) and {rungs[at], rungs[self.at]} == OWN_FORMS:
            at += 1
        tried = Left(rungs[self.at], why)
        return replace(self, at=at, left=(*self.left, tried), fate=fate or self.fate)


def beyond(report: StoredReport, senders: Mapping[Rung, Sender]) -> tuple[Rung, ...]:
    """Give the rungs beyond FHIR that there are for a result, besides the worklist."""
    return (*senders, *([Rung.CDS_CARD] if report.has_card else []))


def beyond_fhir(climb: Climb, senders: Mapping[Rung, Sender], gate: Gate) -> Fate | Climb:
    """Try a rung that is no resource in an EHR."""
    rung = climb.rung

    def let_go() -> bool:
        return climb.report.identifier in gate([climb.report])

    if rung is None or rung in _KEPT_HERE:
        end = _at_the_bottom(climb)
        # People read it here: a withdrawal that came meanwhile found nothing to take off.
        return end if not isinstance(end, OnWorklist | OnCard) or let_go() else Withheld()
    found = senders[rung].send(climb.report, let_go)
    if isinstance(found, Unfit):
        return climb.down(found.why)
    if not isinstance(found, Written):
        return found
    lost = (*found.lost, *([LOSES[rung]] if rung in LOSES else []))
    return replace(found, rung=rung, lost=lost, left=climb.above)


class WithoutFhir:
    """A system without a FHIR API as a recipient of results; safe to share among threads."""

    def __init__(self, senders: Mapping[Rung, Sender]) -> None:
        """Take what sends the forms beyond FHIR."""
        self._senders = senders

    def write(
        self,
        reports: Sequence[StoredReport],
        *,
        repeated: frozenset[str],  # noqa: ARG002 - its receiver tells a repeat by its number
        gate: Gate = open_gate,
    ) -> dict[str, Fate]:
        """Send reports one after the other; give the fate of each by its identifier."""
        return {report.identifier: self._write(report, gate) for report in reports}

    def held(
        self,
        report: StoredReport,  # noqa: ARG002 - as of an EHR
        *,
        sought: frozenset[str] = frozenset(),  # noqa: ARG002 - the same
    ) -> list[Json]:
        """Give nothing: there is no chart to look into."""
        return []

    def look_again(self) -> None:
        """Find out anew what it can do: nothing was learnt of it."""

    def _write(self, report: StoredReport, gate: Gate) -> Fate:
        rungs = ladder(
            report.resource_type,
            terms=report.terms,
            why_not=lambda _: NO_API,
            senders=beyond(report, self._senders),
        )
        end: Fate | Climb = Climb(report, rungs)
        while isinstance(end, Climb):
            end = beyond_fhir(end, self._senders, gate)
        return end


def _at_the_bottom(climb: Climb) -> Fate:
    """Say what becomes of a result that no rung took."""
    if climb.fate is not None:
        return climb.fate
    if climb.rung is Rung.CDS_CARD:
        return OnCard(climb.above)
    if climb.rung is Rung.WORKLIST:
        return OnWorklist(climb.above)
    told = said(climb.above)
    return NotTaken(0, f"The site allows no way that the EHR takes. {told}")
