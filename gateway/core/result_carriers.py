"""(6) A result in a form that an EHR without Observations can keep, and one that says it in words.

Each carrier says the same as the Observation it is made from: the words of its narrative, that an
AI made it, that no human saw it yet. Each has the Observation's identifier and security labels, so
that it is recognised, and told apart from what people wrote.

Source: FHIR R4 DiagnosticReport, DocumentReference, Communication, Task.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from html import unescape

from gateway.core.ladder import Rung
from gateway.core.result_terms import AI_NOTE, AI_VALUE, Json

_TAG = re.compile(r"<[^>]+>")
_TIMES = ("effectiveDateTime", "effectivePeriod", "effectiveInstant")
_PRELIMINARY = "Preliminary: not yet reviewed by a clinician."
#: Elements that every carrier takes over as they are.
_KEPT = ("meta", "identifier", "text", "encounter", "contained")


def carried(observation: Json, rung: Rung) -> Json:
    """Give a result in the form of a rung.

    Args:
        observation: The result as an Observation.
        rung: A rung of FHIR below the Observation.

    Raises:
        KeyError: The rung is none of these.
    """
    made = _FORMS[rung](observation)
    return {name: value for name, value in made.items() if value != []}  # FHIR has no empty list


def words_of(observation: Json) -> str:
    """Give the narrative of a result as plain text, a line for each paragraph."""
    div = str((observation.get("text") or {}).get("div", ""))
    lines = (unescape(_TAG.sub("", line)).strip() for line in div.split("</p>"))
    return "\n".join(line for line in lines if line)


def in_words(observation: Json) -> Json:
    """Give an Observation whose value is a text: the value, that an AI made it, and which model.

    For an EHR that keeps nothing but code and value: what else would say so is lost there.
    """
    kept = {k: v for k, v in observation.items() if not k.startswith("value")}
    kept = {k: v for k, v in kept.items() if k not in ("dataAbsentReason", "component")}
    first = words_of(observation).partition("\n")[0]
    return {**kept, "valueString": f"{AI_VALUE}{first}{_model(observation)}"}


def with_ai_note(observation: Json) -> Json:
    """Give an Observation whose first note says that an AI made it, for an EHR that keeps notes."""
    said = f"{_title(observation)}{AI_NOTE}{_model(observation)} {_PRELIMINARY}"
    note = {"text": said}
    return {**observation, "note": [note, *observation.get("note", ())]}


def coded_as(observation: Json, codes: Mapping[tuple[str, str], tuple[str, str, str]]) -> Json:
    """Give an Observation under the EHR's own code for it; unchanged where there is none.

    Args:
        observation: The result.
        codes: (system, code, display) by (system, code) of the model's; what is empty is left out.
    """
    for coding in observation["code"].get("coding", ()):
        own = codes.get((str(coding.get("system", "")), str(coding.get("code", ""))))
        if own:
            named = zip(("system", "code", "display"), own, strict=True)
            code = {**observation["code"], "coding": [{k: v for k, v in named if v}]}
            return {**observation, "code": code}
    return observation


def at_one_time(observation: Json) -> Json:
    """Give an Observation whose clinical time is a dateTime, for an EHR that takes no other."""
    period = observation.get("effectivePeriod") or {}
    at = observation.get("effectiveInstant") or period.get("end") or period.get("start")
    if not at or "effectiveDateTime" in observation:
        return observation
    kept = {k: v for k, v in observation.items() if k not in _TIMES}
    return {**kept, "effectiveDateTime": at}


def _head(observation: Json, resource_type: str, *without: str) -> Json:
    names = [name for name in _KEPT if name in observation and name not in without]
    return {"resourceType": resource_type, **{name: observation[name] for name in names}}


def _diagnostic_report(observation: Json) -> Json:
    times = {name: observation[name] for name in _TIMES[:2] if name in observation}
    if "effectiveInstant" in observation:
        times["effectiveDateTime"] = observation["effectiveInstant"]
    return {
        **_head(observation, "DiagnosticReport"),
        "status": "preliminary",
        "category": observation.get("category", []),
        "code": observation["code"],
        "subject": observation["subject"],
        **times,
        "issued": observation["issued"],
        "conclusion": words_of(observation),
        "presentedForm": [_attachment(observation)],
    }


def _document_reference(observation: Json) -> Json:
    made = {
        **_head(observation, "DocumentReference", "encounter"),
        "status": "current",
        "docStatus": "preliminary",
        "type": observation["code"],
        "category": observation.get("category", []),
        "subject": observation["subject"],
        "date": observation["issued"],
        "author": [observation["device"]],
        "description": _title(observation),
        "securityLabel": [{"coding": [label]} for label in _labels(observation)],
        "content": [{"attachment": _attachment(observation)}],
    }
    context = _context(observation)
    return {**made, "context": context} if context else made


def _context(observation: Json) -> Json:
    """Give the encounter and clinical time of a document."""
    at = observation.get("effectiveDateTime") or observation.get("effectiveInstant")
    period = observation.get("effectivePeriod") or ({"start": at, "end": at} if at else None)
    encounter = observation.get("encounter")
    context = {"encounter": [encounter] if encounter else None, "period": period}
    return {name: value for name, value in context.items() if value}


def _communication(observation: Json) -> Json:
    return {
        **_head(observation, "Communication"),
        "status": "completed",
        "subject": observation["subject"],
        "topic": observation["code"],
        "sent": observation["issued"],
        "sender": observation["device"],
        "payload": [{"contentString": _told(observation)}],
        "note": observation.get("note", []),
    }


def _task(observation: Json) -> Json:
    return {
        **_head(observation, "Task"),
        "status": "requested",
        "intent": "proposal",
        "code": {"text": f"Review: {_title(observation)}"},
        "description": _told(observation),
        "for": observation["subject"],
        "authoredOn": observation["issued"],
        "requester": observation["device"],
        "note": observation.get("note", []),
    }


_FORMS: Mapping[Rung, Callable[[Json], Json]] = {
    Rung.DIAGNOSTIC_REPORT: _diagnostic_report,
    Rung.DOCUMENT_REFERENCE: _document_reference,
    Rung.COMMUNICATION: _communication,
    Rung.TASK: _task,
}


def _title(observation: Json) -> str:
    return str(observation["code"].get("text", "Result of an AI"))


def _model(observation: Json) -> str:
    """Give title and version of the model as a sentence that follows another one."""
    model = str((observation.get("method") or {}).get("text", ""))
    return f" Model: {model}." if model else ""


def _told(observation: Json) -> str:
    return f"{_title(observation)}\n{words_of(observation)}\n{_PRELIMINARY}"


def _attachment(observation: Json) -> Json:
    data = _told(observation).encode()
    return {
        "contentType": "text/plain; charset=utf-8",
        "data": b64encode(data).decode(),
        "size": len(data),
        "title": _title(observation),
    }


def _labels(observation: Json) -> list[Json]:
    return list((observation.get("meta") or {}).get("security") or ())
