"""The inner nodes of the Merkle log that are kept, so that no proof reads the whole log.

Kept is the root of every complete subtree of 256, 65,536, 16,777,216 … leaves: one hash for each
256 leaves. The root of any range that a proof asks for then comes from at most 255 hashes of each
size: of a log of a million leaves a proof reads some hundred hashes, not a million.

Source: the tiles of C2SP tlog-tiles, which keep the same nodes (https://c2sp.org/tlog-tiles).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gateway.core.ledger import (
    Frontier,
    ProofInvalid,
    consistency_ranges,
    inclusion_ranges,
    root,
)

_HEIGHT = 8
_MOST_KNOWN = 4096

#: Gives the hashes of the subtrees of so many leaves each that make up a range, in order: leaf
#: hashes where it is one leaf each, else kept nodes.
ReadNodes = Callable[[int, range], Sequence[bytes]]


@dataclass(frozen=True)
class Node:
    """The root of a complete subtree.

    Attributes:
        first_leaf: Index of its first leaf, a multiple of `leaf_count`.
        leaf_count: A power of 256.
    """

    first_leaf: int
    leaf_count: int
    hash: bytes


def grow(frontier: Frontier, leaves: Iterable[bytes]) -> tuple[Frontier, list[Node]]:
    """Append leaf hashes; give the new frontier and the nodes to be kept."""
    kept: list[Node] = []

    def keep(height: int, end: int, node: bytes) -> None:
        if height % _HEIGHT == 0:
            count = 1 << height
            kept.append(Node(end - count, count, node))

    return frontier.extend(leaves, built=keep), kept


def inclusion_proof_from(
    read: ReadNodes, index: int, size: int, *, known: dict[range, bytes] | None = None
) -> list[bytes]:
    """Prove that one leaf is in the log of this size.

    Args:
        read: Gives hashes.
        index: Of the leaf.
        size: Of the log.
        known: Roots of ranges found for proofs before; neighbours share most of theirs.

    Raises:
        ProofInvalid: The log has no such leaf, or lacks a hash that it should have.
    """
    known = {} if known is None else known
    parts = inclusion_ranges(index, size)
    if len(known) > _MOST_KNOWN:
        known.clear()
    known |= {part: _root_of(part, read) for part in parts if part not in known}
    return [known[part] for part in parts]


def consistency_proof_from(read: ReadNodes, size1: int, size2: int) -> list[bytes]:
    """Prove that the log of the later size continues that of the earlier one.

    Raises:
        ProofInvalid: There are no such logs, or a hash is lacking that should be there.
    """
    return [_root_of(part, read) for part in consistency_ranges(size1, size2)]


def root_from(read: ReadNodes, size: int) -> bytes:
    """Give the root of the first so many leaves.

    Raises:
        ProofInvalid: A hash is lacking that should be there.
    """
    return _root_of(range(size), read)


def _root_of(leaves: range, read: ReadNodes) -> bytes:
    """Give the root of a subtree, which is complete except perhaps at its right edge."""
    nodes: list[bytes] = []
    first, size = leaves.start, leaves.stop - leaves.start
    for count in _counts(size):
        stop = leaves.stop - (leaves.stop - first) % count
        found = read(count, range(first, stop, count)) if stop > first else ()
        if len(found) != (stop - first) // count:
            raise ProofInvalid(
                "The log lacks leaves or inner nodes; `nadi audit verify` says which."
            )
        nodes += Frontier().extend(found).nodes
        first = stop
    return root(Frontier(size, tuple(nodes)))


def _counts(size: int) -> list[int]:
    """Give the sizes of subtrees that fit, the largest first: powers of 256 down to 1."""
    largest = max(size.bit_length() - 1, 0) // _HEIGHT
    return [1 << _HEIGHT * power for power in range(largest, -1, -1)]
