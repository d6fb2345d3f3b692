"""All tables together: whoever needs every one of them takes `metadata` from here."""

from gateway.store import (
    cds_tables,
    consent_tables,
    listener_tables,
    notice_tables,
    pacing_tables,
    rights_tables,
    written_tables,
)
from gateway.store.tables import metadata

#: The modules that describe tables beside `gateway.store.tables`.
PARTS = (
    cds_tables,
    consent_tables,
    listener_tables,
    notice_tables,
    pacing_tables,
    rights_tables,
    written_tables,
)

__all__ = ["PARTS", "metadata"]
