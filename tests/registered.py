"""Models on the register of a test's database, as `nadi prepare` and `import` put them."""

from functools import cache

from gateway.core.audit import AgentKind, AuditAgent, Source
from gateway.core.model_register import BUILT_IN, Card, card_of
from gateway.store.registering import Actor, register
from gateway.store.unit_of_work import Store
from models.manifest import Manifest
from models.registry import InstalledModel, load_installed

ACTOR = Actor(
    Source("test-hospital", "test"),
    AuditAgent("os-user:tester", "tester", AgentKind.USER),
    "tester",
)


def register_model(
    store: Store, manifest: Manifest, digest: str, *, signer: str = BUILT_IN, signer_key: str = ""
) -> Card:
    """Put a model on the register, whatever its files are."""
    card = card_of(manifest, digest, signer=signer, signer_key=signer_key)
    with store.write() as uow:
        register(uow, card, ACTOR)
    return card


@cache
def _brought() -> tuple[InstalledModel, ...]:
    """Read them once: their files are long, and no test changes them."""
    return tuple(load_installed().values())


def register_brought(store: Store) -> None:
    """Put the models that come with Nadi on the register."""
    for model in _brought():
        register_model(store, model.manifest, model.digest)
