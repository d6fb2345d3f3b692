"""Cards of CDS Hooks: how fast they are, and how many, on one core, beside HealthChain.

Each system has one core for all of its processes; the stand-in EHR and the generator share the
others. Measured is what a clinician waits for: one call after the other, and eight at once.

* Nadi, first view: everything that a call brings is new. It is received durably, consent is asked
  three times, the queue and a worker run the model, the card waits for that.
* Nadi, seen again: the same again, as when a chart is opened a second time: what it brings is
  recognised, the result is there, and consent is asked once more.
* HealthChain: reads the prefetch, runs the model, answers; nothing is kept, asked or audited.

Nadi's calls carry signed tokens (ES384), one for each call; HealthChain asks nobody who calls.
"""

import asyncio
import os
import statistics
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
import uvloop
from joserfc import jwt
from joserfc.jwk import ECKey
from rich.console import Console

from benchmarks.endpoint import Endpoint
from benchmarks.figures import percentile
from benchmarks.http import Pool, post_request
from benchmarks.load import push_all
from benchmarks.machine import cpu_seconds
from benchmarks.peers import PeerMissing
from benchmarks.result import rich_table
from benchmarks.systems import Nadi, Running, healthchain, sandbox_ehr
from benchmarks.workload import post_of

Json = dict[str, Any]
_HEAD = ("what", "at once", "p50, ms", "p99, ms", "answers/s", "CPU-ms", "answers/CPU-s")
Tell = Callable[[str], None]

