"""Signed notes and what somebody submits to a witness."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.errors import GatewayError
from gateway.core.ledger import Checkpoint, sign_checkpoint, verifier_key
from gateway.core.witnessing import insist_on_growth, open_note, read_submission
from tests.fuzz.target import Target

_KEY = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
_ORIGIN = "nadi.test/log"
_VERIFIER = verifier_key(_ORIGIN, _KEY.public_key())


def _note(size: int) -> str:
    return sign_checkpoint(_KEY, Checkpoint(_ORIGIN, size, b"r" * 32))


def run(data: bytes) -> None:
    """Read a submission and its note, first as the verifier key of a log too."""
    submission = read_submission(data)
    new = open_note(submission.note, [_VERIFIER])
    assert submission.note.endswith(_note(new.size).rpartition("\n\n")[2])
    insist_on_growth(None, new, submission)


def seeds() -> list[bytes]:
    """Give submissions with and without a proof."""
    proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
    return [f"old {old}\n{lines}\n{_note(5)}".encode() for old, lines in ((0, ""), (3, proof))]


TARGET = Target(run, seeds, (GatewayError,), longest=8192)
