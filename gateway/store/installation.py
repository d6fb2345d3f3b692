"""How every process opens its installation: keys, schema, database, in this order.

There is one way in, so that no process can forget to ask whether the keys are those of the data.
"""

from dataclasses import dataclass

from gateway.settings import Settings
from gateway.store.engine import migrate
from gateway.store.keys import Keys, load_or_create
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store


@dataclass(frozen=True)
class Installation:
    """The keys and the database of a site, known to belong together."""

    keys: Keys
    store: Store


def open_installation(settings: Settings) -> Installation:
    """Load or make the keys, bring the schema up to date and open the database.

    Raises:
        ConfigurationError: A key file can't be used, or it is not the key of this data.
        StoreUnavailable: The database is away.
    """
    keys = load_or_create(
        settings.data_dir,
        master_key_file=settings.master_key_file,
        audit_key_file=settings.audit_key_file,
    )
    migrate(settings.resolved_database_url)
    store = Store(settings.resolved_database_url, Sealer(keys.master))
    try:
        store.check_key()
    except Exception:
        store.close()
        raise
    return Installation(keys, store)