_BASE, _ISSUER = "http://127.0.0.1", "https://bench.example"
_PATH = "/cds-services/ckd-risk-patient-view"
_CHAIN_PATH = "/cds/cds-services/ckd-risk"
_AT_ONCE = 8
#: Calls before anything is measured: the first one loads the model.
_WARM_UP = 5
_OK = 200
_AFTERWARDS_S = 2.0
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

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds of an answer."""
        return 1000 * sum(self.cpu.values()) / len(self.answer_ms)

    @property
    def per_core(self) -> float:
        """Answers of one core, if it had nothing else to do."""
        return 1000 / self.cpu_ms if self.cpu_ms else 0.0

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.answer_ms) / self.seconds


@dataclass
class Asked:
    """All that was measured.

    Attributes:
        measured: By system and kind, then by how many calls at once.
        kinds: What kinds of answers Nadi gave, by its own count.
        wrong: What did not go as it should.
        skipped: What was not measured, and why.
    """

    measured: dict[str, dict[int, Measured]] = field(default_factory=dict)
    kinds: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def show(self, console: Console) -> None:
        """Show it to people."""
        rows: list[tuple[str, ...]] = [_HEAD]
        for name, by_count in self.measured.items():
            rows += [(name, str(count), *_told(each)) for count, each in by_count.items()]
        console.print(rich_table("Cards, on one core", rows))
        told = ", ".join(f"{kind} {count:.0f}" for kind, count in sorted(self.kinds.items()))
        console.print(f"Answers of Nadi: {told}")
        for line in (*self.skipped, *self.wrong):
            console.print(line)

    def as_json(self, machine: Mapping[str, str]) -> Json:
        """Give it for a program."""
        return {
            "machine": dict(machine),
            "measured": {
                name: {
                    str(count): {
                        "p50_ms": percentile(each.answer_ms, 50),
                        "p99_ms": percentile(each.answer_ms, 99),
                        "mean_ms": statistics.fmean(each.answer_ms),
                        "per_s": each.per_second,
                        "cpu_ms": each.cpu_ms,
                        "cpu_ms_by_process": {
                            name: 1000 * spent / len(each.answer_ms)
                            for name, spent in each.cpu.items()
                        },
                    }
                    for count, each in by_count.items()
                }
                for name, by_count in self.measured.items()
            },
            "answers_of_nadi": self.kinds,
            "skipped": self.skipped,
            "wrong": self.wrong,
        }


def run(calls: int, tell: Tell) -> Asked:
    """Let both answer the same calls.

    Args:
        calls: Of each measure.
        tell: Takes one line about what is under way.
    """
    asked, key = Asked(), ECKey.generate_key("P-384")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        asked.skipped.append("There is one core: the generator shares it with what it measures.")
    with _on(cores[:1] if len(cores) == 1 else cores[1:]), sandbox_ehr() as ehr:
        _ask_nadi(asked, calls, ehr, key, cores[0], tell)
        try:
            _ask_chain(asked, calls, ehr, cores[0], tell)
        except PeerMissing as error:
            asked.skipped.append(str(error))
    return asked


def _ask_nadi(asked: Asked, calls: int, ehr: Endpoint, key: ECKey, core: int, tell: Tell) -> None:
    with _on([core]):
        running = Nadi(adapted=partial(_with_hooks, key))
        context = running(ehr)
        nadi = context.__enter__()
    try:
        tell("Nadi: consents")
        numbers, spare = range(2 * calls), range(2 * calls, 2 * calls + _WARM_UP)
        consents = [post_of(_consent(number)) for number in (*numbers, *spare)]
        pushed = push_all(nadi.endpoint, consents, clients=_AT_ONCE)
        if pushed.refused:
            asked.wrong.append(f"{len(pushed.refused)} consents were refused.")
        _measure(nadi, [_signed(nadi.endpoint, key, n) for n in spare], 1)
        for kind in ("first view", "seen again"):
            for at_once, some in ((1, numbers[:calls]), (_AT_ONCE, numbers[calls:])):
                tell(f"Nadi: {kind}, {at_once} at once")
                sent = [_signed(nadi.endpoint, key, number) for number in some]
                by_count = asked.measured.setdefault(f"Nadi, {kind}", {})
                by_count[at_once] = _measure(nadi, sent, at_once)
        asked.kinds = _kinds(nadi.endpoint)
    finally:
        context.__exit__(None, None, None)
    _judge(asked)


def _ask_chain(asked: Asked, calls: int, ehr: Endpoint, core: int, tell: Tell) -> None:
    tell("installing HealthChain")
    with _on([core]):
        context = healthchain(ehr, "benchmarks.healthchain_cds:app")
        chain = context.__enter__()
    try:
        first = [orjson.dumps(call_of(number)) for number in range(_WARM_UP)]
        _measure(chain, [post_request(chain.endpoint, _CHAIN_PATH, b) for b in first], 1)
        for at_once in (1, _AT_ONCE):
            tell(f"HealthChain, {at_once} at once")
            sent = [
                post_request(chain.endpoint, _CHAIN_PATH, orjson.dumps(call_of(number)))
                for number in range(calls)
            ]
            by_count = asked.measured.setdefault("HealthChain", {})
            by_count[at_once] = _measure(chain, sent, at_once)
    finally:
        context.__exit__(None, None, None)
    _judge(asked)


def _judge(asked: Asked) -> None:
    for name, by_count in asked.measured.items():
        refused = sum(each.refused for each in by_count.values())
        line = f"{name}: {refused} calls were not answered by 200."
        if refused and line not in asked.wrong:
            asked.wrong.append(line)


@contextmanager
def _on(cores: Sequence[int]) -> Iterator[None]:
    """Stay on these cores, with whatever is started meanwhile, until the end of the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _told(each: Measured) -> tuple[str, ...]:
    p50, p99 = (percentile(each.answer_ms, percent) for percent in (50, 99))
    times = (f"{p50:.1f}", f"{p99:.1f}", f"{each.per_second:.0f}")
    return (*times, f"{each.cpu_ms:.1f}", f"{each.per_core:.0f}")


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
    connection = endpoint.connect()
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    told = [line for line in lines if line.startswith("nadi_cds_answers_total{")]
    return {line.split('outcome="')[1].split('"')[0]: float(line.split()[-1]) for line in told}
