"""The Merkle log keeps its promises: proofs hold for every tree, and nothing else passes."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import ledger
from gateway.core.ledger import Checkpoint, CheckpointInvalid, Frontier, ProofInvalid

VECTORS = Path(__file__).resolve().parents[4] / ".." / "shared" / "data" / "merkle-vectors"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
ORIGIN = "nadi.example/audit"


def vectors(kind: str) -> list[Any]:
    """Give every vector of one kind, or one that says why it is skipped."""
    files = sorted(VECTORS.glob(f"{kind}__*.json"))
    if not files:
        reason = f"no Merkle vectors in {VECTORS.name} beside the repository"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(json.loads(file.read_text()), id=file.stem) for file in files]


def decoded(vector: dict[str, Any], name: str) -> Any:
    value = vector[name]
    if isinstance(value, list):
        return [base64.b64decode(item) for item in value]
    return base64.b64decode(value or "")


def passes(verify: Any, *args: Any, **kwargs: Any) -> bool:
    try:
        verify(*args, **kwargs)
    except ProofInvalid:
        return False
    return True


@pytest.mark.parametrize("vector", vectors("inclusion"))
def test_inclusion_agrees_with_the_published_vector(vector: dict[str, Any]) -> None:
    holds = passes(
        ledger.verify_inclusion,
        decoded(vector, "leafHash"),
        vector["leafIdx"],
        size=vector["treeSize"],
        proof=decoded({"proof": vector["proof"] or []}, "proof"),
        root=decoded(vector, "root"),
    )

    assert holds is not vector["wantErr"]


@pytest.mark.parametrize("vector", vectors("subtreeinclusion"))
def test_subtree_inclusion_agrees_with_the_published_vector(vector: dict[str, Any]) -> None:
    holds = passes(
        ledger.verify_subtree_inclusion,
        decoded(vector, "leafHash"),
        vector["leafIdx"],
        subtree=range(vector["start"], vector["end"]),
        proof=decoded({"proof": vector["proof"] or []}, "proof"),
        root=decoded(vector, "root"),
    )

    assert holds is not vector["wantErr"]


@pytest.mark.parametrize("vector", vectors("consistency"))
def test_consistency_agrees_with_the_published_vector(vector: dict[str, Any]) -> None:
    holds = passes(
        ledger.verify_consistency,
        vector["size1"],
        vector["size2"],
        root1=decoded(vector, "root1"),
        root2=decoded(vector, "root2"),
        proof=decoded({"proof": vector["proof"] or []}, "proof"),
    )

    assert holds is not vector["wantErr"]


@pytest.mark.parametrize("vector", vectors("subtreeconsistency"))
def test_subtree_consistency_agrees_with_the_published_vector(vector: dict[str, Any]) -> None:
    holds = passes(
        ledger.verify_subtree_consistency,
        range(vector["start"], vector["end"]),
        vector["size"],
        root1=decoded(vector, "root1"),
        root2=decoded(vector, "root2"),
        proof=decoded({"proof": vector["proof"] or []}, "proof"),
    )

    assert holds is not vector["wantErr"]


def textbook_root(entries: Sequence[bytes]) -> bytes:
    """Give the root by the recursive definition of RFC 9162 section 2.1.1, word for word."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    both = textbook_root(entries[:k]) + textbook_root(entries[k:])
    return hashlib.sha256(b"\x01" + both).digest()


def entries_of(size: int) -> list[bytes]:
    return [b"event %d" % number for number in range(size)]


def leaves_of(size: int) -> list[bytes]:
    return [ledger.leaf_hash(entry) for entry in entries_of(size)]


def root_of(leaves: Sequence[bytes]) -> bytes:
    return ledger.root(Frontier().extend(leaves))


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_frontier_gives_the_root_of_the_recursive_definition(entries: list[bytes]) -> None:
    frontier = Frontier()

    for entry in entries:
        frontier = frontier.append(ledger.leaf_hash(entry))

    assert ledger.root(frontier) == textbook_root(entries)
    assert frontier.size == len(entries)


@given(st.integers(0, 70), st.integers(0, 70))
def test_a_frontier_survives_its_storage_and_goes_on(size: int, more: int) -> None:
    frontier = Frontier().extend(leaves_of(size + more)[:size])

    stored = Frontier.from_hex(frontier.size, frontier.to_hex())

    assert stored == frontier
    assert stored.extend(leaves_of(size + more)[size:]) == Frontier().extend(leaves_of(size + more))


@pytest.mark.parametrize(
    ("size", "nodes"),
    [(-1, []), (0, ["00" * 32]), (2, []), (3, ["00" * 32]), (1, ["00" * 31]), (1, ["no hex"])],
)
def test_a_frontier_that_does_not_fit_its_size_is_refused(size: int, nodes: list[str]) -> None:
    with pytest.raises(ProofInvalid):
        Frontier.from_hex(size, nodes)


