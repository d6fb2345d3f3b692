"""Which models are installed, found by looking: one folder each, with a `manifest.toml`.

The digest of a model is what its Device, its Provenance and its jobs are known by. It is the
SHA-256 of these two lines, in this order, so that anyone can recompute it in the model's folder:

    sha256sum manifest.toml model.onnx | sha256sum

Who changes a threshold, a unit or a weight changes the digest. Nothing here loads an inference
runtime, so the gateway's API process can list models.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.manifest import MANIFEST_FILE, Manifest, parse
from models.tensors import FloatArray, Tensors

REFERENCE_MODELS = Path(__file__).parent / "reference"
"""The models that come with Nadi."""


class ModelUnusable(RuntimeError):
    """An installed model can't be used: a file is missing, altered, or behaves differently."""


class WeightsAltered(ModelUnusable):
    """A file of the model is not the one its manifest was written for."""


class GoldenCase(BaseModel):
    """An input whose answer is known.

    Attributes:
        id: Short name.
        note: What it shows.
        inputs: Input id → value in the manifest's unit; None where it is missing.
        expected: What the model answers, one number per output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    note: str
    inputs: dict[str, float | None]
    expected: tuple[float, ...]


class GoldenCases(BaseModel):
    """The golden cases of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: Annotated[tuple[GoldenCase, ...], Field(min_length=1)]


@dataclass(frozen=True)
class InstalledModel:
    """A model on disk.

    Attributes:
        manifest: What it needs and gives.
        folder: Where its files are.
        digest: SHA-256 over manifest and weights, lower-case hex.
    """

    manifest: Manifest
    folder: Path
    digest: str

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

    def reference_weights(self) -> bytes | None:
        """The fp32 twin, checked likewise; None when none is shipped.

        Raises:
            WeightsAltered: They are not the ones the manifest names.
            ModelUnusable: The file is missing.
        """
        twin = self.manifest.weights.reference
        return None if twin is None else _checked(self.folder / twin.file, twin.sha256)

    def golden_cases(self) -> tuple[Tensors, FloatArray]:
        """A batch of inputs, NaN where a number is missing, and the answers of shape (n, m).

        Raises:
            ModelUnusable: The file is missing, or does not fit the manifest.
        """
        cases = _golden(self.folder / self.manifest.golden)
        ids = {each.id for each in self.manifest.inputs}
        for case in cases:
            if case.inputs.keys() != ids or len(case.expected) != self.manifest.output_width:
                raise ModelUnusable(f"golden case {case.id} doesn't fit the manifest")
        rows = [[case.inputs[each.id] for each in self.manifest.inputs] for case in cases]
        name = self.manifest.weights.input_name or ""
        return (
            {name: np.asarray(rows, dtype=np.float32)},
            np.asarray([case.expected for case in cases], dtype=np.float32),
        )


def load(folder: Path) -> InstalledModel:
    """The model in one folder; its weights are digested, not loaded.

    Raises:
        ManifestError: The manifest is wrong.
        ModelUnusable: A file is missing.
    """
    text = _read(folder / MANIFEST_FILE)
    manifest = parse(text.decode("utf-8"), file=str(folder / MANIFEST_FILE))
    weights = _read(folder / manifest.weights.file)
    return InstalledModel(
        manifest, folder, _digest({MANIFEST_FILE: text, manifest.weights.file: weights})
    )


def load_installed(root: Path = REFERENCE_MODELS) -> dict[str, InstalledModel]:
    """Every model in the folders below `root`, by name.

    Raises:
        ManifestError: A manifest is wrong.
        ModelUnusable: A file is missing, or two folders hold models of the same name.
    """
    installed: dict[str, InstalledModel] = {}
    for path in sorted(root.glob(f"*/{MANIFEST_FILE}")):
        model = load(path.parent)
        if model.name in installed:
            raise ModelUnusable(f"model {model.name} is installed twice below {root}")
        installed[model.name] = model
    return installed


def sha256(content: bytes) -> str:
    """SHA-256 in lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def _digest(files: dict[str, bytes]) -> str:
    lines = "".join(f"{sha256(content)}  {name}\n" for name, content in files.items())
    return sha256(lines.encode("utf-8"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelUnusable(f"{path} can't be read") from error


def _checked(path: Path, expected: str) -> bytes:
    content = _read(path)
    if sha256(content) != expected:
        raise WeightsAltered(f"{path} is not the file its manifest was written for")
    return content


def _golden(path: Path) -> tuple[GoldenCase, ...]:
    try:
        return GoldenCases.model_validate_json(_read(path)).cases
    except ValidationError as error:
        raise ModelUnusable(f"{path} is not a file of golden cases") from error


def references(model: InstalledModel) -> tuple[str, ...]:
    """Every way in which a route may name a model: `ckd-risk@1`, `@1.0` and `@1.0.0`."""
    parts = model.manifest.version.split(".")
    numbers = (".".join(parts[: count + 1]) for count in range(len(parts)))
    return tuple(f"{model.name}@{number}" for number in numbers)


def installed_digests(root: Path = REFERENCE_MODELS) -> dict[str, str]:
    """The digest of each installed model by every reference a route may use.

    Raises:
        ManifestError: A manifest is wrong.
        ModelUnusable: A file is missing, or two folders hold models of the same name.
    """
    found = load_installed(root).values()
    return {reference: model.digest for model in found for reference in references(model)}
