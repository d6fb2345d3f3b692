"""How long a consent decision takes: compiled, with all that belongs to it, and read from JSON.

Then what it costs to know what is on record (`consent_loading`).

What a decision is made from is read once per Consent and kept (`gateway.store.consents`), so
"compiled" is what every point of a job's life pays. Nothing that depends on the time is kept: a
decision is made anew each time, and no consent outlives its period in a cache.

It is the time of the processor that is measured, so that what else runs here counts little.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import consent_loading
from gateway.core.consent import (
    READ,
    About,
    Asks,
    ConsentRecord,
    ConsentTerms,
    Model,
    Question,
    question,
    read_consent,
)

_NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
_PATIENT = "Patient/p1"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_ROUNDS, _CALLS = 5, 500

Json = dict[str, Any]


def _consent(*exceptions: Json, **limits: Any) -> Json:  # noqa: ANN401 - elements of a provision
    purpose = [{"system": f"{_TERMINOLOGY}/v3-ActReason", "code": "TREAT"}]
    provision = {"type": "permit", "purpose": purpose, **limits}
    if exceptions:
        provision["provision"] = list(exceptions)
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {
            "coding": [{"system": f"{_TERMINOLOGY}/consentscope", "code": "patient-privacy"}]
        },
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": _PATIENT},
        "dateTime": "2026-01-01",
        "policyRule": {"text": "as agreed at admission"},
        "provision": provision,
    }


def _labels(code: str) -> list[Json]:
    return [{"system": f"{_TERMINOLOGY}/v3-Confidentiality", "code": code}]


_ACTOR = {
    "role": {"coding": [{"system": f"{_TERMINOLOGY}/v3-ParticipationType", "code": "IRCP"}]},
    "reference": {"reference": "Practitioner/1"},
}
#: What is on record: one plain permit; one that limits data and has an exception; three of both;
#: and many that a patient has collected.
_CASES: dict[str, Sequence[Json]] = {
    "one Consent: treatment": [_consent(period={"end": "2027-01-01"})],
    "one Consent: normal data, an exception": [
        _consent(
            {"type": "permit", "securityLabel": _labels("R"), "actor": [_ACTOR]},
            securityLabel=_labels("N"),
        )
    ],
    "three Consents": [
        _consent(period={"end": "2027-01-01"}),
        _consent(securityLabel=_labels("N")),
        _consent(
            {"type": "deny", "code": [{"coding": [{"system": "http://loinc.org", "code": "1-8"}]}]}
        ),
    ],
    "ten Consents": [_consent(period={"end": f"2027-01-{day:02}"}) for day in range(1, 11)],
    "a hundred Consents": [
        _consent(period={"end": f"2027-{month:02}-{day:02}"})
        for month in range(1, 11)
        for day in range(1, 11)
    ],
}
_DATA: Json = {
    "resourceType": "Observation",
    "id": "o1",
    "meta": {"security": _labels("N")},
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]},
    "subject": {"reference": _PATIENT},
    "encounter": {"reference": "Encounter/1"},
    "effectiveDateTime": "2026-11-25T08:00:00Z",
}
_ASKS = Asks("TREAT", "deny", ConsentTerms(unlabelled_is_normal=True))


def run(console: Console) -> None:
    """Measure, and show microseconds per decision."""
    table = Table(
        *("on record", "a decision", "with the question", "foreseen"),
        *("question and data", "and from JSON"),
    )
    for name, contents in _CASES.items():
        records = _read(contents)
        asked = _question(records)
        facts = asked.facts(_DATA)
        times = (
            lambda asked=asked, facts=facts: asked.of(facts),
            lambda records=records, facts=facts: _question(records).of(facts),
            asked.foresee,
            lambda records=records: _question(records).decide(_DATA),
            lambda contents=contents: _question(_read(contents)).decide(_DATA),
        )
        table.add_row(name, *(f"{_us(each):.1f} µs" for each in times))
    console.print(table)
    consent_loading.run(console, _consent(period={"end": "2027-01-01"}))


def _read(contents: Sequence[Json]) -> list[ConsentRecord]:
    return [
        read_consent(content, f"Consent/{number}", patient=_PATIENT)
        for number, content in enumerate(contents)
    ]


def _question(records: Sequence[ConsentRecord]) -> Question:
    about, model = About(_PATIENT, "event-1", _NOW), Model("ckd-risk@1", "d" * 64)
    return question(_ASKS, about, records, model, READ)


def _us(call: Callable[[], object]) -> float:
    """Give the median of some rounds, in microseconds per call."""
    taken = []
    for _ in range(_ROUNDS):
        begun = time.thread_time()
        for _ in range(_CALLS):
            call()
        taken.append((time.thread_time() - begun) / _CALLS * 1e6)
    return median(taken)
