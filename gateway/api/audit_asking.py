"""The questions of a compliance officer by name: what each needs, and how it is put on record.

The API and `nadi audit` ask through here, so that both give the same answer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from adapters.site_changes import changes
from gateway.core.audit_answers import Answer, Json
from gateway.core.errors import NotFound
from gateway.store.audit_questions import Asked, AuditQuestions
from gateway.store.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        title: What it asks, as a person would.
        needs: What has to be given: one of these names.
        answer: Asks it.
    """

    title: str
    needs: tuple[str, ...]
    answer: Callable[[AuditQuestions, Asked], Answer]


QUESTIONS: Mapping[str, Question] = {
    "patient": Question(
        "What was done with this patient's data?", ("patient",), AuditQuestions.patient
    ),
    "who": Question("Who or what saw this record?", ("patient", "resource"), AuditQuestions.who),
    "refusals": Question("What was refused, and why?", (), AuditQuestions.refusals),
    "results": Question(
        "What became of every run of this model?", ("model",), AuditQuestions.results
    ),
    "break-glass": Question(
        "When was the glass broken, and was it reviewed?", (), AuditQuestions.break_glass
    ),
    "out-of-hours": Question(
        "Who had access outside working hours?", (), AuditQuestions.out_of_hours
    ),
    "configuration": Question(
        "What was changed in the configuration, and by whom?", (), AuditQuestions.configuration
    ),
    "disclosures": Question(
        "To whom did this patient's data go?", ("patient",), AuditQuestions.disclosures
    ),
}


def ask(uow: UnitOfWork, name: str, asked: Asked) -> Answer:
    """Ask one question; the caller puts it on record.

    Raises:
        NotFound: There is no such question, or not what it is about.
    """
    question = QUESTIONS.get(name)
    if question is None:
        raise NotFound(f"There is no such question; known: {', '.join(QUESTIONS)}.")
    answer = question.answer(uow.audit_questions, asked)
    if name == "configuration":
        return replace(answer, rows=_with_changes(uow, answer.rows))
    return answer


def query_of(name: str, asked: Asked) -> str:
    """Write a question down for the record: the patient as a keyed hash, a resource not at all."""
    named = {
        "patient-key": asked.patient_key,
        "resource-type": asked.resource.resource_type if asked.resource else None,
        "model": asked.model,
        "since": asked.since_ms,
        "until": asked.until_ms,
        "before": asked.before_seq,
        "_count": asked.limit,
    }
    given = "&".join(f"{key}={value}" for key, value in named.items() if value is not None)
    return f"AuditEvent/${name}?{given}"


def _with_changes(uow: UnitOfWork, rows: Sequence[Json]) -> list[Json]:
    """Add to each site file what it changed, and to each credential its name."""
    told = []
    for row in (_with_credential(uow, each) for each in rows):
        version = str(row.get("version", ""))
        found = _changes(uow, int(version)) if version.isdecimal() else []
        told.append({**row, "changes": found} if found else row)
    return told


def _with_credential(uow: UnitOfWork, row: Json) -> Json:
    found = uow.credentials.find(str(row.get("credential", "")))
    return {**row, "what": f"{row['what']}: {found.name}"} if found else row


def _changes(uow: UnitOfWork, version: int) -> list[dict[str, str | None]]:
    try:
        before = uow.sites.get(version - 1).yaml if version > 1 else None
        return [each.as_json() for each in changes(before, uow.sites.get(version).yaml)]
    except NotFound:
        return []
