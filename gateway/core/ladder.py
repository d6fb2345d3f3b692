"""(6) The write-back ladder: in which form a result goes to an EHR, and why not in a better one.

From the top: an Observation (or a RiskAssessment first, where the model wants one), a
DiagnosticReport, a DocumentReference, a Communication, a Task, an HL7 v2 ORU message, a CDS card,
and last Nadi's own worklist, where clinicians read what no EHR takes. The rules:

* the form that the model wants comes first; every other keeps the order above;
* a rung is left where the site forbids it, or fixes others; where the EHR can't keep such a
  resource, as its profile, its CapabilityStatement or its refusals say; where nothing sends it;
* what nobody knows is tried: an EHR that says nothing of its types is taken at its best;
* every rung that is left says why, in a sentence without any value.

Source: FHIR R4 CapabilityStatement.rest.resource; docs/write-back.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Rung(StrEnum):
    """A form in which a result can reach people, the best first."""

    OBSERVATION = "observation"
    RISK_ASSESSMENT = "risk-assessment"
    DIAGNOSTIC_REPORT = "diagnostic-report"
    DOCUMENT_REFERENCE = "document-reference"
    COMMUNICATION = "communication"
    TASK = "task"
    HL7V2_ORU = "hl7v2-oru"
    CDS_CARD = "cds-card"
    WORKLIST = "worklist"


class IfLabelLost(StrEnum):
    """What is done where an EHR does not keep the label that an AI made it (`meta.security`)."""

    WORDS = "words"
    NEXT_RUNG = "next-rung"
    STOP = "stop"


#: The resource type of each rung that is one.
TYPES: Mapping[Rung, str] = {
    Rung.OBSERVATION: "Observation",
    Rung.RISK_ASSESSMENT: "RiskAssessment",
    Rung.DIAGNOSTIC_REPORT: "DiagnosticReport",
    Rung.DOCUMENT_REFERENCE: "DocumentReference",
    Rung.COMMUNICATION: "Communication",
    Rung.TASK: "Task",
}
#: What even a rung that is taken whole can't hold.
LOSES: Mapping[Rung, str] = {
    Rung.DIAGNOSTIC_REPORT: "the value as a number, the model as a Device",
    Rung.DOCUMENT_REFERENCE: "the value as a number, its interpretation as a code",
    Rung.COMMUNICATION: "the value as a number, its interpretation as a code, the clinical time",
    Rung.TASK: "the value as a number, its interpretation as a code, the clinical time",
    Rung.HL7V2_ORU: "the AI label as a security label, the model as a Device, Provenance and maps",
    Rung.CDS_CARD: "the place in the chart: it is seen by whoever opens it",
    Rung.WORKLIST: "the place in the chart: people read it in Nadi",
}
RUNG_OF: Mapping[str, Rung] = {resource_type: rung for rung, resource_type in TYPES.items()}
_FORBIDDEN = "The site forbids it."
_NOT_NAMED = "The site names other rungs."
_NOT_WANTED = "The model's result is no risk."
#: Why what goes beyond FHIR is not there, by rung.
_NOT_SENT = {
    Rung.HL7V2_ORU: "The site names no receiver of HL7 v2 results (oru).",
    Rung.CDS_CARD: "The route shows no card where its EHR opens a chart (cds_hooks).",
}


@dataclass(frozen=True)
class Panel:
    """Two codes of the EHR's own, under which it is kept which model made a result.

    Attributes:
        code: Of the panel that has the result and the text as its members.
        model: Of the text: the model's title and version.
    """

    code: str
    model: str


@dataclass(frozen=True)
class Terms:
    """What a site, or one of its routes, says of the ladder.

    Attributes:
        only: The rungs that may be used; empty: all.
        never: The rungs that may not.
        if_label_lost: What is done where the EHR does not keep the AI label.
        codes: The EHR's own code, (system, code, display), by (system, code) of the model's.
        panel: What says there which model made a result; None: nothing of its own does.
    """

    only: frozenset[Rung] = frozenset()
    never: frozenset[Rung] = frozenset()
    if_label_lost: IfLabelLost | None = None
    codes: Mapping[tuple[str, str], tuple[str, str, str]] = field(default_factory=dict)
    panel: Panel | None = None

    def under(self, route: "Terms") -> "Terms":
        """Give the terms of a route where these are its system's: what it says itself, wins."""
        return Terms(
            only=route.only or self.only,
            never=self.never | route.never,
            if_label_lost=route.if_label_lost or self.if_label_lost,
            codes={**self.codes, **route.codes},
            panel=route.panel or self.panel,
        )


@dataclass(frozen=True)
class Left:
    """A rung that is not used, and why."""

    rung: Rung
    why: str


def said(left: Iterable[Left]) -> str:
    """Say it in a line, each reason once."""
    rungs: dict[str, list[Rung]] = {}
    for each in left:
        rungs.setdefault(each.why, []).append(each.rung)
    return " ".join(f"{', '.join(which)}: {why}" for why, which in rungs.items())


@dataclass(frozen=True)
class Ladder:
    """The rungs for one result, the first to be tried first, and those that are left.

    Attributes:
        order: All rungs, the best for this result first.
    """

    rungs: tuple[Rung, ...]
    left: tuple[Left, ...]
    order: tuple[Rung, ...] = tuple(Rung)

    def above(self, rung: Rung) -> tuple[Left, ...]:
        """Give what was left although it stands higher than the rung that was used."""
        better = self.order[: self.order.index(rung)]
        return tuple(each for each in self.left if each.rung in better)


#: Says why an EHR can't keep a resource type; None where it can, or nobody knows.
WhyNot = Callable[[str], str | None]


def ladder(wanted: str, *, terms: Terms, why_not: WhyNot, senders: Sequence[Rung] = ()) -> Ladder:
    """Choose the rungs for a result.

    Args:
        wanted: Resource type that the model's result has.
        terms: What the site says.
        why_not: What is known of the EHR.
        senders: The rungs beyond FHIR that something here sends.
    """
    rungs: list[Rung] = []
    left: list[Left] = []
    order = _ordered(wanted)
    for rung in order:
        why = _barred(rung, terms) or _missing(rung, wanted, why_not, senders)
        if why:
            left.append(Left(rung, why))
        else:
            rungs.append(rung)
    return Ladder(tuple(rungs), tuple(left), order)


def _ordered(wanted: str) -> tuple[Rung, ...]:
    first = RUNG_OF[wanted]
    return (first, *(rung for rung in Rung if rung is not first))


def _barred(rung: Rung, terms: Terms) -> str | None:
    if rung in terms.never:
        return _FORBIDDEN
    return _NOT_NAMED if terms.only and rung not in terms.only else None


def _missing(rung: Rung, wanted: str, why_not: WhyNot, senders: Sequence[Rung]) -> str | None:
    """Say why a rung can't be used that the site allows."""
    if rung is Rung.WORKLIST:
        return None
    if rung not in TYPES:
        return None if rung in senders else _NOT_SENT[rung]
    if rung is Rung.RISK_ASSESSMENT and wanted != TYPES[rung]:
        return _NOT_WANTED
    return why_not(TYPES[rung])
