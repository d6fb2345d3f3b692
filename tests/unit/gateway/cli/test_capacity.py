"""Whether a machine is enough, worked out from what was measured."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.capacity import (
    EVENT_BYTES,
    PROBE_MS,
    Fitness,
    ModelCost,
    beds,
    events_per_hour,
    judge_machine,
    judge_model,
    rush_hour,
    settings,
)
from gateway.cli.machine import ClockState, Fsync, Machine
from gateway.cli.probe import Probe
from models.film import Reading

GIB, MIB = 2**30, 2**20
OLD = Machine(
    cpu="Old",
    flags=("avx2", "fma"),
    kernel_class="avx2",
    exact_int8=True,
    cores=2,
    memory_bytes=4 * GIB,
    available_bytes=3 * GIB,
    disk_free_bytes=50 * GIB,
    fsync=Fsync(6.0, 12.0, 9),
    clock=ClockState.KEPT,
    system="Linux",
)
SMALL = ModelCost(
    name="ckd-risk@1.0.0",
    weights_format="onnx-int8-qdq",
    size_bytes=6000,
    load_ms=20,
    memory_bytes=10 * MIB,
    alone_ms=0.05,
    batch_ms=0.2,
    timeout_ms=10_000,
)
HERE = Probe(PROBE_MS, 2.0)
SLOW = replace(SMALL, name="slow@1.0.0", alone_ms=2000.0, batch_ms=32_000.0)


def judged(cost, *, wanted=8333):
    return judge_model(OLD, HERE, cost, wanted=wanted)


def test_two_old_cores_serve_a_small_model_for_a_large_hospital():
    found = judged(SMALL)

    assert found.fitness is Fitness.ENOUGH
    assert found.events_per_hour > rush_hour(10_000)
    assert "One answer takes 0.05 ms" in found.says


def test_a_model_that_is_too_slow_for_the_wanted_events_says_how_many_it_can():
    found = judged(SLOW)

    assert found.fitness is Fitness.NOT_ENOUGH
    assert found.events_per_hour == events_per_hour(HERE, SLOW)
    assert "Wanted are 8,333" in found.says


def test_a_run_near_the_limit_of_its_manifest_is_not_enough():
    found = judged(replace(SLOW, alone_ms=6000.0), wanted=1)

    assert found.fitness is Fitness.NOT_ENOUGH
    assert "too near to the limit of its manifest (10000 ms)" in found.says


def test_a_model_that_does_not_fit_into_memory_says_how_much_is_missing():
    found = judged(replace(SMALL, memory_bytes=4 * GIB), wanted=1)

    assert found.fitness is Fitness.NOT_ENOUGH
    assert "It needs 4,096 MiB of memory" in found.says


def test_a_model_that_does_not_run_here_says_why():
    assert judged(ModelCost(name="x@1.0.0", problem="Altered.")).says == "Altered."


@given(st.floats(0.01, 5000), st.floats(0.01, 5000), st.floats(1, 64))
def test_more_cores_never_serve_less_and_slower_models_never_more(one, other, cores):
    quick, slow = sorted((one, other))
    costs = [replace(SMALL, alone_ms=each, batch_ms=16 * each) for each in (quick, slow)]

    served = [events_per_hour(Probe(PROBE_MS, cores), cost) for cost in costs]

    assert served[0] >= served[1]
    assert events_per_hour(Probe(PROBE_MS, cores + 1), costs[0]) >= served[0]


FILM = Reading(3000, 2500, {"dicom": 20.0, "png": 90.0, "jpeg": 30.0}, scale_ms=60.0)


def test_reading_an_image_counts_with_the_slowest_kind_of_file():
    imaging = replace(SMALL, reading=FILM)

    found = judged(imaging, wanted=1)

    assert imaging.per_case_ms == pytest.approx(SMALL.per_case_ms + 150)
    assert found.events_per_hour == events_per_hour(HERE, imaging)
    assert found.events_per_hour < events_per_hour(HERE, SMALL) / 30
    assert "reading its image up to 150 ms" in found.says


def test_many_cores_decode_dicom_no_faster_than_one_thread_of_a_process_does():
    imaging = replace(SMALL, reading=FILM)

    served = [events_per_hour(Probe(PROBE_MS, cores), imaging) for cores in (2.0, 4.0, 16.0, 64.0)]

    assert served[0] * 2 == pytest.approx(served[1], abs=2)
    assert served[2] == served[3] == int(3_600_000 * 0.6 / 20)


@given(st.integers(1, 100_000))
def test_the_beds_of_a_rush_hour_come_back(count):
    assert abs(beds(rush_hour(count)) - count) <= 1


@pytest.mark.parametrize(
    ("changed", "about", "fitness"),
    [
        ({}, "memory", Fitness.ENOUGH),
        ({"available_bytes": 600 * MIB}, "memory", Fitness.TIGHT),
        ({"available_bytes": 300 * MIB}, "memory", Fitness.NOT_ENOUGH),
        ({"disk_free_bytes": 100 * MIB}, "disk space", Fitness.NOT_ENOUGH),
        ({"disk_free_bytes": 20 * GIB}, "disk space", Fitness.TIGHT),
        ({"disk_free_bytes": 100 * GIB}, "disk space", Fitness.ENOUGH),
        ({"fsync": Fsync(80.0, 200.0, 9)}, "disk speed", Fitness.TIGHT),
        ({"clock": ClockState.NOT_KEPT}, "clock", Fitness.TIGHT),
        ({"clock": ClockState.YEARS_BEHIND}, "clock", Fitness.NOT_ENOUGH),
        ({"clock": ClockState.UNKNOWN}, "clock", Fitness.ENOUGH),
    ],
)
def test_each_part_of_the_machine_is_judged_by_itself(changed, about, fitness):
    found = {
        each.about: each for each in judge_machine(replace(OLD, **changed), [SMALL], wanted=8_000)
    }

    assert found[about].fitness is fitness


def test_it_is_said_for_how_many_days_the_disk_lasts():
    free = 30 * 24 * 1000 * EVENT_BYTES

    found = judge_machine(replace(OLD, disk_free_bytes=free), [SMALL], wanted=rush_hour(120))

    (disk,) = (each for each in found if each.about == "disk space")
    assert "30 days of 24,000 events" in disk.says
    assert "larger disk" in disk.says


def test_the_settings_follow_cores_and_what_a_batch_gains():
    assert settings(OLD, [SMALL])["NADI_BATCH_SIZE"] == "64"
    assert settings(OLD, [SLOW]) == {
        "NADI_INFER_THREADS": "2",
        "NADI_DELIVER_THREADS": "2",
        "NADI_BATCH_SIZE": "16",
    }
