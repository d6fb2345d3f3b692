"""Verify a receipt or an export of a Nadi audit log, offline: it is in the log, which only grew.

Stands alone: it needs Python 3.9 or newer and the package `cryptography`, nothing of Nadi.

    python verify_receipt.py receipt.json --key audit.pub --checkpoint earlier.txt

* `--key` is the log's public key as it was handed over when the log began. Without it the key
  that the receipt brings is used, which says nothing about who made the receipt.
* Of an export, the signed note `FILE.note` has to lie beside FILE; the proofs in an export of the
  format ndjson are verified too.
* `--checkpoint` is a file with a checkpoint that left the hospital earlier; the log then has to
  continue it. Of several in one file, as a witness keeps them, the newest that the receipt leads on
  from is used. May be given several times.

Ends with 0 when everything holds, 1 when something does not, 2 for wrong usage.

Source: RFC 9162 sections 2.1.3.2 and 2.1.4.2; C2SP signed-note and tlog-checkpoint.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any, Optional

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "nadi-audit-receipt-1"
EXPORT = "nadi-audit-export-1"
_ED25519 = b"\x01"
_KEY_ID_BYTES = 4
_HASH_BYTES = 32
# What looks like a signed checkpoint.
_NOTE = re.compile(r"[^\n]+\n[0-9]+\n[^\n]+\n(?:[^\n]+\n)*?\n(?:\u2014 [^\n]+\n)+")


class DoesNotHold(Exception):
    """The receipt, the key or a checkpoint does not show what it claims."""


def leaf_hash(event: bytes) -> bytes:
    """Hash an event into its leaf."""
    return hashlib.sha256(b"\x00" + event).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into their parent."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def read_key(line: str) -> tuple[str, bytes, Ed25519PublicKey]:
    """Read a verifier key; give its name, its id and the key itself."""
    name, _, rest = line.strip().partition("+")
    raw = base64.b64decode(rest.partition("+")[2], validate=True)
    if len(raw) != 1 + _HASH_BYTES or raw[:1] != _ED25519:
        raise DoesNotHold("The verifier key is not that of an Ed25519 signature.")
    key_id = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:_KEY_ID_BYTES]
    if line.strip() != f"{name}+{key_id.hex()}+{base64.b64encode(raw).decode()}":
        raise DoesNotHold("The verifier key does not fit its own checksum.")
    return name, key_id, Ed25519PublicKey.from_public_bytes(raw[1:])


def open_checkpoint(note: str, verifier_key: str) -> tuple[int, bytes]:
    """Insist that the log signed this note; give the size and the root it commits to."""
    name = read_key(verifier_key)[0]
    lines = open_note(note, verifier_key)
    if len(lines) < 3 or lines[0] != name or not lines[1].isdigit():  # noqa: PLR2004
        raise DoesNotHold("A checkpoint is not one of this log.")
    return int(lines[1]), base64.b64decode(lines[2], validate=True)


def open_note(note: str, verifier_key: str) -> list[str]:
    """Insist that the key of the log signed this note; give the lines of its text."""
    name, key_id, public_key = read_key(verifier_key)
    body, _, tail = note.replace("\r\n", "\n").strip("\n").rpartition("\n\n")
    for line in tail.split("\n"):
        dash, _, rest = line.partition(" ")
        signer, _, encoded = rest.partition(" ")
        signature = base64.b64decode(encoded, validate=True)
        if dash == "\u2014" and signer == name and signature.startswith(key_id):
            public_key.verify(signature[_KEY_ID_BYTES:], (body + "\n").encode())
            return body.split("\n")
    raise DoesNotHold("A checkpoint or note is not signed by the key of this log.")


def check_inclusion(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> None:
    """Insist that a leaf is in the log of this size and root (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        raise DoesNotHold("The checkpoint does not cover the event.")
    first, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise DoesNotHold("The proof of an event is too long.")
        if first & 1 or first == last:
            computed = node_hash(sibling, computed)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        first, last = first >> 1, last >> 1
    if last != 0 or computed != root:
        raise DoesNotHold("The event is not in the log that the checkpoint commits to.")


def check_consistency(
    size1: int, size2: int, proof: list[bytes], root1: bytes, root2: bytes
) -> None:
    """Insist that the later log continues the earlier one (RFC 9162 section 2.1.4.2)."""
    if size1 == size2 and not proof:
        _insist(root1 == root2)
        return
    _insist(0 < size1 < size2 and bool(proof))
    path = [root1, *proof] if size1 & (size1 - 1) == 0 else list(proof)
    first, last = size1 - 1, size2 - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    left = right = path[0]
    for sibling in path[1:]:
        _insist(last != 0)
        if first & 1 or first == last:
            left, right = node_hash(sibling, left), node_hash(sibling, right)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            right = node_hash(right, sibling)
        first, last = first >> 1, last >> 1
    _insist(last == 0 and left == root1 and right == root2)


def _insist(holds: bool) -> None:
    if not holds:
        raise DoesNotHold("The log does not continue the earlier checkpoint: it was rewritten.")


def verify(
    receipt: dict[str, Any], verifier_key: str, checkpoints: list[str]
) -> tuple[int, list[dict[str, Any]]]:
    """Verify a receipt; give the size of the log and the events that are proven."""
    if receipt.get("format") != FORMAT:
        raise DoesNotHold(f"This is no receipt of the form {FORMAT}.")
    size, root = open_checkpoint(receipt["checkpoint"], verifier_key)
    if not receipt["events"]:
        raise DoesNotHold("The receipt proves no event.")
    for each in receipt["events"]:
        leaf, index = leaf_hash(each["event"].encode()), each["leaf_index"]
        check_inclusion(leaf, index, size, _hashes(each["inclusion_proof"]), root)
    for note in checkpoints:
        earlier = open_checkpoint(note, verifier_key)
        check_consistency(earlier[0], size, _way_from(earlier[0], size, receipt), earlier[1], root)
    return size, [json.loads(each["event"]) for each in receipt["events"]]


def newest_that_fits(text: str, verifier_key: str, receipt: dict[str, Any]) -> list[str]:
    """Find the newest checkpoint in a file that the receipt leads on from.

    Two of one size are both given: only one of them can hold.
    """
    name = read_key(verifier_key)[0]
    plain = text.replace("\r\n", "\n").rstrip("\n") + "\n"
    notes = [note for note in _NOTE.findall(plain) if note.partition("\n")[0] == name]
    if len(notes) < 2:  # noqa: PLR2004
        return notes or [text]
    sizes = {note: open_checkpoint(note, verifier_key)[0] for note in notes}
    size = open_checkpoint(receipt["checkpoint"], verifier_key)[0]
    led_on = {int(each["checkpoint"].split("\n")[1]) for each in receipt.get("earlier", ())}
    smallest = min(sizes.values())
    known = [each for each in sizes.values() if each == size or each in led_on]
    not_newer = [each for each in sizes.values() if each <= size]
    best = max(known, default=max(not_newer, default=smallest))
    return [note for note, each in sizes.items() if each == best]


def verify_export(path: Path, verifier_key: str) -> int:
    """Verify an export against the signed note beside it; give the number of its events."""
    note = path.with_name(path.name + ".note").read_text("utf-8")
    kind, count, digest = open_note(note, verifier_key)[:3]
    if kind != EXPORT:
        raise DoesNotHold("The note beside the file is not that of an export.")
    proven = 0
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        head = file.readline()
        hashed.update(head)
        is_proven = EXPORT.encode() in head
        size, root = 0, b""
        if is_proven:
            size, root = open_checkpoint(json.loads(head)["checkpoint"], verifier_key)
        for line in file:
            hashed.update(line)
            if is_proven:
                each = json.loads(line)
                leaf, proof = leaf_hash(each["event"].encode()), _hashes(each["inclusion_proof"])
                check_inclusion(leaf, each["leaf_index"], size, proof, root)
                proven += 1
    if hashed.hexdigest() != digest or (is_proven and proven != int(count)):
        raise DoesNotHold("The file is not the one that was exported.")
    return int(count)


def _way_from(earlier: int, size: int, receipt: dict[str, Any]) -> list[bytes]:
    if earlier == size:
        return []
    for each in receipt.get("earlier", ()):
        if each["checkpoint"].split("\n")[1] == str(earlier):
            return _hashes(each["consistency_proof"])
    raise DoesNotHold(
        f"The receipt has no proof from size {earlier} to {size}. Ask for one with: "
        "nadi audit prove EVENT --from CHECKPOINT"
    )


def _hashes(values: list[str]) -> list[bytes]:
    hashes = [bytes.fromhex(value) for value in values]
    if any(len(value) != _HASH_BYTES for value in hashes):
        raise DoesNotHold("A hash of a proof does not have 32 bytes.")
    return hashes


def _told(event: dict[str, Any]) -> str:
    outcome = {"0": "done", "4": "refused", "8": "refused"}.get(event.get("outcome", ""), "failed")
    codes = [each["code"] for each in event.get("subtype", ())]
    what = codes[-1] if codes else ""
    return f"{event.get('recorded')}  {what}  {outcome}  {event.get('outcomeDesc', '')}".rstrip()


def _tell_export(path: Path, key: Optional[Path]) -> int:  # noqa: UP045 - for Python 3.9
    if key is None:
        print("Name the public key of the log with --key.", file=sys.stderr)
        return 2
    print(f"HOLDS: an export of {verify_export(path, key.read_text('utf-8'))} event(s).")
    return 0


def _sizes(notes: list[str]) -> str:
    """Say which checkpoints were used; they were opened before."""
    return ", ".join(f"the one of {note.strip().splitlines()[1]} entries" for note in notes)


def main() -> int:
    """Read the files named on the command line and say whether they hold."""
    parser = argparse.ArgumentParser(description="Verify a receipt or an export, offline.")
    parser.add_argument("receipt", type=Path)
    parser.add_argument("--key", type=Path, help="public key of the log (audit.pub)")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[])
    given = parser.parse_args()
    try:
        if given.receipt.with_name(given.receipt.name + ".note").exists():
            return _tell_export(given.receipt, given.key)
        receipt = json.loads(given.receipt.read_text("utf-8"))
        key = given.key.read_text("utf-8") if given.key else receipt["verifier_key"]
        texts = [path.read_text("utf-8", errors="replace") for path in given.checkpoint]
        notes = [note for text in texts for note in newest_that_fits(text, key, receipt)]
        size, events = verify(receipt, key, notes)
    except OSError as error:
        print(f"{error.filename} can't be read: {error.strerror}.", file=sys.stderr)
        return 2
    except DoesNotHold as error:
        print(f"DOES NOT HOLD: {error}")
        return 1
    except InvalidSignature:
        print("DOES NOT HOLD: The signature of a checkpoint is false.")
        return 1
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        print("DOES NOT HOLD: A file is not what it should be.")
        return 1
    for event in events:
        print(_told(event))
    earlier = f", which continues {len(notes)} earlier checkpoint(s): {_sizes(notes)}"
    earlier = earlier if notes else ""
    print(f"HOLDS: {len(events)} event(s) in a log of {size}{earlier}.")
    if not given.key:
        print("The key came with the receipt. Name the one you were given with --key.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
