"""The parts of a model package that are read before anything in it is trusted."""

from models.checksums import read_sums
from models.refusals import PackageRefused
from models.signature import KeyUnusable, public_key, read_signature, sign
from tests.fuzz.target import Target
from tests.packages import KEY, PUBLIC_KEY

_DIGEST = "0" * 64


def run(data: bytes) -> None:
    """Read checksums, a signature and a key; the first byte says which."""
    kind, content = data[:1], data[1:]
    if kind == b"s":
        read_signature(content).insist_on(_DIGEST)
    elif kind == b"k":
        public_key(content.decode("ascii"))
    else:
        read_sums(content.decode("ascii"))


def seeds() -> list[bytes]:
    """Give one of each."""
    sums = f"{_DIGEST}  manifest.toml\n{_DIGEST}  model.onnx\n"
    return [b"s" + sign(_DIGEST, KEY).to_bytes(), b"k" + PUBLIC_KEY.encode(), b"c" + sums.encode()]


# Whoever calls these decodes first, and turns ValueError into its own refusal.
TARGET = Target(run, seeds, (PackageRefused, KeyUnusable, ValueError), longest=2048)
