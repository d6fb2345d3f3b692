"""The rule of a witness: of each log one history, which only grows.

A new checkpoint is kept when it continues the newest one that is kept. Once a witness has signed
for one history it takes no other, whoever signs that.

Source: C2SP tlog-witness (https://c2sp.org/tlog-witness).
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.errors import ContentError, NotFound, ProcessingError
from gateway.core.ledger import (
    Checkpoint,
    CheckpointInvalid,
    ProofInvalid,
    read_verifier_key,
    verify_checkpoint,
    verify_consistency,
)

_MOST_HASHES = 63


class SizeKnown(ProcessingError):
    """The proof starts from another size than the one kept here: prove from `size`."""

    issue_type = "conflict"

    def __init__(self, size: int) -> None:
        super().__init__(f"The newest checkpoint here is of {size} entries; prove from there.")
        self.size = size


class LogForked(ProcessingError):
    """The checkpoint does not continue the one kept here: the log was rewritten, cut or forked."""

    issue_type = "business-rule"


@dataclass(frozen=True)
class Submission:
    """What somebody wants to have witnessed.

    Attributes:
        old_size: The size that the proof starts from; 0 with an empty proof for a first one.
        note: The signed note.
    """

    old_size: int
    proof: Sequence[bytes]
    note: str


def read_submission(body: bytes) -> Submission:
    """Read the body of a request.

    Raises:
        ContentError: It is not of the form `old N`, proof, empty line, note.
    """
    try:
        head, separator, note = body.decode().partition("\n\n")
        first, *lines = head.split("\n")
        word, _, size = first.partition(" ")
        if word != "old" or not size.isdecimal() or not separator or len(lines) > _MOST_HASHES:
            raise ContentError(_FORM)
        proof = [base64.b64decode(line, validate=True) for line in lines]
        return Submission(int(size), proof, note)
    except (UnicodeDecodeError, binascii.Error, ValueError) as error:
        raise ContentError(_FORM) from error


def open_note(note: str, trusted: Sequence[str]) -> Checkpoint:
    """Insist that a log which is witnessed here signed a note.

    Args:
        note: The signed note.
        trusted: Verifier keys of these logs.

    Raises:
        NotFound: None of these logs has this origin.
        CheckpointInvalid: It is malformed, or not signed by the key of its log.
    """
    keys = dict(read_verifier_key(line) for line in trusted)
    origin = note.partition("\n")[0]
    if origin not in keys:
        raise NotFound("This gateway is no witness of this log: witness_for does not name its key.")
    return verify_checkpoint(note, keys[origin], origin=origin)


def insist_on_growth(known: Checkpoint | None, new: Checkpoint, submission: Submission) -> None:
    """Insist that a checkpoint continues the one that is kept.

    Raises:
        SizeKnown: The proof is from another size; once more, from that one.
        LogForked: It does not continue it.
    """
    size = known.size if known else 0
    if submission.old_size != size:
        raise SizeKnown(size)
    if known is None:
        return
    if new.size < size:
        raise LogForked(f"{new.size} entries, but {size} were witnessed: the log was cut.")
    if new.size == size:
        if new.root != known.root:
            raise LogForked(f"Another checkpoint of {size} entries was witnessed.")
        return
    proof = submission.proof
    try:
        verify_consistency(size, new.size, root1=known.root, root2=new.root, proof=proof)
    except ProofInvalid as error:
        message = f"It does not continue the {size} entries that were witnessed."
        raise LogForked(message) from error


_FORM = "Send `old N`, the proof in base64, one hash a line, an empty line and the signed note."

__all__ = [
    "CheckpointInvalid",
    "LogForked",
    "SizeKnown",
    "Submission",
    "insist_on_growth",
    "open_note",
    "read_submission",
]
