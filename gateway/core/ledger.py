"""The Merkle log over the AuditEvents: hashes, proofs and signed checkpoints, without any I/O.

* A leaf is the hash of the stored bytes of one AuditEvent; the tree is that of RFC 9162.
* `Frontier` holds only the roots of the perfect subtrees, so an append costs O(log n).
* A proof is a list of hashes. Whoever verifies one calls a `verify_...` function, and that raises
  when the proof does not hold: a verdict that is not looked at can't pass for a good one.
* A checkpoint commits to the whole log in one signed line and has to leave the machine: without
  an outside copy nobody can tell a log that was cut or rewritten.

Source: RFC 9162 section 2.1 (https://www.rfc-editor.org/rfc/rfc9162#section-2.1); subtrees as in
draft-ietf-plants-merkle-tree-certs section 4; C2SP signed-note and tlog-checkpoint
(https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint).
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.core.errors import ProcessingError

HASH_BYTES = 32
#: Root of a log without leaves (RFC 9162 section 2.1.1).
EMPTY_ROOT = hashlib.sha256(b"").digest()

#: Height of an inner node, the number of leaves up to its end, its hash.
Built = Callable[[int, int, bytes], None]

_ED25519 = b"\x01"
_KEY_ID_BYTES = 4
_SIGNATURE_PREFIX = "\u2014 "
_MAX_SIGNATURES = 100
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


class ProofInvalid(ProcessingError):
    """The proof does not show what it claims: the log, the leaf or the proof was changed."""

    issue_type = "security"


class CheckpointInvalid(ProcessingError):
    """The checkpoint is not well-formed or not signed by the key of this log."""

    issue_type = "security"


def leaf_hash(data: bytes) -> bytes:
    """Hash the stored bytes of one AuditEvent into its leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two neighbouring subtrees into their parent."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of the tree: all that is needed to append and to give the root.

    Attributes:
        size: Number of leaves.
        nodes: Roots of the perfect subtrees, the largest (leftmost) first: one for each
            binary 1 of `size`.
    """

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> "Frontier":
        """Give the frontier after one more leaf hash."""
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes], *, built: Built | None = None) -> "Frontier":
        """Give the frontier after these leaf hashes, in this order.

        Args:
            leaves: The leaf hashes.
            built: Told of every inner node: its height, the number of leaves up to its end, its
                hash.
        """
        size, nodes = self.size, list(self.nodes)
        for leaf in leaves:
            node, height = leaf, 0
            while size >> height & 1:
                node = node_hash(nodes.pop(), node)
                height += 1
                if built is not None:
                    built(height, size + 1, node)
            nodes.append(node)
            size += 1
        return Frontier(size, tuple(nodes))

    def to_hex(self) -> list[str]:
        """Give the nodes as they are stored beside `size`."""
        return [node.hex() for node in self.nodes]

    @classmethod
    def from_hex(cls, size: int, nodes: Sequence[str]) -> Self:
        """Read what `to_hex` gave.

        Raises:
            ProofInvalid: These can't be the nodes of a log of that size.
        """
        try:
            decoded = tuple(bytes.fromhex(node) for node in nodes)
        except ValueError as error:
            raise ProofInvalid("A node of the log's frontier is not hexadecimal.") from error
        is_sized = size >= 0 and len(decoded) == size.bit_count()
        if not is_sized or any(len(node) != HASH_BYTES for node in decoded):
            raise ProofInvalid("The log's frontier does not fit its size.")
        return cls(size, decoded)


def root(frontier: Frontier) -> bytes:
    """Give the Merkle root of everything appended so far."""
    if not frontier.nodes:
        return EMPTY_ROOT
    *rest, node = frontier.nodes
    for left in reversed(rest):
        node = node_hash(left, node)
    return node


def inclusion_ranges(index: int, size: int) -> list[range]:
    """Give the ranges of leaves whose roots prove one leaf, in the order of the proof.

    A store that keeps inner nodes answers a proof from these without reading every leaf.

    Raises:
        ProofInvalid: The log has no such leaf.

    Source: RFC 9162 section 2.1.3.1.
    """
    if not 0 <= index < size:
        raise ProofInvalid("The log has no leaf with this index.")
    low, high, ranges = 0, size, []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            ranges.append(range(middle, high))
            high = middle
        else:
            ranges.append(range(low, middle))
            low = middle
    return ranges[::-1]


def consistency_ranges(size1: int, size2: int) -> list[range]:
    """Give the ranges of leaves whose roots prove that a log only grew, in proof order.

    Raises:
        ProofInvalid: The earlier log is empty or larger than the later one.

    Source: RFC 9162 section 2.1.4.1.
    """
    if not 0 < size1 <= size2:
        raise ProofInvalid("Consistency needs 0 < earlier size <= later size.")
    low, high, ranges = 0, size2, []
    while size1 != high:
        middle = low + _split(high - low)
        if size1 <= middle:
            ranges.append(range(middle, high))
            high = middle
        else:
            ranges.append(range(low, middle))
            low = middle
    if low:
        ranges.append(range(low, high))
    return ranges[::-1]


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Prove that one leaf is in the log of these leaves.

    Raises:
        ProofInvalid: The log has no such leaf.
    """
    return _roots(leaf_hashes, inclusion_ranges(index, len(leaf_hashes)))


