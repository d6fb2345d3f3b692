"""What a call of a CDS service that can be read is refused for.

Source: CDS Hooks 2.0, "FHIR Resource Access"; status 412.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.core.cds.request import CdsRequest
from gateway.core.errors import InvalidResource, Issue, ProcessingError
from gateway.core.event import facts
from gateway.core.jobs import BusinessStatus

_ANOTHER_SERVER = (
    "This is not the base_url that the site file has for your system; none else is asked."
)
_ANOTHER_PATIENT = "Something is brought along that is not the patient's of the context."

#: So many keys of a prefetch are named when the EHR gave none of them.
_KEYS_TOLD = 3
#: Why a model was not asked where data is missing: a call without any card is answered 412 then.
DATA_MISSING = frozenset(
    {
        BusinessStatus.INPUT_MISSING,
        BusinessStatus.TOO_FEW_INPUTS,
        BusinessStatus.IMAGE_MISSING,
        BusinessStatus.TEXT_MISSING,
        # Of her it is not known what the model needs: her age, for example.
        BusinessStatus.PATIENT_UNKNOWN,
    }
)


class DataMissing(ProcessingError):
    """What the model needs was neither brought along nor found in the EHR."""

    issue_type = "not-found"


def not_given(keys: Sequence[str]) -> DataMissing:
    """Say that an EHR did not give what was asked of it.

    Args:
        keys: Of the prefetch.
    """
    more = f" and {len(keys) - _KEYS_TOLD} more" if len(keys) > _KEYS_TOLD else ""
    return DataMissing(
        f"The EHR did not give {', '.join(keys[:_KEYS_TOLD])}{more}, or not in time: "
        "bring it along as prefetch, or call again when the EHR answers."
    )


def insist_on_server(request: CdsRequest, base_url: str | None) -> None:
    """Insist that the caller's FHIR server is the one of the site file: no other is asked.

    Args:
        request: The call.
        base_url: Of the caller's system; None where it is not known here.

    Raises:
        InvalidResource: It is another.
    """
    given = request.fhir_server
    if given is not None and given.rstrip("/") != base_url:
        raise InvalidResource((Issue("value", _ANOTHER_SERVER, "fhirServer"),))


def insist_on_patient(
    request: CdsRequest, contents: Iterable[Mapping[str, Any]], base_url: str | None
) -> None:
    """Insist that resources which name a patient name the one of the context.

    Args:
        request: The call.
        contents: The resources.
        base_url: Of the caller's system, by which references to it are known.

    Raises:
        InvalidResource: One names another.
    """
    for content in contents:
        insist_on_subject(request, facts(content, base_url=base_url).patient)


def insist_on_subject(request: CdsRequest, patient: str | None) -> None:
    """Insist on the patient of the context, where a resource names any.

    Raises:
        InvalidResource: It is another.
    """
    if patient is not None and patient != request.subject:
        raise InvalidResource((Issue("business-rule", _ANOTHER_PATIENT, "prefetch"),))
