"""Which models are installed, found by looking: one folder each, with a `manifest.toml`.

The digest of a model is what its Device, its Provenance and its jobs are known by: see
`models.checksums`. It covers every file that the manifest names, so who changes a threshold, a
unit, a weight or a word of the card changes the digest. Nothing here loads an inference runtime.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from models.checksums import digest_of, sha256, sha256_of
from models.golden import GoldenUnusable, encode, read_golden
from models.manifest import MANIFEST_FILE, Manifest, ManifestError, parse
from models.tensors import FloatArray, Tensors
from models.versions import precedence

__all__ = [
    "REFERENCE_MODELS",
    "InstalledModel",
    "ModelUnusable",
    "WeightsAltered",
    "installed_in",
    "load",
    "load_installed",
    "sha256",
]

REFERENCE_MODELS = Path(__file__).parent / "reference"
"""The models that come with Nadi."""


class ModelUnusable(RuntimeError):
    """An installed model can't be used: a file is missing, altered, or behaves differently."""


class WeightsAltered(ModelUnusable):
    """A file of the model is not the one its manifest was written for."""


class ModelFileMissing(ModelUnusable):
    """A file of the model is not there: it was taken away, or has not come yet."""


@dataclass(frozen=True)
class InstalledModel:
    """A model on disk.

    Attributes:
        manifest: What it needs and gives.
        folder: Where its files are.
        sums: SHA-256 of each of its files, by name.
    """

    manifest: Manifest
    folder: Path
    sums: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """What it is known by: SHA-256 over the checksums of its files, lower-case hex."""
        return digest_of(self.sums)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.manifest.name

    @property
    def reference(self) -> str:
        """Name and version, as a person writes it: `ckd-risk@1.0.0`."""
        return f"{self.manifest.name}@{self.manifest.version}"

    def weights(self) -> bytes:
        """The weights, checked against the manifest.

        Raises:
            WeightsAltered: They are not the ones the manifest names.
            ModelUnusable: The file is missing.
        """
        return _checked(self.folder / self.manifest.weights.file, self.manifest.weights.sha256)

    def weights_file(self) -> Path:
        """The file of the weights, checked likewise and piece by piece.

        Raises:
            WeightsAltered: They are not the ones the manifest names.
            ModelUnusable: The file is missing.
        """
        return _same(self.folder / self.manifest.weights.file, self.manifest.weights.sha256)

    def reference_file(self) -> Path | None:
        """The file of the fp32 twin, checked likewise; None when none is shipped.

        Raises:
            WeightsAltered: It is not the one the manifest names.
            ModelUnusable: The file is missing.
        """
        twin = self.manifest.weights.reference
        return None if twin is None else _same(self.folder / twin.file, twin.sha256)

    def reference_weights(self) -> bytes | None:
        """The fp32 twin, checked likewise; None when none is shipped.

        Raises:
            WeightsAltered: They are not the ones the manifest names.
            ModelUnusable: The file is missing.
        """
        file = self.reference_file()
        return None if file is None else _read(file)

    def tokenizer(self) -> bytes | None:
        """The tokenizer of a model of texts, checked likewise; None for any other model.

        Raises:
            WeightsAltered: It is not the one the manifest names.
            ModelUnusable: The file is missing.
        """
        text = self.manifest.text
        if text is None:
            return None
        return _checked(self.folder / text.tokenizer, text.tokenizer_sha256)

    def insist_on_files(self) -> None:
        """Insist that the files are those that the manifest was written for.

        Raises:
            WeightsAltered: One is not.
            ModelUnusable: One is missing.
        """
        self.weights()
        self.reference_weights()
        self.tokenizer()

    def golden_cases(self) -> tuple[Tensors, FloatArray]:
        """A batch of inputs, NaN where a number is missing, and the answers of shape (n, m).

        Raises:
            ModelUnusable: The file is missing, or does not fit the manifest.
        """
        file = self.folder / self.manifest.golden
        try:
            cases = read_golden(_read(file), self.manifest)
            return encode(cases, self.manifest, self.tokenizer())
        except GoldenUnusable as error:
            raise ModelUnusable(f"{file}: {error}") from error


def load(folder: Path) -> InstalledModel:
    """The model in one folder; its weights are digested, not loaded.

    Raises:
        ManifestError: The manifest is wrong.
        ModelUnusable: A file is missing.
    """
    text = _read(folder / MANIFEST_FILE)
    manifest = _parsed(text, str(folder / MANIFEST_FILE))
    sums = {name: _sum(folder / name) for name in manifest.files}
    # What was parsed is what is known: the file may have been replaced since.
    return InstalledModel(manifest, folder, {**sums, MANIFEST_FILE: sha256(text)})


def installed_in(root: Path) -> tuple[InstalledModel, ...]:
    """Every model in the folders below `root`, by name, the oldest version first.

    Raises:
        ManifestError: A manifest is wrong.
        ModelUnusable: A file is missing.
    """
    found = [load(path.parent) for path in root.glob(f"*/{MANIFEST_FILE}")]
    return tuple(sorted(found, key=_order))


def load_installed(root: Path = REFERENCE_MODELS) -> dict[str, InstalledModel]:
    """The newest version of every model in the folders below `root`, by name.

    Raises:
        ManifestError: A manifest is wrong.
        ModelUnusable: A file is missing.
    """
    return {model.name: model for model in installed_in(root)}


def _order(model: InstalledModel) -> tuple[str, tuple[int, ...], str]:
    return model.name, precedence(model.manifest.version), model.digest


def _parsed(text: bytes, file: str) -> Manifest:
    try:
        return parse(text.decode("utf-8"), file=file)
    except UnicodeDecodeError as error:
        raise ManifestError(file, ("not UTF-8 text",)) from error


def _sum(path: Path) -> str:
    try:
        return sha256_of(path)
    except FileNotFoundError as error:
        raise ModelFileMissing(f"{path} can't be read") from error
    except OSError as error:
        raise ModelUnusable(f"{path} can't be read") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileMissing(f"{path} can't be read") from error
    except OSError as error:
        raise ModelUnusable(f"{path} can't be read") from error


def _same(path: Path, expected: str) -> Path:
    if _sum(path) != expected:
        raise WeightsAltered(f"{path} is not the file its manifest was written for")
    return path


def _checked(path: Path, expected: str) -> bytes:
    content = _read(path)
    if sha256(content) != expected:
        raise WeightsAltered(f"{path} is not the file its manifest was written for")
    return content
