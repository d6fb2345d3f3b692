"""What `nadi doctor` says of backups: is there a key for them, and when was the last one made?"""

from pathlib import Path

import orjson

from gateway.core.clock import from_ms
from gateway.store.audit_search import AuditFilter
from gateway.store.backup_key import public_file
from gateway.store.unit_of_work import Store

_OLD_MS = 2 * 86_400_000
#: Most exports that are looked through for one that is a backup.
_MOST = 500
_NONE = "none was made yet, or long ago"
_HOW = "docs/recovery.md has the line for every night"


def backups(data_dir: Path, store: Store) -> tuple[str, bool]:
    """Say how it stands with backups, and whether that is well.

    Raises:
        StoreUnavailable: The database is away.
    """
    if not public_file(data_dir).exists():
        return "No backup key, so no backup: nadi backup key --out FILE (docs/recovery.md)", False
    with store.read() as uow:
        rows = uow.audit_log.search(AuditFilter(event="export", limit=_MOST))
        now_ms = uow.now_ms
    made = next((row for row in rows if _is_backup(row.body)), None)
    if made is None:
        return f"A key is there, but {_NONE}; {_HOW}", False
    when = from_ms(made.recorded_ms).isoformat(timespec="minutes")
    if now_ms - made.recorded_ms > _OLD_MS:
        return f"The last one is of {when}; {_HOW}", False
    return f"the last one is of {when}", True


def _is_backup(body: bytes) -> bool:
    entities = orjson.loads(body).get("entity", ())
    # The patient of an export is an entity without details.
    told = [each for entity in entities for each in entity.get("detail", ())]
    return {"type": "what", "valueString": "backup"} in told
