"""What is on the register of models and what lies in the folders of models, put together."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from gateway.cli.context import has_database, opened_as
from gateway.core.clock import utc_now
from gateway.core.model_register import RegisteredModel, Standing
from gateway.settings import Settings
from models.library import Broken, Library
from models.registry import REFERENCE_MODELS, InstalledModel, ModelUnusable
from models.versions import routable, spellings

IN_SERVICE = Standing.ACTIVE.value
UNREGISTERED = "unregistered"
#: Gives the model that a route means; None where it is not installed, or may not run.
Find = Callable[[str], InstalledModel | None]


@dataclass(frozen=True)
class Listed:
    """A model of the register, of a folder, or of both.

    Attributes:
        state: `active`, `retired`, `expired`, `not-yet-valid`, `unregistered`, `altered` (its files
            are not those its manifest was written for) or `unusable`.
        reason: Why, where that is not plain.
    """

    state: str
    reason: str = ""
    folder: str = ""
    model: InstalledModel | None = None
    line: RegisteredModel | None = None

    @property
    def name(self) -> str:
        """Its name; that of its folder when it can't be read."""
        if self.line:
            return self.line.card.name
        return self.model.name if self.model else self.folder

    @property
    def version(self) -> str:
        """Its version; empty when it can't be read."""
        if self.line:
            return self.line.card.version
        return self.model.manifest.version if self.model else ""

    @property
    def digest(self) -> str:
        """Its digest; empty when it can't be read."""
        if self.line:
            return self.line.card.digest
        return self.model.digest if self.model else ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every way in which a person may name it."""
        return (self.name, *spellings(self.name, self.version), self.digest)


@dataclass(frozen=True)
class Installed:
    """What is on the register and in the folders of models."""

    listed: tuple[Listed, ...]

    @cached_property
    def models(self) -> tuple[InstalledModel, ...]:
        """Those that may run; where there is no register yet, all that can be read."""
        wanted = self._usable if self._has_register else self.listed
        return tuple(each.model for each in wanted if each.model)

    @property
    def names(self) -> frozenset[str]:
        """Every way in which a route may name one: `name@1`, `name@1.0` and `name@1.0.0`."""
        return frozenset(self._routable)

    def find(self, name: str) -> InstalledModel | None:
        """Find the model that a route means by `name@version`, or the newest of a bare name."""
        digest = self._routable.get(name) or self._newest.get(name)
        return next((model for model in self.models if model.digest == digest), None)

    def search(self, name: str) -> list[Listed]:
        """Find what a person means by `name`, `name@version` or the beginning of a digest."""
        exact = [each for each in self.listed if name in each.names]
        return exact or [each for each in self.listed if each.digest.startswith(name)]

    @cached_property
    def _usable(self) -> tuple[Listed, ...]:
        states = {IN_SERVICE} if self._has_register else {IN_SERVICE, UNREGISTERED}
        return tuple(each for each in self.listed if each.state in states)

    @property
    def _has_register(self) -> bool:
        return any(each.line for each in self.listed)

    @cached_property
    def _routable(self) -> dict[str, str]:
        return routable((each.name, each.version, each.digest) for each in self._usable)

    @cached_property
    def _newest(self) -> dict[str, str]:
        by_version = routable((each.name, each.version, each.digest) for each in self._usable)
        return {spelling.partition("@")[0]: digest for spelling, digest in by_version.items()}


def library(where: Settings) -> Library:
    """The folders of models of an installation."""
    return Library(where.models_dir or REFERENCE_MODELS, where.imported_models_dir)


def installed(where: Settings) -> Installed:
    """Look at the register, where there is one, and at the folders.

    Raises:
        GatewayError: There is a register, but it can't be read.
    """
    lines: list[RegisteredModel] = []
    if has_database(where):
        with opened_as(where) as nadi, nadi.store.read() as uow:
            lines = uow.models.lines()
    return matched(lines, *library(where).all(), day=utc_now().date())


def matched(
    lines: list[RegisteredModel],
    models: list[InstalledModel],
    broken: list[Broken],
    *,
    day: date,
) -> Installed:
    """Put the lines of the register and the folders together."""
    on_disk = {model.digest: model for model in models}
    altered = {each.name: each for each in broken}
    registered = [
        _registered(line, on_disk.get(line.card.digest), altered.get(line.card.digest), day)
        for line in lines
    ]
    known = {line.card.digest for line in lines}
    rest = [_unregistered(model) for digest, model in on_disk.items() if digest not in known]
    rest += [
        Listed("altered" if each.is_altered else "unusable", each.reason, each.name)
        for each in broken
        if each.name not in known
    ]
    return Installed((*registered, *rest))


def _registered(
    line: RegisteredModel, model: InstalledModel | None, broken: Broken | None, day: date
) -> Listed:
    standing = line.standing(day)
    if standing is not Standing.ACTIVE:
        return Listed(standing.value, line.reason, model=model, line=line)
    if broken:
        return Listed("altered" if broken.is_altered else "unusable", broken.reason, line=line)
    if model is None:
        return Listed("unusable", "Its files are not on this machine.", line=line)
    return Listed(IN_SERVICE, model=model, line=line)


def _unregistered(model: InstalledModel) -> Listed:
    try:
        model.insist_on_files()
    except ModelUnusable as error:
        return Listed("altered", str(error), model=model)
    return Listed(UNREGISTERED, "`nadi prepare` registers what came with Nadi.", model=model)
