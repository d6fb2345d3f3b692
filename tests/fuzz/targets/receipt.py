"""The program that verifies receipts: it holds or it does not, and the program says so."""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from gateway.cli import verify_receipt
from gateway.core.ledger import Checkpoint, leaf_hash, sign_checkpoint
from gateway.core.receipt import ProvenEvent, receipt
from tests.fuzz.target import Target, as_file
from tests.fuzz.targets.checkpoint import _KEY, _ORIGIN, _VERIFIER

_EVENT = b'{"recorded":"2026-11-26T10:00:00Z","resourceType":"AuditEvent","subtype":[{"code":"x"}]}'


def run(data: bytes) -> None:
    """Verify a receipt as somebody outside does."""
    with _told(as_file(data)):
        assert verify_receipt.main() in {0, 1}


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    told, sys.argv = sys.argv, ["verify_receipt.py", str(path)]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.argv = told


def seeds() -> list[bytes]:
    """Give a receipt that holds."""
    note = sign_checkpoint(_KEY, Checkpoint(_ORIGIN, 1, leaf_hash(_EVENT)))
    proven = receipt([ProvenEvent(_EVENT, 0, [])], checkpoint=note, verifier_key=_VERIFIER)
    return [json.dumps(proven).encode()]


TARGET = Target(run, seeds, (SystemExit,), longest=8192)
