"""B11: cards of CDS Hooks: how fast they are, and how many, on one core, beside HealthChain.

Each system has one core for all of its processes; the stand-in EHR and the generator share the
others. Measured is what a clinician waits for: one call after the other, and eight at once.

* Nadi, first view: everything that a call brings is new. It is received durably, consent is asked
  three times, the queue and a worker run the model, the card waits for that.
* Nadi, seen again: the same once more, after its card was shown: what it brings is recognised, the
  result is there, and consent is asked once more.
* HealthChain: reads the prefetch, runs the model, answers; nothing is kept, asked or audited.

Nadi's calls carry signed tokens (ES384), one for each call; HealthChain asks nobody who calls.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
import uvloop
from joserfc import jwt
from joserfc.jwk import ECKey

from benchmarks.endpoint import Endpoint
from benchmarks.figures import Figures, Sample, Turn, by_turns, comparison, condensed, percentile
from benchmarks.http import Pool, post_request
from benchmarks.load import push_all
from benchmarks.machine import cpu_seconds
from benchmarks.peers import PeerMissing
from benchmarks.result import Chart, Result, Scale
from benchmarks.systems import Nadi, Running, healthchain, sandbox_ehr
from benchmarks.workload import post_of

Json = dict[str, Any]

_ROUNDS, _CALLS = 3, 150
_FIRST, _AGAIN, _CHAIN = "Nadi, first view", "Nadi, seen again", "HealthChain"
_P50, _P99, _CPU_MS, _PER_CPU_S = "p50, ms", "p99, ms", "CPU-ms per answer", "answers per CPU-s"
_BASE, _ISSUER = "http://127.0.0.1", "https://bench.example"
_PATH = "/cds-services/ckd-risk-patient-view"
_CHAIN_PATH = "/cds/cds-services/ckd-risk"
_AT_ONCE = 8
#: Calls before anything is measured: the first one loads the model.
_WARM_UP = 5
_OK = 200
_AFTERWARDS_S = 2.0
_OPEN = ('state="ready"', 'state="in-progress"')
_SETTLES_WITHIN_S, _LOOK_EVERY_S = 60.0, 0.5
#: Input of ckd-risk -> code of LOINC, a usual value, unit.
_RESULTS: Mapping[str, tuple[str, float, str]] = {
    "diastolic": ("8462-4", 80.0, "mm[Hg]"),
    "creatinine": ("2160-0", 1.4, "mg/dL"),
    "urea": ("3091-6", 60.0, "mg/dL"),
    "sodium": ("2951-2", 138.0, "mmol/L"),
    "potassium": ("2823-3", 4.6, "mmol/L"),
    "haemoglobin": ("718-7", 11.0, "g/dL"),
    "haematocrit": ("4544-3", 34.0, "%"),
    "leukocytes": ("6690-2", 8.0, "10*3/uL"),
    "erythrocytes": ("789-8", 4.0, "10*6/uL"),
    "glucose": ("2345-7", 110.0, "mg/dL"),
}


@dataclass(frozen=True)
class Measured:
    """Calls of one kind.

    Attributes:
        answer_ms: How long each took.
        seconds: All of them together.
        refused: Calls that were not answered 200.
        cpu: CPU seconds of the system meanwhile, by process: other work on the machine does not
            count, so it says what one core could do.
    """

    answer_ms: Sequence[float]
    seconds: float
    refused: int
    cpu: Mapping[str, float] = field(default_factory=dict)

    def sample(self) -> Sample:
        """Give what a round tells of them, with the share of each process in the CPU time."""
        count = len(self.answer_ms)
        shares = {f"CPU-ms of {name}": 1000 * s / count for name, s in sorted(self.cpu.items())}
        cpu_ms = sum(shares.values())
        return {
            _P50: percentile(self.answer_ms, 50),
            _P99: percentile(self.answer_ms, 99),
            "answers/s": count / self.seconds,
            _CPU_MS: cpu_ms,
            _PER_CPU_S: 1000 / cpu_ms if cpu_ms else 0.0,
            **shares,
        }


def run(scale: Scale) -> Result:
    """Let both answer the same calls, in turns."""
    skipped: list[str] = []
    failed: list[str] = []
    rounds, calls = scale.pick(_ROUNDS, 1), scale.pick(_CALLS, 30)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        skipped.append("There is one core: the generator shares it with what it measures.")
    with ExitStack() as stack:
        stack.enter_context(_on(cores[:1] if len(cores) == 1 else cores[1:]))
        ehr = stack.enter_context(sandbox_ehr())
        nadi = _Nadi(stack, ehr, cores[0], 2 * rounds * calls, failed)
        turns = nadi.turns(calls)
        try:
            scale.tell("installing HealthChain")
            turns |= _Chain(stack, ehr, cores[0], failed).turns(calls)
        except PeerMissing as error:
            skipped.append(str(error))
        cost = condensed(by_turns(turns, rounds, scale.tell, scale.within_s))
        kinds = _kinds(nadi.running.endpoint)
    return _result(cost, kinds, skipped, sorted(set(failed)))


class _Nadi:
    """Nadi with a service, and patients who permit it."""

    def __init__(
        self, stack: ExitStack, ehr: Endpoint, core: int, patients: int, failed: list[str]
    ) -> None:
        self._key = ECKey.generate_key("P-384")
        self._failed = failed
        with _on([core]):
            self.running = stack.enter_context(Nadi(adapted=partial(_with_hooks, self._key))(ehr))
        numbers = range(patients + _WARM_UP)
        consents = [post_of(_consent(number)) for number in numbers]
        pushed = push_all(self.running.endpoint, consents, clients=_AT_ONCE)
        if pushed.refused:
            failed.append(f"{len(pushed.refused)} consents were refused.")
        self._ask(range(patients, patients + _WARM_UP), 1)

    def turns(self, calls: int) -> dict[str, Turn]:
        """Give the turns of a round: each opens charts of its own, and then the same again."""

        def turn(kind: str, at_once: int, place: int) -> Turn:
            def taken(number: int) -> Sample:
                begin = (2 * number + place) * calls
                numbers = range(begin, begin + calls)
                if kind == _AGAIN:
                    self._settle()
                    self._ask(numbers, _AT_ONCE)
                return self._ask(numbers, at_once)

            return taken

        return {
            _named(kind, at_once): turn(kind, at_once, place)
            for kind in (_FIRST, _AGAIN)
            for place, at_once in enumerate((1, _AT_ONCE))
        }

    def _settle(self) -> None:
        """Wait until nothing waits: on a busy machine first views are answered before results."""
        until_s = time.monotonic() + _SETTLES_WITHIN_S
        while _open_jobs(self.running.endpoint):
            if time.monotonic() > until_s:
                self._failed.append("Nadi: results were not there long after the first views.")
                return
            time.sleep(_LOOK_EVERY_S)

    def _ask(self, numbers: range, at_once: int) -> Sample:
        sent = [_signed(self.running.endpoint, self._key, number) for number in numbers]
        return _told(self.running, sent, at_once, "Nadi", self._failed)


class _Chain:
    """HealthChain with the same model."""

    def __init__(self, stack: ExitStack, ehr: Endpoint, core: int, failed: list[str]) -> None:
        self._failed = failed
        with _on([core]):
            app = healthchain(ehr, "benchmarks.healthchain_cds:app")
            self._running = stack.enter_context(app)
        self._ask(range(_WARM_UP), 1)

    def turns(self, calls: int) -> dict[str, Turn]:
        """Give its turns of a round."""
        return {
            _named(_CHAIN, at_once): lambda _, at_once=at_once: self._ask(range(calls), at_once)  # type: ignore[misc]
            for at_once in (1, _AT_ONCE)
        }

    def _ask(self, numbers: range, at_once: int) -> Sample:
        endpoint = self._running.endpoint
        sent = [post_request(endpoint, _CHAIN_PATH, orjson.dumps(call_of(n))) for n in numbers]
        return _told(self._running, sent, at_once, _CHAIN, self._failed)


def _named(kind: str, at_once: int) -> str:
    return f"{kind}, {at_once} at once"


def _told(
    running: Running, sent: Sequence[bytes], at_once: int, name: str, failed: list[str]
) -> Sample:
    measured = _measure(running, sent, at_once)
    if measured.refused:
        failed.append(f"{name}: calls were not answered by 200.")
    return measured.sample()


def _result(
    cost: Figures, kinds: Mapping[str, float], skipped: Sequence[str], failed: Sequence[str]
) -> Result:
    of_nadi = ", ".join(f"{kind} {count:.0f}" for kind, count in sorted(kinds.items()))
    return Result(
        number="B11",
        name="cds-hooks",
        title="Cards of CDS Hooks on one core, against HealthChain",
        fairness="Each system has one core for all of its processes. HealthChain keeps nothing, "
        "asks no consent, audits nothing, asks nobody who calls, makes no result once and writes "
        "none into the chart. A first view of Nadi's is eleven resources received, sealed and "
        "audited, a job, two consent decisions, the model, a third consent decision, the card, "
        "and a result delivered to the EHR; each call carries an ES384 token. "
        f"What Nadi answered: {of_nadi}.",
        tables={"Cards": comparison(cost)},
        values=_values(cost),
        charts=[
            Chart(
                "Answers for a second of one core",
                "answers",
                bars={name: each[_PER_CPU_S].median for name, each in cost.items()},
                is_log=True,
            )
        ],
        failed=failed,
        skipped=skipped,
    )


_KEYS = {_FIRST: "first", _AGAIN: "again", _CHAIN: "healthchain"}
_MEASURES = {_P50: "p50_ms", _P99: "p99_ms", _PER_CPU_S: "per_cpu_s"}


def _values(cost: Figures) -> dict[str, float]:
    return {
        f"{key}_{measure}_at_{at_once}": cost[name][shown].median
        for kind, key in _KEYS.items()
        for at_once in (1, _AT_ONCE)
        if (name := _named(kind, at_once)) in cost
        for shown, measure in _MEASURES.items()
    }


@contextmanager
def _on(cores: Sequence[int]) -> Iterator[None]:
    """Stay on these cores, with whatever is started meanwhile, until the end of the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _with_hooks(key: ECKey, site: Json) -> Json:
    client = {"system": "ehr", "issuer": _ISSUER, "keys": [key.as_dict(private=False)]}
    site["routes"]["ckd-risk"]["cds_hooks"] = {"hooks": ["patient-view"]}
    return {**site, "cds_hooks": {"base_url": _BASE, "clients": {"ehr": client}}}


