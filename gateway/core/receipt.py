"""A receipt: AuditEvents with the proof that they are in the log, for somebody outside.

It is one JSON file and needs nothing of Nadi to be verified: `gateway/cli/verify_receipt.py` is a
program of its own that does it. The events stand in it as text, since their UTF-8 bytes are the
leaves; everything else is hexadecimal or a signed note.

Source: RFC 9162 section 2.1.3, 2.1.4; C2SP tlog-checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass

FORMAT = "nadi-audit-receipt-1"


@dataclass(frozen=True)
class ProvenEvent:
    """One AuditEvent and what proves it.

    Attributes:
        body: Its stored bytes, canonical JSON.
        leaf_index: Its place in the log.
        proof: Sibling hashes, lowest first.
    """

    body: bytes
    leaf_index: int
    proof: Sequence[bytes]


@dataclass(frozen=True)
class Continuation:
    """An earlier checkpoint and what proves that the log continued it.

    Attributes:
        note: The earlier signed note.
        proof: Consistency proof from it to the receipt's checkpoint.
    """

    note: str
    proof: Sequence[bytes]


def receipt(
    events: Sequence[ProvenEvent],
    *,
    checkpoint: str,
    verifier_key: str,
    earlier: Sequence[Continuation] = (),
) -> dict[str, object]:
    """Give a receipt as JSON.

    Args:
        events: What is proven.
        checkpoint: Signed note that all proofs lead to.
        verifier_key: Name and public key of the log.
        earlier: Checkpoints that left the machine before.
    """
    return {
        "format": FORMAT,
        "verifier_key": verifier_key,
        "checkpoint": checkpoint,
        "events": [
            {
                "leaf_index": event.leaf_index,
                "inclusion_proof": [node.hex() for node in event.proof],
                "event": event.body.decode(),
            }
            for event in events
        ],
        "earlier": [
            {"checkpoint": each.note, "consistency_proof": [node.hex() for node in each.proof]}
            for each in earlier
        ],
    }
