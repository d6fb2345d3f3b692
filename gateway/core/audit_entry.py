"""An AuditEvent as people ask about it: who did what with whose data, how it ended, and why.

`read_entry` takes an event apart; nothing is looked up, so what it gives is what is on record.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from gateway.core.audit_event import (
    EVENT_SYSTEM,
    JOB_SYSTEM,
    MODEL_SYSTEM,
    PATIENT_KEY_SYSTEM,
    RESULT_SYSTEM,
)

_WORDS = {"0": "done", "4": "refused", "8": "refused", "12": "failed"}
#: What a patient said, by the word of the event.
SAID = {"permit": "permit", "deny": "denial", "ai-opt-out": "refusal of AI"}
#: Whose deed an event is, where it is not that of an agent.
_BY_MODEL = "infer"
_CONTEXT = frozenset({PATIENT_KEY_SYSTEM, JOB_SYSTEM, MODEL_SYSTEM})
_THE_LOG = "AuditEvent"


@dataclass(frozen=True)
class Party:
    """Somebody, or something, that took part.

    Attributes:
        role: One of our roles, where it has one.
        purpose: v3-ActReason code that it acts for.
    """

    identifier: str
    name: str
    role: str = ""
    purpose: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One AuditEvent.

    Attributes:
        seq: Its number.
        event: Our own name of it.
        process: Which of our processes wrote it.
        parties: Everybody but that process and the site.
        facts: `entity.detail` of all its entities, by name.
        names: `entity.what.identifier` values, by system.
        inputs: Keyed hashes of the resource versions that a model read.
        consents: References to the consents that decided.
        data_type: FHIR type of the data it was about; empty when none is named.
        query: The request that was made, patients as keyed hashes; empty when none was.
    """

    seq: int
    id: str
    at: datetime
    event: str
    action: str
    outcome: str
    reason: str
    process: str
    parties: tuple[Party, ...]
    facts: Mapping[str, str]
    names: Mapping[str, str]
    inputs: frozenset[str]
    consents: tuple[str, ...]
    data_type: str
    query: str

    @property
    def ended(self) -> str:
        """How it ended, in one word."""
        return _WORDS.get(self.outcome, self.outcome)

    @property
    def patient_key(self) -> str | None:
        """Whom it was about."""
        return self.names.get(PATIENT_KEY_SYSTEM)

    @property
    def job_id(self) -> str | None:
        """Which job it belongs to."""
        return self.names.get(JOB_SYSTEM) or self.facts.get("job")

    @property
    def event_id(self) -> str | None:
        """Which received resource version it was about."""
        return self.names.get(EVENT_SYSTEM) or self.facts.get("event")

    @property
    def model(self) -> str | None:
        """Which model it names."""
        return self.names.get(MODEL_SYSTEM) or self.facts.get("model")

    @property
    def result(self) -> str | None:
        """Identifier of the result that came of it or was written."""
        return self.names.get(RESULT_SYSTEM) or self.facts.get("result")

    @property
    def purpose(self) -> str | None:
        """What it was done for, where that is on record."""
        asked = [party.purpose for party in self.parties if party.purpose]
        return self.facts.get("purpose") or (asked[0] if asked else None)

    @property
    def doers(self) -> tuple[Party, ...]:
        """Whose deed it was: the model's, somebody's outside, or else our own process's."""
        if self.event == _BY_MODEL and self.model:
            return (Party(self.model, self.model, "model"),)
        return self.parties or (Party(self.process, self.process),)

    @property
    def what(self) -> str:
        """Say in a few words what it was about."""
        told = _TOLD.get(self.event)
        return told(self) if told else _state(self)


def read_entry(seq: int, event: str, body: bytes) -> Entry:
    """Take an AuditEvent apart.

    Args:
        seq: Its number in the database.
        event: Our own name of it.
        body: As it is stored.
    """
    read: dict[str, Any] = orjson.loads(body)
    entities, source = read.get("entity", []), read["source"]
    own = (source["observer"]["identifier"]["value"], source["site"])
    return Entry(
        seq=seq,
        id=read["id"],
        at=datetime.fromisoformat(read["recorded"]),
        event=event,
        action=read["action"],
        outcome=read["outcome"],
        reason=read.get("outcomeDesc", ""),
        process=own[0],
        parties=tuple(_parties(read["agent"], own)),
        facts={name: value for name, value in _details(entities) if name != "input"},
        names=dict(_names(entities)),
        inputs=frozenset(value for name, value in _details(entities) if name == "input"),
        consents=tuple(_references(entities)),
        data_type=_data_type(entities),
        query=_query(entities),
    )


