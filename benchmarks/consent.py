"""B7: a consent decision, against an SQL look-up for each and against Cedar (cedarpy).

What a decision is made from is read once per Consent and kept (`gateway.store.consents`), so
"compiled" is what every point of a job's life pays. Nothing that depends on the time is kept: a
decision is made anew each time, and no consent outlives its period in a cache.

All decide about the same patients, and have to agree about every one of them before their times
are worth anything. It is the time of the processor that is measured, so that what else runs here
counts little; PostgreSQL's own processes come on top of what is told of it.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from benchmarks import consent_corpus, consent_loading, figures
from benchmarks.consent_corpus import NOW, Wish
from benchmarks.databases import PostgresMissing, postgresql
from benchmarks.figures import Rows, Sample, Turn, by_turns, comparison, condensed
from benchmarks.peers import Peer, PeerMissing
from benchmarks.result import Chart, Result, Scale
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

CEDAR = Peer("cedarpy", ("cedarpy==4.12.2",))
_PURPOSE = "TREAT"
_PATIENT = "Patient/p1"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_ROUNDS, _CALLS = 5, 500
_US = 1e6

Json = dict[str, Any]
Decide = Callable[[int], bool]


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


def run(scale: Scale) -> Result:
    """Measure who decides about the same patients, and what our decision consists of."""
    everyone = consent_corpus.people(scale.pick(1000, 100))
    skipped: list[str] = []
    with ExitStack() as stack:
        deciders: dict[str, Decide] = {
            "Nadi, compiled": _compiled(everyone),
            "SQL look-up, SQLite": stack.enter_context(_sqlite(everyone)),
        }
        try:
            deciders["SQL look-up, PostgreSQL"] = stack.enter_context(_postgresql(everyone))
        except PostgresMissing as error:
            skipped.append(str(error))
        turns = {name: _turn(decide, len(everyone)) for name, decide in deciders.items()}
        verdicts = {
            name: [decide(number) for number in range(len(everyone))]
            for name, decide in deciders.items()
        }
        try:
            verdicts["Cedar (cedarpy)"] = _cedar(everyone)["decisions"]
            turns["Cedar (cedarpy)"] = lambda _: _cedar(everyone)["took"]
        except PeerMissing as error:
            skipped.append(str(error))
        cost = condensed(by_turns(turns, scale.pick(_ROUNDS, 1), scale.tell, scale.within_s))
    ours = verdicts["Nadi, compiled"]
    agreeing = {name: _agreement(ours, each) for name, each in verdicts.items()}
    rows = comparison(cost, first="one decision")
    agreed = ("agrees with Nadi", *(agreeing[name] for name in cost))
    return Result(
        number="B7",
        name="consent",
        title="Consent: µs per decision, against an SQL look-up for each and Cedar",
        fairness=f"{len(everyone)} patients with up to three Consents each, {sum(ours)} of whom "
        "permit. Nothing is written. SQL and Cedar answer yes or no; Nadi's decision also says "
        "why, with every reason and what it rests on. Cedar's policies of each patient are parsed "
        "beforehand; PostgreSQL is asked over a unix socket with a prepared statement.",
        tables={
            "One decision": [*rows, agreed],
            "What a decision of ours takes, µs": _anatomy(),
            "Knowing what is on record, µs per patient": consent_loading.rows(
                _consent(period={"end": "2027-01-01"})
            ),
        },
        values={
            "nadi_us": cost["Nadi, compiled"][_DECISION].median,
            **{f"{key}_us": cost[n][_WAITED].median for n, key in _KEYS.items() if n in cost},
            **{
                f"times_{key}": figures.times(
                    cost[name][_DECISION], cost["Nadi, compiled"][_DECISION]
                )
                for name, key in _KEYS.items()
                if name in cost
            },
        },
        charts=[
            Chart(
                "A consent decision",
                "µs of CPU",
                bars={name: each[_DECISION].median for name, each in cost.items()},
            )
        ],
        failed=[
            f"{name} decides otherwise than Nadi: {told}."
            for name, told in agreeing.items()
            if told != _ALL
        ],
        skipped=skipped,
    )


_DECISION, _WAITED, _ALL = "µs of CPU", "µs on the clock", "100 %"
_KEYS = {
    "SQL look-up, SQLite": "sqlite",
    "SQL look-up, PostgreSQL": "postgresql",
    "Cedar (cedarpy)": "cedar",
}


def _agreement(ours: Sequence[bool], theirs: Sequence[bool]) -> str:
    same = sum(mine == other for mine, other in zip(ours, theirs, strict=True))
    return _ALL if same == len(ours) else f"{same} of {len(ours)}"


def _turn(decide: Decide, count: int) -> Turn:
    def turn(_: int) -> Sample:
        began, clock = time.thread_time(), time.perf_counter()
        for number in range(count):
            decide(number)
        spent, waited = time.thread_time() - began, time.perf_counter() - clock
        return {_DECISION: spent / count * _US, _WAITED: waited / count * _US}

    return turn


def _compiled(everyone: Sequence[Sequence[Wish]]) -> Decide:
    records = [_read([wish.as_consent(_PATIENT) for wish in wishes]) for wishes in everyone]
    return lambda number: _question(records[number]).decide(_DATA).is_permitted


_TABLE = (
    "create table wishes (patient integer, active boolean, permit boolean, begins bigint, "
    "ends bigint, purpose text)"
)
_INDEX = "create index of_patient on wishes (patient)"
_ASKED = (
    "select count(*) > 0 and sum(case when permit then 0 else 1 end) = 0 from wishes "
    "where patient = {0} and active and begins <= {0} and ends >= {0} "
    "and (purpose is null or purpose = {0})"
)


def _stored(everyone: Sequence[Sequence[Wish]]) -> Iterator[tuple[object, ...]]:
    for number, wishes in enumerate(everyone):
        for wish in wishes:
            period = (int(wish.begins.timestamp()), int(wish.ends.timestamp()))
            yield (number, wish.is_active, wish.is_permit, *period, wish.purpose)


@contextmanager
def _sqlite(everyone: Sequence[Sequence[Wish]]) -> Iterator[Decide]:
    now, asked = int(NOW.timestamp()), _ASKED.format("?")
    with TemporaryDirectory(prefix="bench-consent-") as folder:
        connection = sqlite3.connect(Path(folder) / "wishes.db")
        connection.execute(_TABLE)
        connection.execute(_INDEX)
        insert = "insert into wishes values (?, ?, ?, ?, ?, ?)"
        connection.executemany(insert, _stored(everyone))
        connection.commit()

        def decide(number: int) -> bool:
            (answer,) = connection.execute(asked, (number, now, now, _PURPOSE)).fetchone()
            return bool(answer)

        yield decide
        connection.close()


@contextmanager
def _postgresql(everyone: Sequence[Sequence[Wish]]) -> Iterator[Decide]:
    now, asked = int(NOW.timestamp()), _ASKED.format("%s")
    with postgresql() as server, psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute(_TABLE)
        connection.execute(_INDEX)
        insert = "insert into wishes values (%s, %s, %s, %s, %s, %s)"
        connection.cursor().executemany(insert, list(_stored(everyone)))
        connection.execute("analyze wishes")

        def decide(number: int) -> bool:
            values = (number, now, now, _PURPOSE)
            [(answer,)] = connection.execute(asked, values, prepare=True).fetchall()
            return bool(answer)

        yield decide


def _cedar(everyone: Sequence[Sequence[Wish]]) -> dict[str, Any]:
    """Let Cedar decide in its own environment; a consent that is not active has no policy."""
    policies = [
        "\n".join(wish.as_policy() for wish in wishes if wish.is_active) for wishes in everyone
    ]
    asked = {"policies": policies, "now": int(NOW.timestamp()), "purpose": _PURPOSE}
    answer = CEDAR.run("-m", "benchmarks.cedar_child", stdin=json.dumps(asked))
    told: dict[str, Any] = json.loads(answer)
    return told


def _anatomy() -> Rows:
    rows: Rows = [
        (
            "on record",
            "a decision",
            "with the question",
            "foreseen",
            "question and data",
            "and from JSON",
        )
    ]
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
        rows.append((name, *(f"{_us(each):.1f}" for each in times)))
    return rows


def _read(contents: Sequence[Json]) -> list[ConsentRecord]:
    return [
        read_consent(content, f"Consent/{number}", patient=_PATIENT)
        for number, content in enumerate(contents)
    ]


def _question(records: Sequence[ConsentRecord]) -> Question:
    about, model = About(_PATIENT, "event-1", NOW), Model("ckd-risk@1", "d" * 64)
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
