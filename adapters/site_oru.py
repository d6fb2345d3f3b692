"""The key `oru` of a system: where its results go as HL7 v2 messages, and as what.

Its key `patients` says by which number a receiver knows a patient; where it names another system
as the owner (`of`), the Patient is asked of that one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from adapters.hl7v2.addressed import Addressed
from adapters.site_address import Host
from adapters.site_patients import PatientsEntry
from adapters.site_ports import PeerTlsEntry
from adapters.site_words import Part
from adapters.site_yaml import Document, Problem

Charset = Literal["UNICODE UTF-8", "ASCII", "8859/1", "8859/2", "8859/5", "8859/6", "8859/15"]
Hd = Annotated[str, StringConstraints(pattern=r"^[!-~]([ -~]{0,178}[!-~])?$")]


class OruEntry(Part):
    """A receiver of HL7 v2 results (ORU^R01, version 2.5.1) over MLLP."""

    host: Host = Field(description="Where it listens.")
    port: int = Field(ge=1, le=65535, description="On which port.")
    application: Hd = Field(description="Who receives (MSH-5).")
    facility: Hd = Field(description="Where (MSH-6).")
    as_application: Hd = Field("NADI", description="As who Nadi sends (MSH-3).")
    as_facility: Hd | None = Field(
        None, description="From where (MSH-4); absent: the name of the site."
    )
    authority: Hd | None = Field(
        None,
        description="What the receiver calls the authority of the patient numbers (PID-3.4); "
        "absent: by its URI.",
    )
    processing_id: Literal["P", "T", "D"] = Field(
        "P", description="Production, training or debugging (MSH-11)."
    )
    charset: Charset = Field("UNICODE UTF-8", description="The character set (MSH-18).")
    tls: PeerTlsEntry | None = Field(None, description="MLLPS; absent: in clear.")


@dataclass(frozen=True, kw_only=True)
class OruDestination:
    """Where results go as HL7 v2 messages.

    Attributes:
        tls: Files of authorities and of our own certificate; None sends in clear.
        patients_of: The system that is asked for the Patient.
    """

    host: str
    port: int
    tls: tuple[str, str | None] | None
    addressed: Addressed
    patients_of: str


def oru_of(
    entry: OruEntry | None, patients: PatientsEntry | None, *, system: str, site: str
) -> OruDestination | None:
    """Give the destination of a system; None where it names none.

    Args:
        entry: Its key `oru`.
        patients: Its key `patients`.
        system: Its name.
        site: Name of the site.
    """
    if entry is None or patients is None:
        return None
    addressed = Addressed(
        application=entry.application,
        facility=entry.facility,
        as_application=entry.as_application,
        as_facility=entry.as_facility or site,
        processing_id=entry.processing_id,
        charset=entry.charset,
        numbers=patients.identifier,
        authority=entry.authority or "",
    )
    return OruDestination(
        host=entry.host,
        port=entry.port,
        tls=entry.tls.files if entry.tls else None,
        addressed=addressed,
        patients_of=patients.of or system,
    )


def oru_problems(document: Document) -> Iterator[Problem]:
    """Say where a receiver does not know the patients whose results it would get."""
    site = _mapping(document.value)
    systems = _mapping(site.get("systems"))
    for name, entry in systems.items():
        if "oru" in _mapping(entry) and "patients" not in _mapping(entry):
            words = "needs `patients`: the URI of the number that the receiver knows patients by"
            yield document.problem(("systems", name, "oru"), words)
    for name, written in _mapping(site.get("routes")).items():
        route = _mapping(written)
        sink = str(_mapping(route.get("sink")).get("system"))
        into, source = _mapping(systems.get(sink)), route.get("source")
        owner = _mapping(into.get("patients")).get("of", sink)
        if "oru" in into and source in systems and source != owner:
            words = f"'{sink}' knows the patients of '{owner}', not those of '{source}'"
            yield document.problem(("routes", name, "sink", "system"), words)


def _mapping(value: object) -> dict[str, Any]:
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}
