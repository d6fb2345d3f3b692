"""After a restore a first attempt may not be the first: the database forgot what was delivered.

What was delivered between the backup and the loss is computed again when the EHR sends again, with
the same identifier; a conditional create finds it. For an EHR that ignores conditions it has to be
looked for, as with a second attempt. A resource whose `meta.lastUpdated` is later than the restore
can't have been delivered before it, so it costs no search.
"""

from gateway.store.events import Event

#: By how much the clocks of an EHR and of this machine may differ.
_CLOCKS_DIFFER_MS = 86_400_000


def may_be_from_before(event: Event, restored_ms: int | None) -> bool:
    """Say whether the result of an event may be in the EHR though this database does not know it.

    Args:
        event: What caused the result.
        restored_ms: When the database was last restored from a backup; None when never.
    """
    if restored_ms is None:
        return False
    updated_ms = event.last_updated_ms
    return updated_ms is None or updated_ms < restored_ms + _CLOCKS_DIFFER_MS