def _signed(endpoint: Endpoint, key: ECKey, number: int) -> bytes:
    now = int(time.time())
    claims = {
        "iss": _ISSUER,
        "aud": f"{_BASE}{_PATH}",
        "iat": now,
        "exp": now + 3000,
        "jti": str(uuid.uuid4()),
    }
    token = jwt.encode({"alg": "ES384"}, claims, key, algorithms=["ES384"])
    called = Endpoint(endpoint.port, token)
    return post_request(called, _PATH, orjson.dumps(call_of(number)))


def call_of(number: int) -> Json:
    """Give a call of `patient-view` that brings all that the model needs, new for each patient."""
    return {
        "hook": "patient-view",
        "hookInstance": str(uuid.UUID(int=number)),
        "context": {"userId": "Practitioner/d1", "patientId": _patient(number)},
        "prefetch": {
            "patient": {
                "resourceType": "Patient",
                "id": _patient(number),
                "birthDate": "1961-05-01",
                "gender": "female",
            },
            **{name: _found(number, name) for name in _RESULTS},
        },
    }


def _patient(number: int) -> str:
    return f"cds-{number:05d}"


def _found(number: int, name: str) -> Json:
    code, value, unit = _RESULTS[name]
    at = datetime.now(UTC).replace(microsecond=0, second=0, minute=0, hour=0) - timedelta(days=1)
    observation = {
        "resourceType": "Observation",
        "id": f"cds-{number:05d}-{name}",
        "meta": {"versionId": "1", "lastUpdated": at.isoformat()},
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{_patient(number)}"},
        "effectiveDateTime": at.isoformat(),
        "valueQuantity": {
            "value": round(value * (0.8 + 0.4 * (number % 97) / 97), 2),
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
    }
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": observation}]}


def _consent(number: int) -> Json:
    return {
        "resourceType": "Consent",
        "id": f"cds-{number:05d}",
        "status": "active",
        "scope": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/consentscope",
                    "code": "patient-privacy",
                }
            ]
        },
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{_patient(number)}"},
        "policyRule": {"text": "as agreed at admission"},
        "provision": {
            "type": "permit",
            "purpose": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}
            ],
        },
    }


