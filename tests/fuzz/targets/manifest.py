"""Manifests of models."""

from models.manifest import ManifestError, parse
from tests.fuzz.target import Target
from tests.packages import files
from tests.toy_documents import image_manifest, text_manifest


def run(data: bytes) -> None:
    """Read a manifest."""
    parse(data.decode())


def seeds() -> list[bytes]:
    """Give manifests of numbers, of images and of notes."""
    return [files()["manifest.toml"], image_manifest().encode(), text_manifest().encode()]


TARGET = Target(run, seeds, (ManifestError, UnicodeDecodeError))
