"""The models behind the services: what a card calls them, and what they need.

An API process knows models by the register; what one needs stands in its manifest, which lies in
the folder of models on this machine. Where it does not, a service asks for nothing along: an EHR
is then asked by whoever runs the model.
"""

import time
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from threading import Lock

import models
from adapters.site_cds_hooks import CdsService
from gateway.core.cds.card import ModelShown
from gateway.core.model_register import RegisteredModel
from gateway.settings import Settings
from gateway.store.unit_of_work import Store
from models.manifest import MANIFEST_FILE, Manifest, ManifestError, parse

_BROUGHT = Path(models.__path__[0]) / "reference"
#: So long it is believed which model a name stands for; a worker asks the register itself.
_FRESH_S = 0.5


class ModelsShown:
    """Gives by digest what is told of a model; it never changes, so it is read once."""

    def __init__(
        self, settings: Settings, store: Store, in_service: Callable[[], Mapping[str, str]]
    ) -> None:
        """Take where models are.

        Args:
            settings: Of the process.
            store: The database with the register.
            in_service: Gives the digests of the models in service by the names that routes use.
        """
        self._brought = settings.models_dir or _BROUGHT
        self._imported = settings.imported_models_dir
        self._store = store
        self._in_service = in_service
        self._lock = Lock()
        self._lines: dict[str, RegisteredModel] = {}
        self._manifests: dict[str, Manifest | None] = {}
        self._named: dict[str, tuple[float, RegisteredModel]] = {}

    def remembered(self, name: str) -> RegisteredModel | None:
        """Give what `line` gave a moment ago, without the database; None where it was not asked."""
        asked_s, known = self._named.get(name, (float("-inf"), None))
        return known if time.monotonic() - asked_s < _FRESH_S else None

    def line(self, name: str) -> RegisteredModel | None:
        """Give the line of the register that a route's model stands for now; None without one.

        Raises:
            StoreUnavailable: The database is away.
        """
        asked_s = time.monotonic()
        digest = self._in_service().get(name)
        known = self.by_digest(digest) if digest else None
        if known is not None:
            self._named[name] = asked_s, known
        return known

    def by_digest(self, digest: str) -> RegisteredModel | None:
        """Give the line of the register of a digest.

        Raises:
            StoreUnavailable: The database is away.
        """
        with self._lock:
            known = self._lines.get(digest)
        if known is None:
            with self._store.read() as uow:
                known = uow.models.get(digest)
            if known is not None:
                with self._lock:
                    self._lines[digest] = known
        return known

    def manifest(self, line: RegisteredModel) -> Manifest | None:
        """Give what a model needs; None where its files are not on this machine."""
        digest = line.card.digest
        with self._lock:
            if digest not in self._manifests:
                self._manifests[digest] = self._read(line)
            return self._manifests[digest]

    def _read(self, line: RegisteredModel) -> Manifest | None:
        files = [self._imported / line.card.digest / MANIFEST_FILE]
        files += sorted(self._brought.glob(f"*/{MANIFEST_FILE}"))
        for file in files:
            try:
                found = parse(file.read_text("utf-8"), file=str(file))
            except (OSError, ManifestError, UnicodeDecodeError):
                continue
            if (found.name, found.version) == (line.card.name, line.card.version):
                return found
        return None


def shown(line: RegisteredModel, about: str) -> ModelShown:
    """Give a model as a card names it.

    Args:
        line: Of the register.
        about: Address of the page about it.
    """
    card = line.card
    return ModelShown(
        title=card.title,
        version=card.version,
        manufacturer=card.manufacturer,
        is_demonstration=card.demonstration_only,
        limits=_limits(line),
        about=about,
    )


def about_page(service: CdsService, line: RegisteredModel) -> str:
    """Write the page about the model of a service; there is nothing of any patient on it."""
    card = line.card
    told = {
        "Intended use": card.intended_use,
        "Limits": _limits(line),
        "Contraindications": " ".join(card.contraindications),
        "Made by": f"{card.manufacturer}; {card.name} {card.version}, SHA-256 {card.digest}",
        "Shown by": f"CDS service {service.id} of Nadi, at the hook {service.hook}. "
        "Every answer is made by AI and not reviewed by a clinician.",
    }
    rows = "".join(f"<dt>{key}</dt><dd>{escape(text)}</dd>" for key, text in told.items() if text)
    title = escape(f"{card.title} {card.version}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1><dl>{rows}</dl></html>"
    )


def _limits(line: RegisteredModel) -> str:
    card = line.card
    demonstration = "Demonstration only: not a medical device. " if card.demonstration_only else ""
    return f"{demonstration}Not for: {card.not_for}"