def consistency_proof(leaf_hashes: Sequence[bytes], size1: int) -> list[bytes]:
    """Prove that the log of these leaves continues its own first `size1` leaves.

    Raises:
        ProofInvalid: `size1` is 0 or more than there are leaves.
    """
    return _roots(leaf_hashes, consistency_ranges(size1, len(leaf_hashes)))


def verify_inclusion(
    leaf: bytes, index: int, *, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Insist that a leaf hash is at `index` in the log of this size and root.

    Raises:
        ProofInvalid: It is not, as far as this proof can show.

    Source: RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise ProofInvalid("The log has no leaf with this index.")
    _check_lengths((leaf, *proof))
    first, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofInvalid("The inclusion proof is too long.")
        if first & 1 or first == last:
            computed = node_hash(sibling, computed)
            skip = _trailing_zeros(first)
            first, last = first >> skip, last >> skip
        else:
            computed = node_hash(computed, sibling)
        first, last = first >> 1, last >> 1
    if last != 0 or computed != root:
        raise ProofInvalid("The leaf is not in this log at this index.")


def verify_consistency(
    size1: int, size2: int, *, root1: bytes, root2: bytes, proof: Sequence[bytes]
) -> None:
    """Insist that the later log (2) starts with the whole of the earlier one (1).

    An earlier size of 0 is refused: every log continues the empty one, so it would prove nothing.

    Raises:
        ProofInvalid: It does not, as far as this proof can show.

    Source: RFC 9162 section 2.1.4.2.
    """
    if size1 <= 0:
        raise ProofInvalid("Consistency with an empty log proves nothing.")
    verify_subtree_consistency(range(size1), size2, root1=root1, root2=root2, proof=proof)


def verify_subtree_inclusion(
    leaf: bytes, index: int, *, subtree: range, proof: Sequence[bytes], root: bytes
) -> None:
    """Insist that a leaf hash is at `index` of the log, given only the root of a subtree.

    Raises:
        ProofInvalid: It is not, or the range is not a subtree.
    """
    _check_subtree(subtree, subtree.stop)
    inner, size = index - subtree.start, subtree.stop - subtree.start
    verify_inclusion(leaf, inner, size=size, proof=proof, root=root)


def verify_subtree_consistency(
    subtree: range, size: int, *, root1: bytes, root2: bytes, proof: Sequence[bytes]
) -> None:
    """Insist that a subtree with `root1` is part of the log of this size with `root2`.

    Raises:
        ProofInvalid: It is not, or the range is not a subtree of such a log.

    Source: draft-ietf-plants-merkle-tree-certs section 4.4.3; with a subtree that starts at 0 it
    is RFC 9162 section 2.1.4.2.
    """
    _check_subtree(subtree, size)
    _check_lengths(proof)
    if not subtree:
        _insist(not proof and root1 == EMPTY_ROOT)
        return
    first, last, end = _climb(subtree, size)
    siblings = list(proof)
    if first == last:
        left = right = root1
    else:
        _insist(bool(siblings))
        left = right = siblings.pop(0)
    for sibling in siblings:
        _insist(end != 0)
        if last & 1 or last == end:
            left = node_hash(sibling, left) if first < last else left
            right = node_hash(sibling, right)
            skip = _trailing_zeros(last)
            first, last, end = first >> skip, last >> skip, end >> skip
        else:
            right = node_hash(right, sibling)
        first, last, end = first >> 1, last >> 1, end >> 1
    _insist(end == 0 and left == root1 and right == root2)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One commitment to the whole log.

    Attributes:
        origin: Unique name of the log, which is also the name of its key.
        size: Number of leaves.
        root: Merkle root of them.
        extensions: Further lines of the note, opaque here.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()


def checkpoint_text(checkpoint: Checkpoint) -> str:
    """Give the text that is signed.

    Raises:
        CheckpointInvalid: The checkpoint can't be written as a note.
    """
    encoded = base64.b64encode(checkpoint.root).decode()
    lines = (checkpoint.origin, str(checkpoint.size), encoded, *checkpoint.extensions)
    text = "\n".join(lines) + "\n"
    if _read_checkpoint(text) != checkpoint:
        raise CheckpointInvalid("The checkpoint holds what a note can't hold.")
    return text


def sign_checkpoint(private_key: Ed25519PrivateKey, checkpoint: Checkpoint) -> str:
    """Give the signed note that may leave the machine.

    Raises:
        CheckpointInvalid: The checkpoint can't be written as a note.
    """
    return sign_note(private_key, checkpoint.origin, checkpoint_text(checkpoint))


def sign_note(private_key: Ed25519PrivateKey, name: str, text: str) -> str:
    """Sign any text, which ends with a line break, with a key of this name."""
    key_id = _key_id(name, private_key.public_key())
    signature = base64.b64encode(key_id + private_key.sign(text.encode())).decode()
    return f"{text}\n{_SIGNATURE_PREFIX}{name} {signature}\n"


def verify_checkpoint(
    note: str, public_key: Ed25519PublicKey, *, origin: str | None = None
) -> Checkpoint:
    """Read a signed note and insist that this log signed it.

    Signatures by other keys (witnesses) are allowed and not looked at.

    Args:
        note: The signed note.
        public_key: The key of the log.
        origin: Name the log has to have; None accepts the name that the note gives.

    Raises:
        CheckpointInvalid: It is malformed, of another log, or not signed by this key.
    """
    body, separator, tail = note.rpartition("\n\n")
    if not separator or _CONTROL.search(note):
        raise CheckpointInvalid("The checkpoint is not a signed note.")
    text = body + "\n"
    checkpoint = _read_checkpoint(text)
    if origin is not None and checkpoint.origin != origin:
        raise CheckpointInvalid("The checkpoint is of another log.")
    key_id = _key_id(checkpoint.origin, public_key)
    signatures = [
        signature[_KEY_ID_BYTES:]
        for name, signature in _read_signatures(tail)
        if name == checkpoint.origin and signature.startswith(key_id)
    ]
    if not signatures:
        raise CheckpointInvalid("The checkpoint is not signed by the key of this log.")
    for signature in signatures:
        _check_signature(public_key, signature, text)
    return checkpoint


def verifier_key(name: str, public_key: Ed25519PublicKey) -> str:
    """Give the public key as the one line of text that C2SP tools read.

    Raises:
        CheckpointInvalid: The name can't be the name of a key.
    """
    if not _KEY_NAME.fullmatch(name):
        raise CheckpointInvalid("The name of a key has no space, no plus and no control character.")
    encoded = base64.b64encode(_ED25519 + public_key.public_bytes_raw()).decode()
    return f"{name}+{_key_id(name, public_key).hex()}+{encoded}"


def read_verifier_key(text: str) -> tuple[str, Ed25519PublicKey]:
    """Read the name and the key that `verifier_key` wrote.

    Raises:
        CheckpointInvalid: It is not the line of an Ed25519 key.
    """
    name, _, rest = text.strip().partition("+")
    raw = _decode(rest.partition("+")[2])
    if len(raw) != 1 + HASH_BYTES or not raw.startswith(_ED25519):
        raise CheckpointInvalid("This is not the verifier key of an Ed25519 signature.")
    public_key = Ed25519PublicKey.from_public_bytes(raw[1:])
    if verifier_key(name, public_key) != text.strip():
        raise CheckpointInvalid("The verifier key does not fit its own checksum.")
    return name, public_key


def _split(size: int) -> int:
    """Give the largest power of two smaller than a size of at least 2."""
    return 1 << (size - 1).bit_length() - 1


def _trailing_zeros(number: int) -> int:
    """Count how often an even number can be halved; 0 for an odd number and for 0."""
    return (number & -number).bit_length() - 1 if number else 0


def _roots(leaf_hashes: Sequence[bytes], ranges: Sequence[range]) -> list[bytes]:
    return [root(Frontier().extend(leaf_hashes[r.start : r.stop])) for r in ranges]


def _insist(holds: bool) -> None:
    if not holds:
        raise ProofInvalid("The consistency proof does not hold.")


def _check_lengths(hashes: Iterable[bytes]) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise ProofInvalid("A hash of the proof does not have 32 bytes.")


def _check_subtree(subtree: range, size: int) -> None:
    """Insist that a range can be one subtree: its start is a multiple of its rounded-up length."""
    if not 0 <= subtree.start <= subtree.stop <= size or subtree.step != 1:
        raise ProofInvalid("The log has no such range of leaves.")
    width = subtree.stop - subtree.start  # not len(): that fails over 2**63
    if width and subtree.start % (1 << (width - 1).bit_length()):
        raise ProofInvalid("The range of leaves is not one subtree.")


def _climb(subtree: range, size: int) -> tuple[int, int, int]:
    """Go up to the level at which the subtree's last node is not a right child of its own."""
    first, last, end = subtree.start, subtree.stop - 1, size - 1
    while first != last and (last & 1 or last == end):
        first, last, end = first >> 1, last >> 1, end >> 1
    return first, last, end


def _key_id(name: str, public_key: Ed25519PublicKey) -> bytes:
    material = name.encode() + b"\n" + _ED25519 + public_key.public_bytes_raw()
    return hashlib.sha256(material).digest()[:_KEY_ID_BYTES]


def _check_signature(public_key: Ed25519PublicKey, signature: bytes, text: str) -> None:
    try:
        public_key.verify(signature, text.encode())
    except InvalidSignature as error:
        raise CheckpointInvalid("The signature of the checkpoint is false.") from error


def _read_signatures(tail: str) -> list[tuple[str, bytes]]:
    lines = tail.split("\n")
    if lines.pop() != "" or not 0 < len(lines) <= _MAX_SIGNATURES:
        _refuse_signature()
    signatures = []
    for line in lines:
        name, _, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
        if not line.startswith(_SIGNATURE_PREFIX) or not _KEY_NAME.fullmatch(name):
            _refuse_signature()
        signature = _decode(encoded)
        if len(signature) <= _KEY_ID_BYTES:
            _refuse_signature()
        signatures.append((name, signature))
    return signatures


def _refuse_signature() -> NoReturn:
    raise CheckpointInvalid("A signature line of the checkpoint is malformed.")


def _read_checkpoint(text: str) -> Checkpoint:
    lines = text.split("\n")
    if lines.pop() != "" or len(lines) < 3 or "" in lines or _CONTROL.search(text):  # noqa: PLR2004
        raise CheckpointInvalid("The text is not a checkpoint.")
    origin, size, encoded, *extensions = lines
    if not _KEY_NAME.fullmatch(origin) or not _SIZE.fullmatch(size):
        raise CheckpointInvalid("The origin or the size of the checkpoint is malformed.")
    decoded = _decode(encoded)
    if len(decoded) != HASH_BYTES:
        raise CheckpointInvalid("The root of the checkpoint does not have 32 bytes.")
    return Checkpoint(origin, int(size), decoded, tuple(extensions))


def _decode(encoded: str) -> bytes:
    """Decode base64, refusing every spelling but the canonical one."""
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CheckpointInvalid("The checkpoint holds malformed base64.") from error
    if base64.b64encode(decoded).decode() != encoded:
        raise CheckpointInvalid("The checkpoint holds base64 that is not canonical.")
    return decoded
