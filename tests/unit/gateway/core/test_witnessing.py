"""A witness keeps one history of each log, which only grows."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from adapters.witness.http import request_body
from adapters.witness.publication import Publication
from gateway.core import ledger
from gateway.core.clock import utc_now
from gateway.core.errors import ContentError, NotFound
from gateway.core.ledger import Checkpoint, CheckpointInvalid, Frontier, sign_checkpoint
from gateway.core.witnessing import (
    LogForked,
    SizeKnown,
    Submission,
    insist_on_growth,
    open_note,
    read_submission,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ORIGIN = "nadi.example/audit"
TRUSTED = [ledger.verifier_key(ORIGIN, KEY.public_key())]
HASHES = [ledger.leaf_hash(bytes([n])) for n in range(60)]
OTHERS = [*HASHES[:10], *(ledger.leaf_hash(bytes([n, n])) for n in range(50))]


def checkpoint(size: int, hashes: list[bytes] = HASHES) -> Checkpoint:
    return Checkpoint(ORIGIN, size, ledger.root(Frontier().extend(hashes[:size])))


def submission(old: int, size: int, hashes: list[bytes] = HASHES) -> Submission:
    proof = ledger.consistency_proof(hashes[:size], old) if 0 < old < size else []
    return Submission(old, proof, sign_checkpoint(KEY, checkpoint(size, hashes)))


@given(st.integers(1, 60), st.integers(1, 60))
def test_a_log_that_grew_is_taken_and_no_shorter_one(known: int, size: int) -> None:
    sent = submission(known, size)

    if size >= known:
        insist_on_growth(checkpoint(known), checkpoint(size), sent)
    else:
        with pytest.raises(LogForked, match="was cut"):
            insist_on_growth(checkpoint(known), checkpoint(size), sent)


@given(st.integers(11, 60), st.integers(11, 60))
def test_another_history_is_never_taken(known: int, size: int) -> None:
    with pytest.raises(LogForked):
        insist_on_growth(
            checkpoint(known), checkpoint(size, OTHERS), submission(known, size, OTHERS)
        )


def test_a_first_checkpoint_is_taken_as_it_is() -> None:
    insist_on_growth(None, checkpoint(7), submission(0, 7))


@pytest.mark.parametrize(("known", "old"), [(None, 3), (5, 0), (5, 4), (5, 6)])
def test_a_proof_from_elsewhere_is_told_where_to_start(known: int | None, old: int) -> None:
    kept = checkpoint(known) if known else None

    with pytest.raises(SizeKnown) as refused:
        insist_on_growth(kept, checkpoint(9), submission(old, 9))

    assert refused.value.size == (known or 0)


@given(st.integers(0, 60), st.integers(1, 60))
def test_what_is_sent_is_what_is_read(old: int, size: int) -> None:
    sent = submission(old, size)
    publication = Publication(
        ORIGIN, size, sent.note, prove=lambda _: sent.proof, confirmed_size=old, at=utc_now()
    )

    assert read_submission(request_body(publication, old)) == sent


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 3",
        b"new 3\n\nnote",
        b"old -3\n\nnote",
        b"old three\n\nnote",
        b"old 3\n!!!\n\nnote",
        b"old 3\n\xff\n\nnote",
        b"old 3\n" + 64 * (base64.b64encode(bytes(32)) + b"\n") + b"\nnote",
    ],
)
def test_another_form_is_refused(body: bytes) -> None:
    with pytest.raises(ContentError):
        read_submission(body)


def test_only_logs_that_are_named_are_witnessed() -> None:
    note = sign_checkpoint(KEY, checkpoint(3))
    stranger = Ed25519PrivateKey.from_private_bytes(bytes(32))

    assert open_note(note, TRUSTED) == checkpoint(3)
    with pytest.raises(NotFound):
        open_note(note, [])
    with pytest.raises(CheckpointInvalid):
        open_note(sign_checkpoint(stranger, checkpoint(3)), TRUSTED)
