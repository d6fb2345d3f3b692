"""A piece of an event's path, timed: how quickly this machine runs what Nadi itself does.

Validation, sealing, reading features and wording a result, on a made-up patient; nothing is stored
or sent. It is timed once alone and once in as many processes as there are processors: two threads
of one core are not two cores, and a host that shares its cores gives fewer than it names.

`python -m gateway.cli.probe` is one such process.
"""

import hashlib
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import orjson

from gateway.core.event import facts
from gateway.core.fhir import parse_resource
from gateway.core.findings import ResultContext, RuntimeFacts, report, result_identifier
from gateway.store.sealing import MasterKey, Place, Sealer
from models.manifest import Manifest
from models.registry import REFERENCE_MODELS, load
from workers.features import Features, extract

_ROUNDS, _EVENTS = 24, 40
_AT = datetime(2026, 1, 15, 4, 30, tzinfo=UTC)
_LABS = (
    ("2160-0", 1.1, "mg/dL"),
    ("3091-6", 34, "mg/dL"),
    ("2951-2", 139, "mmol/L"),
    ("2823-3", 4.4, "mmol/L"),
    ("718-7", 13.1, "g/dL"),
)
_PATIENT = {
    "resourceType": "Patient",
    "id": "made-up",
    "gender": "female",
    "birthDate": "1975-05-05",
}
_PLACE = Place("probe", "payload", "row")
_KEY = "0" * 64
_RUNTIME = RuntimeFacts(model_digest=_KEY, runtime="probe", kernel_class="probe")


@dataclass(frozen=True)
class Probe:
    """How quickly this machine runs what Nadi itself does.

    Attributes:
        event_ms: Time of one event's piece on one processor, nothing else running.
        cores: How many such processors the machine is worth when all of them work.
    """

    event_ms: float
    cores: float


def probe(cores: int) -> Probe:
    """Time the piece alone, and on so many processors at once.

    Raises:
        OSError: No process can be started.
        subprocess.CalledProcessError: One failed.
    """
    (alone,) = _together(1)
    busy = _together(cores) if cores > 1 else [alone]
    worth = sum(alone / each for each in busy)
    return Probe(alone, min(max(worth, 1.0), float(cores)))


def event_ms() -> float:
    """Time of one event's piece in milliseconds: the lower quartile of many short rounds.

    The slower rounds of a machine that is not idle measure its neighbours.
    """
    piece = _piece()
    piece()  # compiles the validator
    return statistics.quantiles(_round_ms(piece) for _ in range(_ROUNDS))[0]


def _together(count: int) -> list[float]:
    command = [sys.executable, "-m", "gateway.cli.probe"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(count)]  # noqa: S603 - this interpreter, this module
    answers = [process.communicate()[0] for process in started]
    for process in started:
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    return [float(answer) for answer in answers]


def _round_ms(piece: "partial[None]") -> float:
    started = time.perf_counter()
    for _ in range(_EVENTS):
        piece()
    return (time.perf_counter() - started) * 1000 / _EVENTS


def _piece() -> "partial[None]":
    sealer = Sealer(MasterKey(bytes(32)))
    wrapped = sealer.new_data_key(_KEY)
    manifest = load(REFERENCE_MODELS / "ckd-risk").manifest
    return partial(_one_event, sealer, wrapped, manifest, [_lab(*each) for each in _LABS])


def _one_event(
    sealer: Sealer, wrapped: bytes, manifest: Manifest, labs: list[dict[str, object]]
) -> None:
    raw = orjson.dumps(labs[0])
    resource = parse_resource(raw)
    facts(resource.content)
    sealed = sealer.seal(wrapped, _KEY, _PLACE, raw)
    hashlib.sha256(sealer.unseal(wrapped, _KEY, _PLACE, sealed)).hexdigest()
    read = extract(manifest, [_PATIENT, *labs], patient=_PATIENT, at=_AT)
    if isinstance(read, Features):
        made = report(manifest, [0.1], inputs=read.inputs, context=_context(), runtime=_RUNTIME)
        sealer.seal(wrapped, _KEY, _PLACE, made.to_json())


def _context() -> ResultContext:
    return ResultContext(
        identifier=result_identifier("probe", "event", "probe", _KEY),
        subject="Patient/made-up",
        encounter=None,
        effective={"effectiveDateTime": _AT.isoformat()},
        issued=_AT,
        trigger="Observation/2160-0",
    )


def _lab(code: str, value: float, unit: str) -> dict[str, object]:
    quantity = {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
    return {
        "resourceType": "Observation",
        "id": code,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": "Patient/made-up"},
        "effectiveDateTime": _AT.isoformat(),
        "valueQuantity": quantity,
    }


if __name__ == "__main__":
    sys.stdout.write(f"{event_ms()}\n")
