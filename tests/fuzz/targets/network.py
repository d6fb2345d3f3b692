"""ONNX networks of a package, looked at before a runtime sees them."""

from models.manifest import parse
from models.network_check import check_onnx
from models.refusals import PackageRefused
from tests.fuzz.target import Target
from tests.networks import dense
from tests.odd_networks import external_networks
from tests.packages import files

_FILES = files()
_MANIFEST = parse(_FILES["manifest.toml"].decode())


def run(data: bytes) -> None:
    """Check a network."""
    check_onnx(data, "model.onnx", _MANIFEST, ())


def seeds() -> list[bytes]:
    """Give a network that fits, one that does not, and those that point outside."""
    outside = external_networks().values()
    return [_FILES["model.onnx"], dense(), *outside]


TARGET = Target(run, seeds, (PackageRefused,))
