"""How every process opens its installation: keys, schema, database, in this order.

There is one way in, so that no process can forget to ask whether the keys are those of the data.
That a process starts, and which keys it holds, is on record, as are the keys when they are made.
"""

import importlib.metadata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from gateway.core.audit import OtherEvent, Source, Step, noted
from gateway.core.clock import new_id
from gateway.core.errors import GatewayError
from gateway.settings import Settings
from gateway.store.engine import insist_on_known_schema, migrate
from gateway.store.keys import Keys, load_or_create
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store, UnitOfWork

#: Which keys a process holds: the master key opens what is sealed, the other signs checkpoints.
MASTER, SIGNING = "master", "audit-signing"


@dataclass(frozen=True)
class Installation:
    """The keys and the database of a site, known to belong together."""

    keys: Keys
    store: Store


def open_installation(settings: Settings) -> Installation:
    """Load or make the keys, bring the schema up to date and open the database.

    Raises:
        ConfigurationError: A key file can't be used, it is not the key of this data, or a newer
            Nadi made the database.
        StoreUnavailable: The database is away.
    """
    insist_on_known_schema(settings.resolved_database_url)
    is_new = not (settings.data_dir / "keys" / "audit.pub").exists()
    keys = load_or_create(
        settings.data_dir,
        master_key_file=settings.master_key_file,
        audit_key_file=settings.audit_key_file,
        consent_key_file=settings.consent_key_file,
    )
    migrate(settings.resolved_database_url)
    store = Store(settings.resolved_database_url, Sealer(keys.master), consents=keys.consents)
    try:
        store.check_key()
        if is_new:
            _record_keys(store, keys)
    except Exception:
        store.close()
        raise
    return Installation(keys, store)


def record_start(uow: UnitOfWork, source: Source, *keys: str) -> None:
    """Put on record that a process starts, its version, and which keys it holds."""
    details = {"version": importlib.metadata.version("nadi"), "keys": ", ".join(keys)}
    _note(uow, source, "start", details)


def record_stop(store: Store, source: Source) -> None:
    """Put on record that a process stops in order.

    With the database away it stops all the same: a start without a stop before it tells as much.
    """
    with suppress(GatewayError), store.write() as uow:
        _note(uow, source, "stop", {})


def _record_keys(store: Store, keys: Keys) -> None:
    details = {"what": "made", "log": keys.origin, "verifier": keys.verifier}
    with store.write() as uow:
        _note(uow, Source(keys.origin, "installation"), "keys", details)


def _note(uow: UnitOfWork, source: Source, event: OtherEvent, details: Mapping[str, str]) -> None:
    step = Step(id=new_id(), recorded=uow.now, source=source)
    uow.audit(noted(step, event, details=details))
