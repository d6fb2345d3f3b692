"""The models on a machine: those that came with Nadi, and those that were imported.

* What came with Nadi lies in one folder per model; what was imported, in a folder named after its
  digest. A folder whose content does not give its name is not used.
* An import is written aside, tried, and gets its name when it is complete and on disk: a crash
  leaves a draft that nobody reads, and that the next import removes.
* One import at a time: a lock keeps a second one, in whatever process, from taking a draft that is
  being written for one that was left behind.

Whether a model may run is not said here but by the register of the installation.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.manifest import MANIFEST_FILE, ManifestError
from models.registry import InstalledModel, ModelUnusable, WeightsAltered, load

if TYPE_CHECKING:  # what reads packages is large, and only importing needs it
    from models.package import Package

_DRAFT = ".draft-"
_LOCK = ".lock"


@dataclass(frozen=True)
class Broken:
    """A folder that holds no model that could be used.

    Attributes:
        name: Of the folder.
        reason: Why.
        is_altered: Whether it was a model that was changed since it was imported.
    """

    name: str
    reason: str
    is_altered: bool


class Library:
    """The folders of models of an installation."""

    def __init__(self, brought: Path, imported: Path) -> None:
        """Take the folders.

        Args:
            brought: Where the models are that came with Nadi, one folder each.
            imported: Where imported ones are, each in a folder named after its digest.
        """
        self._brought = brought
        self._imported = imported

    def find(self, digest: str) -> InstalledModel | None:
        """Look for a model by its digest; None when it is not on this machine.

        Raises:
            WeightsAltered: Its folder is here, but something in it was changed.
            ManifestError: Likewise, in its manifest.
            ModelUnusable: A file of it is missing.
        """
        folder = self._imported / digest
        if (folder / MANIFEST_FILE).exists():
            return self._imported_model(folder)
        found, _ = self.brought()
        return next((model for model in found if model.digest == digest), None)

    def brought(self) -> tuple[list[InstalledModel], list[Broken]]:
        """Look at what came with Nadi; a folder that is broken hides no other."""
        return _looked_at(self._brought, load)

    def all(self) -> tuple[list[InstalledModel], list[Broken]]:
        """Look at every folder; one that is broken hides no other."""
        models, broken = self.brought()
        more, more_broken = _looked_at(self._imported, self._imported_model)
        return [*models, *more], [*broken, *more_broken]

    def keep(self, package: "Package", try_out: Callable[[InstalledModel], None]) -> InstalledModel:
        """Put a verified package into its folder, unless it is there already.

        Args:
            package: What to keep.
            try_out: Raises when the model does not work on this machine; nothing is kept then.

        Raises:
            PackageRefused: The package was changed since it was verified.
            ModelUnusable: It can't be written, or does not work here.
        """
        target = self._imported / package.digest
        with self._importing():
            if (known := self._sound(target)) is not None:
                return known
            with self._draft() as draft:
                package.unpack(draft)
                try_out(load(draft))
                draft.rename(target)
            _sync(self._imported)
        return load(target)

    def _imported_model(self, folder: Path) -> InstalledModel:
        model = load(folder)
        if model.digest != folder.name:
            raise WeightsAltered(f"{folder} was changed since it was imported; import it again")
        return model

    def _sound(self, folder: Path) -> InstalledModel | None:
        """Give what is there; what was altered makes room for what is to come."""
        if not folder.exists():
            return None
        try:
            return self._imported_model(folder)
        except (ManifestError, ModelUnusable):
            shutil.rmtree(folder)
            return None

    @contextmanager
    def _importing(self) -> Iterator[None]:
        try:
            self._imported.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._imported / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ModelUnusable(f"{self._imported} can't be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for left_behind in self._imported.glob(f"{_DRAFT}*"):
                shutil.rmtree(left_behind, ignore_errors=True)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _draft(self) -> Iterator[Path]:
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self._imported))
        try:
            yield draft
        except OSError as error:
            raise ModelUnusable(f"{draft} can't be written: {error.strerror}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _looked_at(
    root: Path, read: Callable[[Path], InstalledModel]
) -> tuple[list[InstalledModel], list[Broken]]:
    models: list[InstalledModel] = []
    broken: list[Broken] = []
    for path in sorted(root.glob(f"*/{MANIFEST_FILE}")):
        if path.parent.name.startswith("."):
            continue
        try:
            models.append(read(path.parent))
        except (ManifestError, ModelUnusable) as error:
            is_altered = isinstance(error, WeightsAltered)
            broken.append(Broken(path.parent.name, str(error), is_altered))
    return models, broken


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
