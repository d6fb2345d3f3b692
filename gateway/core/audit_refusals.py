"""AuditEvents of ports: images that were not taken, and who was turned away.

One event may stand for many refusals alike: it tells how many, and from when to when. A calling AE
title that the site does not know is free text of a stranger's, so it is not told; the address is.

Source: DICOM PS3.15 section A.5 (DICOM Instances Transferred; Security Alert, Node Authentication).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core import balp
from gateway.core.audit import AuditAgent, AuditRecord, Outcome, Step
from gateway.core.audit_event import entity_details, write_record
from gateway.core.balp import AgentKind

IMAGE, SENDER = "image-refuse", "sender-refuse"
UNKNOWN = "unknown"
#: What a refusal of DICOM's is about, by its outcome; what is not here is none.
_WHY: Mapping[str, tuple[str, str]] = {
    "refused-A700": (IMAGE, "There is too little room, or it can't be written."),
    "refused-A900": (IMAGE, "It is of another SOP class or instance than was said."),
    "refused-C001": (IMAGE, "It is cut off, damaged, or holds no image."),
    "refused-C002": (IMAGE, "It names no patient."),
    "refused-C003": (IMAGE, "A UID of study, series or instance is none."),
    "refused-C004": (IMAGE, "It has more bytes than the site allows."),
    "refused-C005": (IMAGE, "It has more pixels than the site allows."),
    "refused-caller": (SENDER, "The site knows no such sender."),
    "refused-called": (SENDER, "It called another AE title than ours."),
    "refused-association": (SENDER, "There are too many associations."),
    "refused-address": (SENDER, "Nobody may connect from this address."),
    "refused-connection": (SENDER, "The connection ended before it was one, as without a key."),
}


@dataclass(frozen=True)
class Refusals:
    """Refusals alike.

    Attributes:
        outcome: What was answered, as the metric has it.
        title: AE title of the sender, where the site knows it; else `UNKNOWN`.
        address: Where they came from; None where that is not told.
        why: A sentence, where a sender was turned away for another reason than those of DICOM.
    """

    outcome: str
    title: str
    address: str | None
    why: str = ""

    @property
    def is_told(self) -> bool:
        """Whether they are put on record."""
        return bool(self.why) or self.outcome in _WHY


def refused(
    step: Step, refusals: Refusals, *, feed: str, count: int, within_ms: tuple[int, int]
) -> AuditRecord:
    """Images were not taken, or their sender was turned away.

    Args:
        step: When and where.
        refusals: What they have in common.
        feed: Which port.
        count: How many.
        within_ms: When the first and the last of them was.

    Raises:
        KeyError: It is no outcome that is told.
    """
    event, why = (SENDER, refusals.why) if refusals.why else _WHY[refusals.outcome]
    failed = Step(
        id=step.id,
        recorded=step.recorded,
        source=step.source,
        outcome=Outcome.SERIOUS_FAILURE if event == SENDER else Outcome.MINOR_FAILURE,
        reason=why,
    )
    first_ms, last_ms = within_ms
    told = {
        "feed": feed,
        "answer": refusals.outcome.removeprefix("refused-"),
        "count": str(count),
        "first-ms": str(first_ms),
        "last-ms": str(last_ms),
    }
    name = refusals.title
    sender = AuditAgent(name, name, AgentKind.CLIENT, address=refusals.address)
    process = step.source.process
    us = AuditAgent(process, process, AgentKind.SERVER, address=step.source.address)
    entity = {**balp.OTHER_ENTITY, "detail": entity_details(told)}
    pattern = balp.ACTIVITIES[event]
    return write_record(event, failed, pattern, agents=[sender, us], entities=[entity])