def _parties(agents: Iterable[Mapping[str, Any]], own: tuple[str, str]) -> Iterator[Party]:
    for agent in agents:
        who = agent["who"]
        identifier = who["identifier"]["value"]
        if identifier in own:
            continue
        role = next((c["code"] for r in agent.get("role", ()) for c in r["coding"]), "")
        purposes = agent.get("purposeOfUse", ())
        purpose = next((c["code"] for p in purposes for c in p["coding"]), "")
        yield Party(identifier, who.get("display", identifier), role, purpose)


def _details(entities: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for entity in entities:
        for detail in entity.get("detail", ()):
            yield detail["type"], detail["valueString"]


def _names(entities: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for entity in entities:
        identifier = entity.get("what", {}).get("identifier", {})
        if "system" in identifier:
            yield identifier["system"], identifier["value"]


def _references(entities: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for entity in entities:
        reference = entity.get("what", {}).get("reference")
        if reference:
            yield reference


def _data_type(entities: Iterable[Mapping[str, Any]]) -> str:
    """Give the type of the data: of neither the patient, nor a Task of ours, nor a model."""
    for entity in entities:
        what = entity.get("what", {})
        if what.get("identifier", {}).get("system") not in _CONTEXT and "type" in what:
            return str(what["type"])
    return ""


def _query(entities: Iterable[Mapping[str, Any]]) -> str:
    asked = next((entity["query"] for entity in entities if "query" in entity), "")
    return base64.b64decode(asked).decode(errors="replace")


# --- in a few words ---------------------------------------------------------------------------


def _state(entry: Entry) -> str:
    """Give what a step of a job, or any other, says of itself."""
    status = entry.facts.get("business-status")
    route = entry.facts.get("route")
    if status:
        return f"{status}, route {route}" if route else status
    return ", ".join(f"{name} {value}" for name, value in entry.facts.items() if value)


def _received(entry: Entry) -> str:
    return entry.data_type or "what could not be read"


def _decided(entry: Entry) -> str:
    stages = {"admit": "on arrival", "infer": "before inference", "deliver": "before write-back"}
    stages |= {"show": "before it was shown", "fetch": "before data was fetched"}
    stage = entry.facts.get("stage", "")
    verdict = "permitted" if entry.outcome == "0" else "denied"
    return f"{entry.purpose or 'use'} {verdict} {stages.get(stage, stage)}".strip()


def _inferred(entry: Entry) -> str:
    number = len(entry.inputs)
    read = f", {number} input{'s' * (number != 1)}" if number else ""
    return f"model {entry.model}{read}"


def _delivered(entry: Entry) -> str:
    return f"{entry.data_type or 'result'} written"


def _read(entry: Entry) -> str:
    return entry.data_type or "Task"


def _asked(entry: Entry) -> str:
    asked = entry.query.partition("?")[0]
    return "the audit log" if asked.startswith(_THE_LOG) else asked


def _fetched(entry: Entry) -> str:
    return f"asked for {_asked(entry)}"


def _configured(entry: Entry) -> str:
    return f"site file, version {entry.facts.get('version', '?')}"


def _credential(entry: Entry) -> str:
    change = "revoked" if entry.action == "D" else "added"
    return f"credential {change}, role {entry.facts.get('role', '?')}"


def _model(entry: Entry) -> str:
    return f"model {entry.model} {'retired' if entry.action == 'D' else 'registered'}"


def _keys(entry: Entry) -> str:
    return f"keys {entry.facts.get('what', 'changed')}"


def _forbidden(entry: Entry) -> str:
    return f"asked for {entry.facts.get('permission', 'what is not permitted')}"


def _said(entry: Entry) -> str:
    """Say what a patient said, as far as the event tells it."""
    said = SAID.get(entry.facts.get("decision", ""), "consent")
    means = entry.facts.get("means")
    return f"{said} recorded{f', {means}' if means else ''}"


def _imported(entry: Entry) -> str:
    return f"consent imported, {entry.facts.get('signer', 'nobody')} vouches for it"


def _taken_back(_entry: Entry) -> str:
    return "consent taken back"


_TOLD = {
    "consent-record": _said,
    "consent-import": _imported,
    "consent-revoke": _taken_back,
    "receive": _received,
    "consent": _decided,
    "infer": _inferred,
    "deliver": _delivered,
    "read": _read,
    "query": _asked,
    "fetch": _fetched,
    "configure": _configured,
    "credential": _credential,
    "model": _model,
    "keys": _keys,
    "forbid": _forbidden,
}
