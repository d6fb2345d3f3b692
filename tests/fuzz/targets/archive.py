"""Archives of model packages: what is taken is byte for byte what `write` would write."""

import io

from models import archive
from models.refusals import PackageRefused
from tests.fuzz.target import Target, as_file

_FILES = {"manifest.toml": b"name = 1\n", "model.onnx": bytes(range(64)), "empty.txt": b""}


def run(data: bytes) -> None:
    """Open an archive and read all of it."""
    with archive.opened(as_file(data)) as opened:
        found = [(name, opened.read(name)) for name in opened.sizes]
    again = io.BytesIO()
    archive.write(again, found)
    assert again.getvalue() == data


def seeds() -> list[bytes]:
    """Give archives of several files and of one."""
    return [_written(_FILES), _written({"a": b"1"})]


def _written(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    archive.write(target, files.items())
    return target.getvalue()


TARGET = Target(run, seeds, (PackageRefused,), longest=8192)
