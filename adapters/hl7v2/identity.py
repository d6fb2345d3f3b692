"""Who a message is about and which resources it names: the same every time it is said.

A resource gets its id from what the sender calls it (its order number, the code of the result), so
a correction is the next version of what it corrects; the version is that of the message's bytes,
and its moment is MSH-7. A patient is known by the number whose authority the site names.
"""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from adapters.hl7v2.datatypes import Reading, authority
from adapters.hl7v2.message import Segment, Value
from gateway.core.feeds import FEEDS

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, FEEDS)
_FHIR_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_VERSION_DIGITS = 32
_MR = "MR"

#: Gives the id of the patient with a number; None where nobody is known by it.
FindPatient = Callable[[str], str | None]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a message comes from.

    Attributes:
        feed: Name of the feed, `lab/mllp`.
        patient_system: URI of the patient numbers by which the feed's patients are found.
        find_patient: Finds them.
        has_own_patients: Whether what it says of patients and stays is a source for them; a
            laboratory's copy of the EHR's patients is none.
    """

    feed: str
    patient_system: str
    find_patient: FindPatient
    has_own_patients: bool = False

    @property
    def address(self) -> str:
        """URI under which the resources of the feed are told apart."""
        return f"{FEEDS}{self.feed}"


def plain_id(number: str) -> str | None:
    """Take a patient number as the id of the Patient; None when it can't be one."""
    return number if _FHIR_ID.fullmatch(number) else None


def resource_id(origin: Origin, resource_type: str, *key: str) -> str:
    """Give the id of a resource from what the sender calls it."""
    parts = (origin.feed, resource_type, *key)
    framed = "".join(f"{len(part)}:{part}" for part in parts)
    return str(uuid.uuid5(_NAMESPACE, framed))


def version_of(content: bytes) -> str:
    """Give the version of everything that a message says."""
    return sha256(content).hexdigest()[:_VERSION_DIGITS]


def patient_number(pid: Segment, origin: Origin, reading: Reading) -> str:
    """Give the number of a patient: of the site's authority, else an MR number, else the first.

    Args:
        pid: The PID segment.
        origin: Says which authority.
        reading: How the feed writes.
    """
    listed = [value for value in pid.values(3) if value.text()]

    def rank(value: Value) -> int:
        if authority(value.component(4), reading) == origin.patient_system:
            return 0
        return 1 if value.text(5) == _MR else 2

    best = min(listed, key=rank, default=None)
    return best.text() if best else pid.text(2) or pid.text(4)


def own_patient_id(number: str, origin: Origin) -> str:
    """Give an id of our own to the patient with a number that nobody has."""
    return resource_id(origin, "Patient", origin.patient_system, number)
