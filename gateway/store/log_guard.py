"""Never sign a second history: before it signs again, a process asks what was signed before.

The checkpoint file lies outside the database. Where a database was put back from a backup, or was
changed, it holds a checkpoint that the log no longer continues; signing on would make two different
checkpoints of one size, both with our name on it.
"""

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.core.ledger import CheckpointInvalid, ProofInvalid, verify_checkpoint

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_MEND = (
    "Nothing more is signed, and new AuditEvents wait. Put the newest database back. If this one "
    "has to be used, write down why, and move audit/checkpoints.log away."
)


def contradiction(
    uow: "UnitOfWork", notes: list[str], key: Ed25519PublicKey, origin: str
) -> str | None:
    """Say how the log contradicts what was signed before; None when it continues it.

    Args:
        uow: A unit of work.
        notes: Those of the checkpoint file, oldest first.
        key: The public key of the log.
        origin: Its name.
    """
    for note in reversed(notes):
        try:
            signed = verify_checkpoint(note, key, origin=origin)
        except CheckpointInvalid:
            continue
        newest = uow.audit_proofs.newest()
        size = newest[0] if newest else 0
        if signed.size > size:
            what = f"A checkpoint of {signed.size} entries was signed; the log has {size}."
            return f"{what} {_MEND}"
        if not _has_root(uow, signed.size, signed.root):
            what = f"Its first {signed.size} entries are not those that were signed."
            return f"{what} {_MEND}"
        return None
    return None


def _has_root(uow: "UnitOfWork", size: int, root: bytes) -> bool:
    try:
        return uow.audit_proofs.root(size) == root
    except ProofInvalid:
        return False
