"""What the load and the checker share: what should become of an acknowledged event."""

from dataclasses import dataclass
from enum import StrEnum

#: The type of the marks that the load writes into the EHR, and that every EHR has to take.
MARK = "Basic"


class Expected(StrEnum):
    """What should become of one event.

    Nothing else in this package knows a rule of Nadi's: the load writes down what a patient's
    story asks for, the checker looks whether it is so.
    """

    #: No route is for it: it is kept, and no job is made.
    NO_JOB = "no-job"
    #: The patient permits it: one job, one Observation in the EHR.
    ONE = "one"
    #: One job, and nothing in the EHR: not permitted, or refused by the model.
    NONE = "none"
    #: Consent or a newer version came while it was on its way: one job, one Observation or none.
    MAYBE = "maybe"
    #: A version older than one that is here already: nothing in the EHR, and perhaps no job.
    STALE = "stale"


@dataclass(frozen=True)
class Acknowledged:
    """One event that was answered with 2xx.

    Attributes:
        event_id: Id of the Task that the answer named.
        patient_id: Whose it is.
        at: Its clinical time as it was pushed, which is that of its result too; may be empty.
    """

    event_id: str
    patient_id: str
    expected: Expected
    at: str = ""