@st.composite
def _log_and_index(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(st.integers(1, 200))
    return size, draw(st.integers(0, size - 1))


@given(_log_and_index())
def test_every_leaf_proves_its_inclusion(case: tuple[int, int]) -> None:
    size, index = case
    leaves = leaves_of(size)

    proof = ledger.inclusion_proof(leaves, index)

    ledger.verify_inclusion(leaves[index], index, size=size, proof=proof, root=root_of(leaves))


@given(_log_and_index(), st.data())
def test_a_changed_inclusion_proof_is_refused(case: tuple[int, int], data: st.DataObject) -> None:
    size, index = case
    leaves = leaves_of(size)
    parts = [leaves[index], root_of(leaves), *ledger.inclusion_proof(leaves, index)]
    changed = data.draw(st.integers(0, len(parts) - 1))
    bit = data.draw(st.integers(0, 255))
    parts[changed] = (int.from_bytes(parts[changed]) ^ 1 << bit).to_bytes(32)

    leaf, root, *proof = parts

    with pytest.raises(ProofInvalid):
        ledger.verify_inclusion(leaf, index, size=size, proof=proof, root=root)


@given(_log_and_index(), st.integers(-1, 205))
def test_a_leaf_is_refused_at_any_other_index(case: tuple[int, int], other: int) -> None:
    size, index = case
    leaves = leaves_of(size)
    proof = ledger.inclusion_proof(leaves, index)

    holds = passes(
        ledger.verify_inclusion, leaves[index], other, size=size, proof=proof, root=root_of(leaves)
    )

    assert holds is (other == index)


@given(_log_and_index())
def test_a_log_that_only_grew_proves_it(case: tuple[int, int]) -> None:
    size2, size1 = case[0], case[1] + 1
    leaves = leaves_of(size2)

    proof = ledger.consistency_proof(leaves, size1)

    ledger.verify_consistency(
        size1, size2, root1=root_of(leaves[:size1]), root2=root_of(leaves), proof=proof
    )


@given(_log_and_index(), st.data())
def test_a_log_rewritten_before_the_checkpoint_is_refused(
    case: tuple[int, int], data: st.DataObject
) -> None:
    size2, size1 = case[0], case[1] + 1
    leaves = leaves_of(size2)
    root1 = root_of(leaves[:size1])
    leaves[data.draw(st.integers(0, size1 - 1))] = ledger.leaf_hash(b"rewritten")

    proof = ledger.consistency_proof(leaves, size1)

    with pytest.raises(ProofInvalid):
        ledger.verify_consistency(size1, size2, root1=root1, root2=root_of(leaves), proof=proof)


@given(st.integers(0, 7), st.integers(0, 15), st.data())
def test_every_aligned_subtree_proves_its_place(
    exponent: int, position: int, data: st.DataObject
) -> None:
    width = 1 << exponent
    start = position * width if position * width < 200 else 0
    end = data.draw(st.integers(start + width // 2 + 1, start + width))
    index = data.draw(st.integers(start, end - 1))
    leaves = leaves_of(end)

    proof = ledger.inclusion_proof(leaves[start:], index - start)

    ledger.verify_subtree_inclusion(
        leaves[index], index, subtree=range(start, end), proof=proof, root=root_of(leaves[start:])
    )


@pytest.mark.parametrize("size1", [-1, 0, 4])
def test_no_proof_is_made_of_an_impossible_growth(size1: int) -> None:
    with pytest.raises(ProofInvalid):
        ledger.consistency_proof(leaves_of(3), size1)


@pytest.mark.parametrize("index", [-1, 3])
def test_no_proof_is_made_of_a_leaf_that_is_not_there(index: int) -> None:
    with pytest.raises(ProofInvalid):
        ledger.inclusion_proof(leaves_of(3), index)


def test_consistency_with_an_empty_log_is_an_error_even_with_an_empty_proof() -> None:
    root = root_of(leaves_of(3))

    with pytest.raises(ProofInvalid):
        ledger.verify_consistency(0, 3, root1=ledger.EMPTY_ROOT, root2=root, proof=[])


_names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1).filter(
    lambda name: "+" not in name
)
_lines = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)


@given(
    st.builds(
        Checkpoint,
        _names,
        st.integers(0, 10**19 - 1),
        st.binary(min_size=32, max_size=32),
        st.lists(_lines, max_size=3).map(tuple),
    )
)
def test_a_signed_checkpoint_reads_back_as_it_was(checkpoint: Checkpoint) -> None:
    note = ledger.sign_checkpoint(KEY, checkpoint)

    read = ledger.verify_checkpoint(note, KEY.public_key(), origin=checkpoint.origin)

    assert read == checkpoint


def signed(size: int = 3) -> str:
    return ledger.sign_checkpoint(KEY, Checkpoint(ORIGIN, size, root_of(leaves_of(size))))


@given(st.data())
def test_a_checkpoint_with_any_character_changed_is_refused(data: st.DataObject) -> None:
    note = signed()
    position = data.draw(st.integers(0, len(note) - 1))
    new = data.draw(st.characters(codec="utf-8").filter(lambda c: c != note[position]))

    changed = note[:position] + new + note[position + 1 :]

    with pytest.raises(CheckpointInvalid):
        ledger.verify_checkpoint(changed, KEY.public_key())


def test_a_checkpoint_signed_by_another_key_is_refused() -> None:
    note = ledger.sign_checkpoint(OTHER_KEY, Checkpoint(ORIGIN, 1, root_of(leaves_of(1))))

    with pytest.raises(CheckpointInvalid, match="not signed by the key"):
        ledger.verify_checkpoint(note, KEY.public_key())


def test_a_checkpoint_of_another_log_is_refused() -> None:
    with pytest.raises(CheckpointInvalid, match="another log"):
        ledger.verify_checkpoint(signed(), KEY.public_key(), origin="elsewhere.example/audit")


def test_the_signature_of_a_witness_beside_ours_is_allowed() -> None:
    witness = base64.b64encode(b"\x01\x02\x03\x04" + bytes(64)).decode()

    checkpoint = ledger.verify_checkpoint(
        f"{signed()}\u2014 witness.example {witness}\n", KEY.public_key()
    )

    assert checkpoint.size == 3


def test_a_false_signature_of_our_key_beside_a_true_one_is_refused() -> None:
    note = signed()
    other = signed(2).splitlines()[-1]

    with pytest.raises(CheckpointInvalid, match="signature of the checkpoint is false"):
        ledger.verify_checkpoint(f"{note}{other}\n", KEY.public_key())


@pytest.mark.parametrize(
    "note",
    [
        pytest.param("", id="empty"),
        pytest.param(f"{ORIGIN}\n1\n", id="no root"),
        pytest.param(signed().replace("\n\n", "\n"), id="no blank line"),
        pytest.param(signed().rstrip("\n"), id="no last newline"),
        pytest.param(signed().replace("\n3\n", "\n03\n"), id="leading zero"),
        pytest.param(signed().replace("\n3\n", "\n-3\n"), id="negative size"),
        pytest.param(signed().replace(ORIGIN, "a b"), id="space in the name"),
        pytest.param(signed().split("\u2014")[0], id="no signature"),
        pytest.param(signed() + "no dash AAAA\n", id="signature without a dash"),
        pytest.param(signed() + "\u2014 short AAAA\n", id="signature too short"),
        pytest.param(signed() + "\u2014 x ****\n", id="signature not base64"),
        pytest.param(signed() + "\u2014 x AAAAAB==\n", id="base64 not canonical"),
        pytest.param(signed().replace("\n", "\r\n"), id="carriage returns"),
        pytest.param(f"{ORIGIN}\n1\nAAAA\n\n\u2014 {ORIGIN} AAAAAAAAAA==\n", id="short root"),
    ],
)
def test_a_malformed_note_is_refused(note: str) -> None:
    with pytest.raises(CheckpointInvalid):
        ledger.verify_checkpoint(note, KEY.public_key())


@pytest.mark.parametrize(
    "checkpoint",
    [
        Checkpoint("", 0, bytes(32)),
        Checkpoint("a b", 0, bytes(32)),
        Checkpoint(ORIGIN, -1, bytes(32)),
        Checkpoint(ORIGIN, 0, bytes(31)),
        Checkpoint(ORIGIN, 0, bytes(32), ("",)),
        Checkpoint(ORIGIN, 0, bytes(32), ("two\nlines",)),
    ],
)
def test_a_checkpoint_that_a_note_cannot_hold_is_not_signed(checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointInvalid):
        ledger.sign_checkpoint(KEY, checkpoint)


def test_a_verifier_key_made_by_another_program_is_read() -> None:
    published = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

    name, public_key = ledger.read_verifier_key(published)

    assert name == "PeterNeumann"
    assert ledger.verifier_key(name, public_key) == published


@given(_names, st.binary(min_size=32, max_size=32))
def test_a_verifier_key_reads_back_as_it_was(name: str, seed: bytes) -> None:
    public_key = Ed25519PrivateKey.from_private_bytes(seed).public_key()

    read = ledger.read_verifier_key(ledger.verifier_key(name, public_key))

    assert read == (name, public_key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+AAAA",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AhpcL2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_a_malformed_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(CheckpointInvalid):
        ledger.read_verifier_key(text)


def test_a_key_has_no_name_with_a_space() -> None:
    with pytest.raises(CheckpointInvalid):
        ledger.verifier_key("a b", KEY.public_key())
