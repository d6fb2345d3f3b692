"""A model folder before it is packaged: what its manifest, which may be unfinished, already tells.

A data scientist quantizes before there are digests, golden cases or a card. So only the tables that
are asked for must be right; what they lack may be named on the command line.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from models.manifest import MANIFEST_FILE, Gate, ManifestError, Output
from models.task import Task

FP32_FILE = "model.fp32.onnx"
EVALUATION_FILE = "evaluation.npz"

_WEIGHTS_FILE = "model.onnx"

T = TypeVar("T")


class NotNamed(ValueError):
    """Something that is needed was not named; the message says how to name it."""


class Draft:
    """A folder, and what can be read of its manifest."""

    def __init__(self, folder: Path) -> None:
        """Read the manifest.

        Raises:
            NotNamed: There is none.
            ManifestError: It is no TOML.
        """
        self._folder = folder
        self._file = folder / MANIFEST_FILE
        try:
            self._tables = tomllib.loads(self._file.read_text(encoding="utf-8"))
        except OSError as error:
            raise NotNamed(
                f"{self._file} can't be read; without a manifest give --model, --data and --metric."
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ManifestError(str(self._file), (f"not valid TOML: {error}",)) from error

    @property
    def name(self) -> str:
        """The model's name, else its folder's."""
        return self._told("name") or self._folder.resolve().name

    @property
    def output_name(self) -> str | None:
        """Name of the graph's output."""
        return self._told("weights", "output_name")

    @property
    def weights_path(self) -> Path:
        """Where the weights that are shipped belong."""
        return self._folder / (self._told("weights", "file") or _WEIGHTS_FILE)

    def fp32_path(self) -> Path:
        """Where the fp32 network is.

        Raises:
            NotNamed: Nowhere that is looked at.
        """
        is_fp32 = self._told("weights", "format") == "onnx-fp32"
        shipped = self._told("weights", "file") if is_fp32 else None
        name = self._told("weights", "reference", "file") or shipped or FP32_FILE
        path = self._folder / name
        if not path.is_file():
            raise NotNamed(
                f"{path} is missing: the fp32 network is looked for under weights.reference.file "
                f"of {self._file}, else as {FP32_FILE}; or name it with --model."
            )
        return path

    def data_path(self) -> Path | None:
        """Where the evaluation set is, if the folder has one."""
        path = self._folder / EVALUATION_FILE
        return path if path.is_file() else None

    def gate(self, changes: Mapping[str, Any]) -> Gate:
        """When a quantized form is accepted.

        Args:
            changes: Keys of `[gate]` that the command line overrides.

        Raises:
            NotNamed: Neither names a metric.
            ManifestError: A key is wrong.
        """
        table = {**(self._tables.get("gate") or {}), **changes}
        if "metric" not in table:
            raise NotNamed(f"{self._file} names no metric under [gate]; or give --metric.")
        return self._valid(TypeAdapter(Gate), table, "gate")

    def task(self, gate: Gate) -> Task | None:
        """What the answers mean, where the manifest says so.

        Raises:
            ManifestError: A key of `[[outputs]]` is wrong.
        """
        told = self._tables.get("outputs")
        if not told:
            return None
        return Task.of(self._valid(TypeAdapter(tuple[Output, ...]), told, "outputs"), gate)

    def _told(self, *keys: str) -> str | None:
        found: Any = self._tables
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, str) else None

    def _valid(self, kind: TypeAdapter[T], value: object, key: str) -> T:
        try:
            return kind.validate_python(value)
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False, include_context=False)
            problems = (
                f"{'.'.join(map(str, (key, *each['loc'])))}: {each['msg']}" for each in found
            )
            raise ManifestError(str(self._file), tuple(problems)) from error
