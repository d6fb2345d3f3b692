"""The key `write_back` of a system, and of a route's sink: in which forms results may go there."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from adapters.site_words import Part
from gateway.core.ladder import IfLabelLost, Panel, Rung, Terms

RungName = Literal[
    "observation",
    "risk-assessment",
    "diagnostic-report",
    "document-reference",
    "communication",
    "task",
    "hl7v2-oru",
    "cds-card",
    "worklist",
]


class OwnCode(Part):
    """What the EHR calls a result of a model."""

    of_system: str = Field("", max_length=255, description="Code system of the model's code.")
    of_code: str = Field(min_length=1, max_length=128, description="The model's code.")
    system: str = Field("", max_length=255, description="Of the EHR's; empty: without a system.")
    code: str = Field(
        min_length=1, max_length=128, description="The EHR's code, such as a concept's UUID."
    )
    display: str = Field("", max_length=255, description="Its name; let it say that an AI made it.")


class PanelEntry(Part):
    """The EHR's own codes, without a system, for a panel that says which model made a result."""

    code: str = Field(
        min_length=1,
        max_length=128,
        description="Of the panel: the UUID of a Concept that is a set.",
    )
    model: str = Field(
        min_length=1,
        max_length=128,
        description="Of the model's title and version: the UUID of a Concept of type text.",
    )


def _check_some(rungs: list[RungName]) -> list[RungName]:
    if not rungs:
        raise ValueError("names no rung: leave the key out to allow all")
    return rungs


class WriteBackEntry(Part):
    """Which rungs of the write-back ladder may be used, and what if the AI label is lost."""

    only: Annotated[list[RungName], AfterValidator(_check_some)] | None = Field(
        None, description="The rungs that may be used; absent: all."
    )
    never: list[RungName] = Field([], description="The rungs that may not be used.")
    if_label_lost: Literal["words", "next-rung", "stop"] | None = Field(
        None,
        description="Where the EHR does not keep the AI label: say it in words, go a rung down, "
        "or write nothing more; absent: what the EHR's profile says.",
    )
    codes: list[OwnCode] = Field([], description="The EHR's own codes for what models answer.")
    panel: PanelEntry | None = Field(
        None,
        description="For an EHR that keeps neither Device nor method, as OpenMRS: each result is a "
        "member of a panel that names the model and its version; absent: no panel.",
    )

    def terms(self) -> Terms:
        """Give the terms ready for use."""
        return Terms(
            only=frozenset(map(Rung, self.only or ())),
            never=frozenset(map(Rung, self.never)),
            if_label_lost=IfLabelLost(self.if_label_lost) if self.if_label_lost else None,
            codes={(c.of_system, c.of_code): (c.system, c.code, c.display) for c in self.codes},
            panel=Panel(self.panel.code, self.panel.model) if self.panel else None,
        )
