"""A piece of an event's path, timed: how quickly this machine runs what Nadi itself does.

Validation, sealing, reading features and wording a result, on a made-up patient. It is CPU time of
one thread; nothing is stored or sent.
"""

import hashlib
import statistics
import time
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

_ROUNDS, _EVENTS = 7, 40
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


def probe_ms() -> float:
    """CPU time in milliseconds that one event's piece takes here: the median of several rounds."""
    piece = _piece()
    piece()  # compiles the validator
    return statistics.median(_round_ms(piece) for _ in range(_ROUNDS))


def _round_ms(piece: "partial[None]") -> float:
    started = time.thread_time()
    for _ in range(_EVENTS):
        piece()
    return (time.thread_time() - started) * 1000 / _EVENTS


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
