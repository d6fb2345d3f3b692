"""The key `privacy` of a site file: who answers for the processing, and to whom people turn."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from gateway.core.privacy import Contact, Privacy

Line = Annotated[str, StringConstraints(min_length=1, max_length=300, strip_whitespace=True)]
Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]
Phone = Annotated[str, StringConstraints(pattern=r"^[+0-9][0-9 ()/-]{4,30}$")]
SystemName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ContactEntry(_Part):
    """Somebody who can be reached by mail or telephone."""

    name: Line = Field(description="A person or an office.")
    email: Email | None = Field(None, description="Address for mail.")
    phone: Phone | None = Field(None, description="Telephone number, in quotes.")

    @model_validator(mode="after")
    def _can_be_reached(self) -> "ContactEntry":
        if self.email is None and self.phone is None:
            raise ValueError("needs email or phone")
        return self

    def contact(self) -> Contact:
        """Give it ready for use."""
        return Contact(self.name, self.email or "", self.phone or "")


class PrivacyEntry(_Part):
    """Who answers for the processing of personal data, for notices, incidents and the record."""

    fiduciary: Line = Field(description="Name of the Data Fiduciary: the hospital.")
    address: Line = Field(description="Its postal address.")
    registration: Line | None = Field(
        None, description="Its registration as a clinical establishment, where it has one."
    )
    officer: ContactEntry = Field(description="Who answers questions about the processing.")
    grievance: ContactEntry | None = Field(
        None, description="Who hears grievances; `officer` when absent."
    )
    incident: ContactEntry | None = Field(
        None, description="Point of contact for CERT-In; `officer` when absent."
    )
    outside_india: dict[SystemName, Line] = Field(
        {}, description="Systems outside India, each with the ground on which it gets data."
    )
    measures: list[Line] = Field(
        [], description="The hospital's own security measures, for the record of processing."
    )

    def privacy(self) -> Privacy:
        """Give it ready for use."""
        return Privacy(
            fiduciary=self.fiduciary,
            address=self.address,
            registration=self.registration or "",
            officer=self.officer.contact(),
            grievance=self.grievance.contact() if self.grievance else None,
            incident=self.incident.contact() if self.incident else None,
            outside_india=self.outside_india,
            measures=tuple(self.measures),
        )
