"""(4.2) and (6.2): the patient's consent is asked again, with what is on record now.

Admission asked first; a consent may have been withdrawn or have expired since. In doubt the
answer is no: a consent on record that can't be opened or read denies.
"""

from collections.abc import Mapping, Sequence

from gateway.core.consent import About, ConsentDecision, ConsentRecord, Model, Question, question
from gateway.core.jobs import Job
from gateway.core.routing import Route
from gateway.core.write_back import StoredReport
from gateway.store.events import Event
from gateway.store.unit_of_work import UnitOfWork

#: What is on record, by patient key.
OnRecord = Mapping[str, Sequence[ConsentRecord]]


def unknown_patient(route: Route) -> ConsentDecision:
    """Deny where nobody can be asked."""
    reasons = ("No patient is known.",)
    return ConsentDecision(is_permitted=False, purpose=route.purpose, reasons=reasons)


def question_of(
    uow: UnitOfWork,
    event: Event,
    route: Route,
    job: Job,
    known: tuple[OnRecord, frozenset[str]],
) -> Question | None:
    """Give what is asked for a job; None when its event names no patient.

    Args:
        uow: The unit of work, whose present it is asked for.
        event: The event of the job.
        route: Its route, in the site in force.
        job: The job, which names the model.
        known: What is on record, and what would be done: `READ` or `WRITE`.

    Raises:
        Unsealable: The patient's reference can't be opened.
    """
    consents, actions = known
    patient = uow.events.patient(event)
    if patient is None or event.patient_key is None:
        return None
    about = About(patient, event.id, uow.now)
    model = Model(job.model, job.model_digest)
    return question(route.asks, about, consents[event.patient_key], model, actions)


def about_result(asked: Question, report: StoredReport) -> ConsentDecision:
    """Decide whether a result may be written: it is data of the patient like any other."""
    return asked.decide(report.opened().result) if asked.is_limited else asked.foresee()
