"""To whom HL7 v2 messages go, and as what."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Addressed:
    """To whom messages go, and as what.

    Attributes:
        application: Who receives them (MSH-5).
        facility: Where (MSH-6).
        as_application: As who Nadi sends (MSH-3).
        as_facility: From where (MSH-4).
        processing_id: P, T or D (MSH-11).
        charset: Name in table 0211 (MSH-18).
        numbers: URI of the patient numbers that the receiver knows.
        authority: What the receiver calls whoever assigns them; empty: by its URI.
    """

    application: str
    facility: str
    as_application: str
    as_facility: str
    processing_id: str
    charset: str
    numbers: str
    authority: str = ""
