"""Who answers for the processing of personal data at a site, and to whom people turn.

Source: DPDP Rules 2025, Rule 9 (contact published) and Rule 14 (grievances, 90 days at most);
CERT-In Directions of 28 April 2022 (point of contact).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Contact:
    """Somebody who can be reached."""

    name: str
    email: str = ""
    phone: str = ""

    @property
    def line(self) -> str:
        """Everything in one line."""
        return ", ".join(each for each in (self.name, self.email, self.phone) if each)


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """What a site says of itself.

    Attributes:
        fiduciary: Name of the Data Fiduciary: the hospital.
        officer: Who answers questions about the processing.
        grievance: Who hears grievances; the officer where nobody else is named.
        incident: Point of contact for CERT-In; the officer where nobody else is named.
        outside_india: Systems outside India, and on which ground they get data.
        measures: Security measures of the hospital beyond the gateway's own.
    """

    fiduciary: str
    address: str
    officer: Contact
    registration: str = ""
    grievance: Contact | None = None
    incident: Contact | None = None
    outside_india: Mapping[str, str] = field(default_factory=dict)
    measures: tuple[str, ...] = ()

    @property
    def complaints(self) -> Contact:
        """Who hears grievances."""
        return self.grievance or self.officer

    @property
    def point_of_contact(self) -> Contact:
        """Who speaks with CERT-In."""
        return self.incident or self.officer
