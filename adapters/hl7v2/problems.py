"""What is wrong with a message, in the words of its acknowledgement."""

from dataclasses import dataclass
from enum import IntEnum

from gateway.core.errors import ContentError


class Code(IntEnum):
    """HL7 table 0357, message error condition."""

    SEGMENT_SEQUENCE = 100
    REQUIRED_MISSING = 101
    DATA_TYPE = 102
    TABLE_VALUE = 103
    UNSUPPORTED_MESSAGE = 200
    UNSUPPORTED_EVENT = 201
    UNSUPPORTED_PROCESSING_ID = 202
    UNSUPPORTED_VERSION = 203
    UNKNOWN_KEY = 204
    INTERNAL = 207


#: What cannot be mended by mending the content: the sender is told "reject", not "error".
REJECTED = frozenset(
    {
        Code.UNSUPPORTED_MESSAGE,
        Code.UNSUPPORTED_EVENT,
        Code.UNSUPPORTED_PROCESSING_ID,
        Code.UNSUPPORTED_VERSION,
        Code.INTERNAL,
    }
)
TEXTS = {
    Code.SEGMENT_SEQUENCE: "Segment sequence error",
    Code.REQUIRED_MISSING: "Required field missing",
    Code.DATA_TYPE: "Data type error",
    Code.TABLE_VALUE: "Table value not found",
    Code.UNSUPPORTED_MESSAGE: "Unsupported message type",
    Code.UNSUPPORTED_EVENT: "Unsupported event code",
    Code.UNSUPPORTED_PROCESSING_ID: "Unsupported processing id",
    Code.UNSUPPORTED_VERSION: "Unsupported version id",
    Code.UNKNOWN_KEY: "Unknown key identifier",
    Code.INTERNAL: "Application internal error",
}


@dataclass(frozen=True)
class Place:
    """Where in a message something is (ERL).

    Attributes:
        segment: Its name.
        sequence: Which one of that name, from 1.
        field: Number of the field; 0 for the segment itself.
    """

    segment: str = "MSH"
    sequence: int = 1
    field: int = 0


class Hl7Problem(ContentError):
    """The message can't be taken; its sender has to mend it."""

    def __init__(self, code: Code, place: Place, says: str) -> None:
        """Say what is wrong.

        Args:
            code: Of table 0357.
            place: Where.
            says: What, and how to mend it; never a value of the message.
        """
        at = f"{place.segment}[{place.sequence}]" + (f"-{place.field}" if place.field else "")
        super().__init__(says, location=at)
        self.code = code
        self.place = place

    @property
    def is_rejected(self) -> bool:
        """Whether mending the content does not help."""
        return self.code in REJECTED


class WideCharacters(Hl7Problem):
    """The message is in a character set that can't be sent so; its content is not at fault."""

    @property
    def is_rejected(self) -> bool:
        """Whether mending the content does not help: the sender has to send otherwise."""
        return True
