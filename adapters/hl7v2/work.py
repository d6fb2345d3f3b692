"""A message under conversion: what was made of it so far, and what the next segment joins."""

from dataclasses import dataclass, field

from adapters.hl7v2.datatypes import Json, Reading
from adapters.hl7v2.dialect import Dialect, Notes
from adapters.hl7v2.identity import Origin, resource_id, version_of
from adapters.hl7v2.mapping import fill
from adapters.hl7v2.message import Message, Segment
from adapters.hl7v2.problems import Place
from adapters.hl7v2.sent import Sent


@dataclass
class Made:
    """A resource under construction and the segment that began it."""

    content: Json
    place: Place

    @property
    def reference(self) -> Json:
        """A reference to it."""
        return {"reference": f"{self.content['resourceType']}/{self.content['id']}"}


@dataclass
class Work:
    """A message under conversion.

    Attributes:
        event: Its trigger event.
        sent: When it was sent.
        made: The resources so far.
        seen: How often a key was met, to tell apart what has the same one.
        subject: Reference of the patient.
        visit: Reference of the stay.
    """

    message: Message
    raw: bytes
    origin: Origin
    dialect: Dialect
    notes: Notes
    event: str
    sent: Sent
    made: list[Made] = field(default_factory=list)
    seen: dict[tuple[str, ...], int] = field(default_factory=dict)
    subject: Json | None = None
    patient: Made | None = None
    visit: Json | None = None
    order: Made | None = None
    order_segment: Segment | None = None
    report: Made | None = None
    specimen: Made | None = None
    observation: Made | None = None
    appointment: Made | None = None
    immunization: Made | None = None
    document: Made | None = None
    observation_time: Json = field(default_factory=dict)

    def begin(self, kind: str, segment: Segment, *key: str) -> Made:
        """Begin a resource; one that is begun again under the same key goes on.

        Args:
            kind: Its type.
            segment: The segment that begins it.
            key: What the sender calls it. The patient is part of it: numbers come again, a year
                later or from another machine, and must not make one patient's result another's.
        """
        key = (self.subject_reference, *key) if key else ()
        identity = (kind, *key)
        name = resource_id(self.origin, kind, *(key or (version_of(self.raw), *self._nth(kind))))
        known = next((each for each in self.made if key and each.content["id"] == name), None)
        made = known or Made({"resourceType": kind, "id": name}, segment.place)
        if known is None:
            self.made.append(made)
            self.seen[identity] = self.seen.get(identity, 0) + 1
        self.fill(made, segment)
        return made

    def fill(self, made: Made, segment: Segment) -> None:
        """Read what a segment says of a resource."""
        fill(made.content, made.content["resourceType"], segment, self.dialect, self.notes)

    def about(self, made: Made, element: str = "subject") -> Made:
        """Say whom it is about, and during which stay."""
        if self.subject:
            made.content.setdefault(element, self.subject)
        return made

    @property
    def subject_reference(self) -> str:
        """Reference of the patient; empty where there is none."""
        return str((self.subject or {}).get("reference", ""))

    @property
    def visit_key(self) -> tuple[str, ...]:
        """Number of the stay, as part of a key."""
        return (str((self.visit or {}).get("identifier", {}).get("value", "")),)

    def turn_to(self, subject: Json) -> None:
        """Turn to a patient: nothing that follows joins what was said of another one."""
        self.subject, self.visit, self.patient = subject, None, None
        self.order = self.report = self.specimen = self.observation = None
        self.order_segment, self.immunization, self.document = None, None, None
        self.observation_time = {}

    def reading(self, place: Place) -> Reading:
        """Give what conversions need at a place."""
        return Reading(self.dialect, self.notes, place)

    def _nth(self, kind: str) -> tuple[str, ...]:
        return (str(sum(each.content["resourceType"] == kind for each in self.made)),)

    def occurrence(self, *key: str) -> str:
        """Tell apart what has the same key within one message: empty for the first."""
        count = self.seen.get(key, 0)
        self.seen[key] = count + 1
        return str(count) if count else ""
