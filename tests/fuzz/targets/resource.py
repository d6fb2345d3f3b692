"""Resources of every type: read, and the facts taken from them that all else is decided by."""

from gateway.core import event
from gateway.core.clinical_time import clinical_time
from gateway.core.errors import ContentError
from gateway.core.fhir import parse_resource
from tests.factories import consent, creatinine, patient, raw
from tests.fuzz.target import Target, shared


def run(data: bytes) -> None:
    """Read a resource and what is asked of it on arrival."""
    content = parse_resource(data).content
    event.facts(content, base_url="http://ehr.test/fhir", urns={"urn:uuid:1": "Patient/1"})
    event.is_made_by_ai(content)
    event.is_unsettled(content)
    event.encounter_of(content)
    event.effective_element(content)
    if content["resourceType"] == "Observation":
        clinical_time(content)


def seeds() -> list[bytes]:
    """Give the usual resources and official examples."""
    return [
        raw(patient(1)),
        raw(creatinine(1)),
        raw(consent(1)),
        *shared("r4-examples/*.json", most=30),
    ]


TARGET = Target(run, seeds, (ContentError,))
