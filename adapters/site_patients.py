"""The key `patients` of a system: whose patients a feed that does not speak FHIR is about.

Consents, charts and results belong to the patients of one system, the EHR. A laboratory or an
image archive that names them by the hospital's number speaks of the EHR's patients: what it sends
is received as if the EHR had sent it, under the patient's reference there.
"""

from typing import Literal

from pydantic import Field

from adapters.site_words import Name, Part, Uri


class PatientsEntry(Part):
    """How the patients of a feed are found again."""

    of: Name | None = Field(
        None, description="The system of `systems` whose patients these are; absent: its own."
    )
    identifier: Uri = Field(
        description="URI of the patient number that the feed carries (the MR number)."
    )
    find: Literal["search", "id"] | None = Field(
        None,
        description="`search`: the patient is looked up there by this identifier; `id`: the number "
        "is the id of the Patient resource. Absent: `search` in a system with a FHIR API.",
    )
