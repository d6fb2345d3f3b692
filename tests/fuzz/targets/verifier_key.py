"""The one line that a site file names another log's key by."""

from gateway.core.ledger import CheckpointInvalid, read_verifier_key, verifier_key
from tests.fuzz.target import Target
from tests.fuzz.targets.checkpoint import _VERIFIER


def run(data: bytes) -> None:
    """Read a key; written again it is the same line."""
    line = data.decode()
    name, key = read_verifier_key(line)
    assert verifier_key(name, key) == line.strip()


def seeds() -> list[bytes]:
    """Give a key."""
    return [_VERIFIER.encode()]


TARGET = Target(run, seeds, (CheckpointInvalid, UnicodeDecodeError), longest=512)
