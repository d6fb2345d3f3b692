"""One item of a system's `receive`: `push`, or a way in with its settings as `{kind: {…}}`.

A listener of another kind is added here by its model and its tag; its settings are a module of
their own, `adapters/site_<kind>.py`, and its process is `gateway/listeners/<kind>.py`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from adapters.site_dicom import DicomEntry
from adapters.site_drop import DropEntry
from adapters.site_following import AtomEntry, PollEntry, SubscriptionEntry
from adapters.site_mllp import MllpEntry
from adapters.site_push import PushEntry
from adapters.site_words import Part

PUSH = "push"
_PUSH_ALONE = "push-alone"
#: The kinds of listeners, as they stand in a site file.
KINDS = ("dicom", "drop", "mllp", "poll", "subscription", "atom")


class PushWay(Part):
    """Calls of Nadi's API, and what is known of them."""

    push: PushEntry = Field(description="It calls Nadi's API, and this is known of how.")


class MllpWay(Part):
    """HL7 v2 over MLLP."""

    mllp: MllpEntry = Field(description="A port that takes HL7 v2 messages.")


class DicomWay(Part):
    """Images by C-STORE."""

    dicom: DicomEntry = Field(description="A port that takes images by C-STORE.")


class DropWay(Part):
    """Files in a folder."""

    drop: DropEntry = Field(description="A folder into which it puts FHIR files.")


class PollWay(Part):
    """Questions what changed since the last one."""

    poll: PollEntry = Field(description="It is asked at an interval what changed.")


class SubscriptionWay(Part):
    """Subscriptions that Nadi keeps in the EHR."""

    subscription: SubscriptionEntry = Field(
        description="Its Subscriptions are kept, watched, and made up for."
    )


class AtomWay(Part):
    """Atom feeds of OpenMRS and Bahmni."""

    atom: AtomEntry = Field(description="Its Atom feeds are read.")


def kind_of(item: Any) -> str | None:  # noqa: ANN401 (whatever stands in the file)
    """Give the kind of an item; None for what is none."""
    if isinstance(item, BaseModel):
        return next(iter(type(item).model_fields))
    if isinstance(item, dict):
        return str(next(iter(item))) if len(item) == 1 else None
    return item if isinstance(item, str) else None


def pushed_in(receive: Sequence[Any]) -> PushEntry | None:
    """Give how a system pushes; None where it does not."""
    found = next((item for item in receive if kind_of(item) == PUSH), None)
    return found.push if isinstance(found, PushWay) else PushEntry() if found else None


def _tag_of(item: Any) -> str | None:  # noqa: ANN401 (whatever stands in the file)
    return _PUSH_ALONE if item == PUSH else kind_of(item)


Receive = Annotated[
    Annotated[Literal["push"], Tag(_PUSH_ALONE)]
    | Annotated[PushWay, Tag(PUSH)]
    | Annotated[DicomWay, Tag("dicom")]
    | Annotated[DropWay, Tag("drop")]
    | Annotated[MllpWay, Tag("mllp")]
    | Annotated[PollWay, Tag("poll")]
    | Annotated[SubscriptionWay, Tag("subscription")]
    | Annotated[AtomWay, Tag("atom")],
    Discriminator(
        _tag_of,
        custom_error_type="receive_kind",
        custom_error_message=f"must be push, or one of {', '.join(KINDS)} with its settings, "
        "such as {mllp: {port: 2575, timezone: Asia/Kolkata}}",
    ),
]
