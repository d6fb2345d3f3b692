"""A moment of fuzzing for every parser, with the same inputs every time."""

import time
from itertools import islice
from pathlib import Path

import pytest

from tests.fuzz.findings import Findings, kinds_in
from tests.fuzz.plain import mutations
from tests.fuzz.target import Target, load, names

_INPUTS = 200
_MOST_CPU_S = 0.3
# They have a test of their own, `test_api.py`.
_PARSERS = [name for name in names() if not name.startswith("api_")]


@pytest.mark.parametrize("name", _PARSERS)
def test_a_parser_takes_what_is_mutated_or_refuses_it_in_its_own_words(name: str, tmp_path: Path):
    target, findings = load(name), Findings(tmp_path)
    began = time.process_time()

    for data in islice(mutations(list(target.seeds()), 20, longest=target.longest), _INPUTS):
        findings.try_one(target, data)
        if time.process_time() - began > _MOST_CPU_S:
            break

    assert findings.seen == {}


def test_every_parser_takes_at_least_one_of_its_seeds():
    refused = []
    for name in _PARSERS:
        target = load(name)
        if not any(_takes(target, seed) for seed in target.seeds()):
            refused.append(name)

    assert refused == []


def _takes(target: Target, seed: bytes) -> bool:
    try:
        target.run(seed)
    except target.refusals:
        return False
    return True


def test_what_a_parser_should_not_raise_is_found_and_kept(tmp_path: Path):
    def run(data: bytes) -> None:
        if data == b"bad":
            raise KeyError(data)
        if data == b"refused":
            raise ValueError
        assert data != b"worse"

    target, findings = Target(run, list, (ValueError,)), Findings(tmp_path)

    for data in (b"good", b"bad", b"refused", b"worse"):
        findings.try_one(target, data)

    assert [kind.partition(" at ")[0] for kind in kinds_in(tmp_path)] == [
        "AssertionError",
        "KeyError",
    ]
    kept = {path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ""}
    assert kept == {b"bad", b"worse"}


def test_what_takes_long_is_found(tmp_path: Path):
    def run(_data: bytes) -> None:
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass

    findings = Findings(tmp_path, slow_s=0.01)

    findings.try_one(Target(run, list), b"slow")

    assert [kind.partition(":")[0] for kind in kinds_in(tmp_path)] == ["slow"]


def test_the_same_number_gives_the_same_mutations():
    first, second, other = (
        list(islice(mutations([b"seed", b"another"], number, longest=50), 40))
        for number in (1, 1, 2)
    )

    assert first == second
    assert first != other
    assert max(map(len, first)) <= 50
