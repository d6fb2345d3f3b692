"""The benchmark of cards asks as an EHR does, and tells what it measured."""

import orjson

from benchmarks.cds_hooks import Measured, call_of
from gateway.core.cds.prefetch import missing_of, templates_of
from gateway.core.cds.request import read_request
from models.registry import load_installed


def test_a_call_brings_all_that_the_model_asks_for():
    asked = read_request(orjson.dumps(call_of(7)), hook="patient-view")
    manifest = load_installed()["ckd-risk"].manifest

    missing = missing_of(asked, templates_of(manifest, trigger_type=None, local_codes={}))

    assert missing == ()


def test_calls_are_of_different_patients_and_values():
    one, two = call_of(1), call_of(2)

    assert one["context"]["patientId"] != two["context"]["patientId"]
    assert one["prefetch"]["creatinine"] != two["prefetch"]["creatinine"]


def test_a_round_tells_times_and_what_they_cost():
    measured = Measured([1.0, 2.0, 3.0], seconds=2.0, refused=0, cpu={"api": 0.006, "relay": 0.003})

    assert measured.sample() == {
        "p50, ms": 2.0,
        "p99, ms": 3.0,
        "answers/s": 1.5,
        "CPU-ms per answer": 3.0,
        "answers per CPU-s": 1000 / 3,
        "CPU-ms of api": 2.0,
        "CPU-ms of relay": 1.0,
    }
