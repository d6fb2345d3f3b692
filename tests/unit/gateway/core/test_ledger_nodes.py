"""Proofs from kept nodes are the proofs of the whole log, and read little of it."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import ledger
from gateway.core.ledger import Frontier, ProofInvalid
from gateway.core.ledger_nodes import (
    consistency_proof_from,
    grow,
    inclusion_proof_from,
    root_from,
)

LARGEST = 70_000
LEAVES = [hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(LARGEST)]


class Kept:
    """What a store keeps of a log, and how much of it was read."""

    def __init__(self, size: int, batch: int = 1000) -> None:
        frontier, self._nodes = Frontier(), {}
        self.leaves = LEAVES[:size]
        for start in range(0, size, batch):
            frontier, built = grow(frontier, self.leaves[start : start + batch])
            self._nodes |= {(node.leaf_count, node.first_leaf): node.hash for node in built}
        self.root = ledger.root(frontier)
        self.was_read = 0

    def read(self, count: int, firsts: range) -> Sequence[bytes]:
        self.was_read += len(firsts)
        if count == 1:
            return [self.leaves[first] for first in firsts]
        return [self._nodes[count, first] for first in firsts if (count, first) in self._nodes]

    def forget(self, count: int, first: int) -> None:
        del self._nodes[count, first]


@pytest.fixture(scope="module")
def large() -> Kept:
    return Kept(LARGEST)


@given(st.integers(1, 1500), st.data())
@settings(deadline=None, max_examples=60)
def test_an_inclusion_proof_is_the_one_of_the_whole_log(size: int, data: st.DataObject) -> None:
    kept, index = Kept(size, batch=97), data.draw(st.integers(0, size - 1))

    proof = inclusion_proof_from(kept.read, index, size)

    assert proof == ledger.inclusion_proof(kept.leaves, index)
    ledger.verify_inclusion(LEAVES[index], index, size=size, proof=proof, root=kept.root)


@given(st.integers(1, 1500), st.data())
@settings(deadline=None, max_examples=60)
def test_a_consistency_proof_is_the_one_of_the_whole_log(size: int, data: st.DataObject) -> None:
    kept, size1 = Kept(size, batch=97), data.draw(st.integers(1, size))

    proof = consistency_proof_from(kept.read, size1, size)

    assert proof == ledger.consistency_proof(kept.leaves, size1)
    root1 = ledger.root(Frontier().extend(LEAVES[:size1]))
    ledger.verify_consistency(size1, size, root1=root1, root2=kept.root, proof=proof)


@pytest.mark.parametrize("index", [0, 255, 256, 65_535, 65_536, LARGEST - 1])
def test_a_proof_in_a_large_log_reads_little_of_it(large: Kept, index: int) -> None:
    large.was_read = 0

    proof = inclusion_proof_from(large.read, index, LARGEST)

    ledger.verify_inclusion(LEAVES[index], index, size=LARGEST, proof=proof, root=large.root)
    assert large.was_read < 3 * 256


def test_the_root_of_any_size_comes_from_the_kept_nodes(large: Kept) -> None:
    for size in (0, 1, 255, 256, 257, 65_536, LARGEST):
        assert root_from(large.read, size) == ledger.root(Frontier().extend(LEAVES[:size]))


def test_a_node_that_is_gone_is_an_error_and_no_false_proof() -> None:
    kept = Kept(1000)
    kept.forget(256, 256)

    with pytest.raises(ProofInvalid, match="lacks leaves or inner nodes"):
        inclusion_proof_from(kept.read, 0, 1000)
