import json
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest

from benchmarks.soak import Plan, Soaked, load_of
from benchmarks.soak_told import as_json, is_passed, trends, write
from benchmarks.watch import Reading

NOW = datetime(2026, 11, 26, 8, tzinfo=UTC)
MIB = 2**20


def reading(at_s, *, memory_mib=100, wal_mib=4, kib_per_event=8, ready=1):
    return Reading(
        at_s=at_s,
        pss_bytes={"api": memory_mib * MIB, "relay": 50 * MIB},
        descriptors={"api": 40, "relay": 20},
        cpu_s={"api": 0.1 * at_s, "relay": 0.05 * at_s},
        database_bytes=int(100 * MIB + kib_per_event * 1024 * 116 * at_s),
        wal_bytes=wal_mib * MIB,
        ready=ready,
    )


def soaked(look=reading, latency_ms=lambda _: 20.0, **more):
    plan = Plan(per_s=116, seconds=1800, look_every_s=5)
    return Soaked(
        plan=plan,
        readings=[look(5.0 * n) for n in range(361)],
        latency_ms=[(float(n), latency_ms(n)) for n in range(1800)],
        **{
            "expected": 1800,
            "arrived": 1800,
            "duplicates": 0,
            "unwanted": 0,
            "refused": 0,
            "is_settled": True,
            "began": NOW,
            **more,
        },
    )


def not_flat(found):
    return [each.measure.name for each in trends(found) if not each.is_flat]


def test_a_run_in_which_nothing_grows_has_passed():
    assert not_flat(soaked()) == []
    assert is_passed(soaked())


@pytest.mark.parametrize(
    ("look", "what"),
    [
        (lambda s: reading(s, memory_mib=100 + s / 30), "memory (PSS) of all processes"),
        (lambda s: reading(s, wal_mib=4 + s / 60), "write-ahead log, highest"),
        (lambda s: reading(s, ready=s), "jobs ready"),
        (lambda s: reading(s, kib_per_event=8 + s / 400), "growth of the database per event"),
        (lambda s: replace(reading(s), descriptors={"api": 40 + s}), "file descriptors"),
        (lambda s: replace(reading(s), cpu_s={"api": s**2}), "CPU per event"),
    ],
)
def test_whatever_grows_is_named_and_the_run_has_failed(look, what):
    found = soaked(look)

    assert [name.startswith(what) for name in not_flat(found)] == [True]
    assert not is_passed(found)


def test_results_that_come_ever_later_are_no_flat_run():
    found = soaked(latency_ms=lambda n: 20 + n / 10)

    assert len(not_flat(found)) == 2


@pytest.mark.parametrize(
    "wrong", [{"arrived": 1799}, {"duplicates": 1}, {"unwanted": 1}, {"refused": 1}]
)
def test_a_flat_run_with_a_wrong_result_has_failed(wrong):
    assert not is_passed(soaked(**wrong))


def test_page_picture_and_json_tell_the_run(tmp_path):
    found = soaked()

    page, picture = write(found, {"CPU": "two cores"}, tmp_path)

    assert "Passed: 1,800 of 1,800" in page.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")
    told = json.loads(orjson.dumps(as_json(found, {})))
    assert len(told["readings"]) == 361
    assert len(told["latency_ms"]["p99"]) == 30


def test_an_event_of_a_patient_who_denies_is_pushed_and_not_expected():
    load = load_of(450, now=NOW)

    ids = [post.id for post in load.triggers]
    assert len(ids) == len(set(ids)) == 450
    assert load.expected < set(ids)
    assert not any("-00019-" in each for each in load.expected)
    assert any("-00019-" in each for each in ids)
    patients = {post.id for post in load.records if post.path == "/fhir/Patient"}
    assert {each.rpartition("-")[0] for each in ids} == patients
