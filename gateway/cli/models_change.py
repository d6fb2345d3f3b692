"""Keep a verified package and register it, or retire a model: what the commands do underneath.

A module of its own, since the database and the queue take a moment to load.
"""

from dataclasses import dataclass

from gateway.bell import Bell
from gateway.cli.context import Opened, fail, login, operator
from gateway.cli.models_installed import library
from gateway.core.errors import NotFound, StoreConflict
from gateway.core.model_register import Card, ModelState, RegisteredModel, card_of
from gateway.store.registering import Actor, Entry, insist_on_room, register
from gateway.store.registering import retire as retire_in
from models.package import Package
from models.registry import InstalledModel
from models.runtime import Runtime
from models.versions import routable, spellings

_TRIES = 3
_ENOUGH_DIGITS = 8


@dataclass(frozen=True)
class Retired:
    """What came of a retirement.

    Attributes:
        stopped: How many jobs waited for the model.
        instead: What each route that named it runs now; None where nothing fits any more.
    """

    card: Card
    stopped: int
    instead: dict[str, str | None]


def keep(nadi: Opened, package: Package) -> Entry:
    """Keep the files, then register: files without a line are never used, and nothing is lost.

    Raises:
        ModelRetired: This digest was retired.
        ModelConflict: Another digest is active under this name and version.
        PackageRefused: The package was changed since it was verified.
        ModelUnusable: It can't be written, or does not work on this machine.
    """
    key = package.signature.key
    card = card_of(package.manifest, package.digest, signer=package.signer, signer_key=key)
    with nadi.store.read() as uow:
        insist_on_room(uow, card)
    library(nadi.settings).keep(package, _try_out)
    return _registered(nadi, card)


def retire(nadi: Opened, wanted: str, reason: str) -> Retired:
    """Retire the model that a person means, and ring for what waits.

    Raises:
        NotFound: No registered model is meant.
        ModelRetired: It was retired before.
    """
    actor = Actor(nadi.source(), operator(), login())
    with nadi.store.write() as uow:
        card = _meant(uow.models.lines(), wanted).card
        stopped = retire_in(uow, card.digest, reason, actor)
    Bell(nadi.settings.resolved_broker_url).knock()
    return Retired(card, stopped, routes_of(nadi, card))


def routes_of(nadi: Opened, card: Card) -> dict[str, str | None]:
    """Say what the routes that name a model run now, None where nothing fits."""
    with nadi.store.read() as uow:
        in_service = uow.models.in_service()
    references = {digest: f"{name}@{version}" for name, version, digest in in_service}
    known, names = routable(in_service), spellings(card.name, card.version)
    return {
        route.name: references.get(known.get(route.model, ""))
        for route in nadi.site().routes
        if route.model in names
    }


def other_signers(nadi: Opened, card: Card) -> list[str]:
    """Name those by whom other versions of a model are."""
    with nadi.store.read() as uow:
        lines = uow.models.lines()
    return sorted(
        {line.card.signer for line in lines if line.card.name == card.name} - {card.signer}
    )


def _try_out(model: InstalledModel) -> None:
    """Load the model and run its golden cases.

    Raises:
        ModelUnusable: It does not work on this machine.
    """
    Runtime(model)


def _registered(nadi: Opened, card: Card) -> Entry:
    actor = Actor(nadi.source(), operator(), login())
    for _ in range(_TRIES - 1):
        try:
            return _register(nadi, card, actor)
        except StoreConflict:  # another import of the same package was first
            continue
    return _register(nadi, card, actor)


def _register(nadi: Opened, card: Card, actor: Actor) -> Entry:
    with nadi.store.write() as uow:
        return register(uow, card, actor)


def _meant(lines: list[RegisteredModel], wanted: str) -> RegisteredModel:
    """Find the one model that a person means."""
    found = [line for line in lines if wanted in (line.card.reference, line.card.digest)]
    if not found and len(wanted) >= _ENOUGH_DIGITS:
        found = [line for line in lines if line.card.digest.startswith(wanted)]
    chosen = [line for line in found if line.state is ModelState.ACTIVE] or found
    if not chosen:
        message = f"No registered model is {wanted}; `nadi models list` shows name and version."
        raise NotFound(message)
    if len(chosen) > 1:
        digests = ", ".join(line.card.digest[:16] for line in chosen)
        fail(f"Several are meant by {wanted}; say which by its digest: {digests}.")
    return chosen[0]