def _measure(running: Running, requests: Sequence[bytes], at_once: int) -> Measured:
    before = cpu_seconds(running.roots)
    measured = uvloop.run(_measured(running.endpoint, requests, at_once))
    # What an answer sets going goes on for a moment: the result is written into the EHR.
    time.sleep(_AFTERWARDS_S)
    after = cpu_seconds(running.roots)
    spent = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
    return replace(measured, cpu=spent)


async def _measured(endpoint: Endpoint, requests: Sequence[bytes], at_once: int) -> Measured:
    pool, waiting = Pool(endpoint), iter(requests)

    async def client() -> list[tuple[float, int]]:
        answers = []
        for request in waiting:
            began = time.perf_counter()
            status = await pool.send(request)
            answers.append((1000 * (time.perf_counter() - began), status))
        return answers

    began = time.perf_counter()
    found = await asyncio.gather(*(client() for _ in range(at_once)))
    seconds = time.perf_counter() - began
    pool.close()
    answers = [each for some in found for each in some]
    refused = sum(status != _OK for _, status in answers)
    return Measured([took for took, _ in answers], seconds, refused)


def _kinds(endpoint: Endpoint) -> dict[str, float]:
    """Ask Nadi what kinds of answers it gave."""
    lines = _lines(endpoint, "nadi_cds_answers_total")
    return {line.split('outcome="')[1].split('"')[0]: float(line.split()[-1]) for line in lines}


def _open_jobs(endpoint: Endpoint) -> float:
    """Ask Nadi how many jobs wait or run."""
    lines = _lines(endpoint, "nadi_jobs")
    return sum(float(line.split()[-1]) for line in lines if any(state in line for state in _OPEN))


def _lines(endpoint: Endpoint, name: str) -> list[str]:
    """Read the lines of one metric."""
    connection = endpoint.connect()
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return [line for line in lines if line.startswith(f"{name}{{")]
