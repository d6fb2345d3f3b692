"""The records of this EHR: in memory, versioned, indexed, optionally journalled.

* A body is serialised once, when it is written, and served as those bytes.
* Identifiers, tags and references have an index, so that conditional create stays O(1).
* The records of a type are held in the order of their last change.
* A transaction is all or nothing; whoever listens hears of it after it is complete.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import orjson

from adapters.sandbox.journal import Journal
from adapters.sandbox.keys import Resource, SearchKeys, Token, indexed_tokens, search_keys
from gateway.core.clock import Clock, from_ms, to_ms, utc_now

_NO_KEYS = SearchKeys()


@dataclass(frozen=True, slots=True)
class Record:
    """One version of one resource; its body is empty when that version says "deleted".

    Attributes:
        updated_ms: When it was written, in milliseconds; several may share one.
        sequence: The order in which this store wrote everything.
    """

    resource_type: str
    id: str
    version: int
    updated_ms: int
    body: bytes
    keys: SearchKeys = field(repr=False)
    sequence: int = field(default=0, compare=False)

    @property
    def reference(self) -> str:
        """Relative reference, `Type/id`."""
        return f"{self.resource_type}/{self.id}"

    @property
    def is_deleted(self) -> bool:
        """Say whether this version is a deletion."""
        return not self.body

    @property
    def etag(self) -> str:
        """Weak ETag of this version (FHIR R4 RESTful API section 3.1.0.1.3)."""
        return f'W/"{self.version}"'


Listener = Callable[[Sequence[Record]], None]


class Store:
    """All resources, by type and id."""

    def __init__(self, *, journal: Journal | None = None, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._records: dict[str, dict[str, Record]] = {}
        self._past: dict[tuple[str, str], list[Record]] = {}
        self._index: dict[tuple[str, Token], dict[str, None]] = {}
        self._undo: list[tuple[Record, Record | None]] | None = None
        self._listeners: list[Listener] = []
        self._journal = journal
        self._written = 0
        self._latest_ms = 0
        for line in journal.replay() if journal else ():
            for entry in line:
                self._place(self._numbered(_from_journal(entry)))

    def listen(self, listener: Listener) -> None:
        """Call `listener` with the records of every transaction after it is complete."""
        self._listeners.append(listener)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make every write inside all or nothing; a transaction inside another joins it."""
        if self._undo is not None:
            yield
            return
        self._undo = []
        try:
            yield
            written = [record for record, _ in self._undo]
            if self._journal and written:
                self._journal.append([_to_journal(record) for record in written])
        except BaseException:
            self._roll_back(self._undo)
            raise
        finally:
            self._undo = None
        for listener in self._listeners:
            listener(written)

    def put(self, resource: Resource, resource_id: str) -> Record:
        """Write a resource as its next version; the server decides version and time.

        Args:
            resource: Not kept; its `meta.versionId` and `meta.lastUpdated` are replaced.
            resource_id: Logical id it gets.
        """
        resource_type = resource["resourceType"]
        version, updated_ms = self._next_version(resource_type, resource_id)
        meta = {
            **resource.get("meta", {}),
            "versionId": str(version),
            "lastUpdated": instant(updated_ms),
        }
        rest = {k: v for k, v in resource.items() if k not in ("resourceType", "id", "meta")}
        whole = {"resourceType": resource_type, "id": resource_id, "meta": meta, **rest}
        # orjson leaves a body in a buffer of several times its size; a copy is what is kept.
        body = bytes(memoryview(orjson.dumps(whole)))
        keys = search_keys(whole)
        return self._write(Record(resource_type, resource_id, version, updated_ms, body, keys))

    def delete(self, resource_type: str, resource_id: str) -> Record:
        """Write the deletion of a resource as its next version."""
        version, updated_ms = self._next_version(resource_type, resource_id)
        return self._write(Record(resource_type, resource_id, version, updated_ms, b"", _NO_KEYS))

    def current(self, resource_type: str, resource_id: str) -> Record | None:
        """Give the newest version of a resource, which may be its deletion."""
        return self._records.get(resource_type, {}).get(resource_id)

    def version(self, resource_type: str, resource_id: str, version: str) -> Record | None:
        """Give one version of a resource."""
        now = self.current(resource_type, resource_id)
        every = [*self._past.get((resource_type, resource_id), ()), *([now] if now else ())]
        return next((record for record in every if str(record.version) == version), None)

    def newest_first(self, resource_type: str) -> Iterator[Record]:
        """Walk a type's living records from the last changed one."""
        records = self._records.get(resource_type, {})
        return (record for record in reversed(records.values()) if not record.is_deleted)

    def deleted_since(self, types: Sequence[str], since_ms: int) -> list[Record]:
        """Give the deletions of these types from a moment on."""
        return [
            record
            for kind in types
            for record in self._records.get(kind, {}).values()
            if record.is_deleted and record.updated_ms >= since_ms
        ]

    def history_since(self, resource_type: str, since_ms: int) -> list[Record]:
        """Give every version of a type from a moment on, the newest first."""
        past = [
            record
            for (kind, _), records in self._past.items()
            if kind == resource_type
            for record in records
        ]
        every = [*past, *self._records.get(resource_type, {}).values()]
        found = [record for record in every if record.updated_ms >= since_ms]
        return sorted(found, key=lambda record: record.sequence, reverse=True)

    def having(self, resource_type: str, token: Token) -> Sequence[Record]:
        """Give the living records that have an identifier or a reference, by the index."""
        ids = self._index.get((resource_type, token), {})
        return [self._records[resource_type][each] for each in ids]

    def counts(self) -> dict[str, int]:
        """Count the living resources of every type."""
        every = {kind: sum(1 for _ in self.newest_first(kind)) for kind in self._records}
        return {kind: count for kind, count in sorted(every.items()) if count}

    def duplicates(self) -> dict[str, int]:
        """Count, by type, the copies beyond the first that share an identifier."""
        extra: dict[str, int] = {}
        for (kind, (name, _, _)), ids in self._index.items():
            if name == "identifier" and len(ids) > 1:
                extra[kind] = extra.get(kind, 0) + len(ids) - 1
        return extra

    def _next_version(self, resource_type: str, resource_id: str) -> tuple[int, int]:
        before = self.current(resource_type, resource_id)
        # A clock that is set back must not put a later change before an earlier one.
        updated_ms = max(to_ms(self._clock()), self._latest_ms)
        return (before.version + 1 if before else 1), updated_ms

    def _numbered(self, record: Record) -> Record:
        self._written += 1
        self._latest_ms = record.updated_ms
        return replace(record, sequence=self._written)

    def _write(self, record: Record) -> Record:
        numbered = self._numbered(record)
        with self.transaction():
            before = self._place(numbered)
            if self._undo is not None:
                self._undo.append((numbered, before))
        return numbered

    def _place(self, record: Record) -> Record | None:
        """Make a record the current one of its id and give the one it follows."""
        before = self._remove(record)
        if before is not None:
            self._past.setdefault((record.resource_type, record.id), []).append(before)
        self._add(record)
        return before

    def _add(self, record: Record) -> None:
        self._records.setdefault(record.resource_type, {})[record.id] = record
        for token in indexed_tokens(record.resource_type, record.keys):
            self._index.setdefault((record.resource_type, token), {})[record.id] = None

    def _remove(self, record: Record) -> Record | None:
        before = self._records.get(record.resource_type, {}).pop(record.id, None)
        for token in indexed_tokens(before.resource_type, before.keys) if before else ():
            ids = self._index[record.resource_type, token]
            del ids[record.id]
            if not ids:
                del self._index[record.resource_type, token]
        return before

    def _roll_back(self, undo: Sequence[tuple[Record, Record | None]]) -> None:
        for record, before in reversed(undo):
            self._remove(record)
            if before is not None:
                self._past[record.resource_type, record.id].pop()
                self._add(before)
        # What was put back stands at the end now; the order of last change has to be mended.
        for kind in {before.resource_type for _, before in undo if before is not None}:
            ordered = sorted(self._records[kind].values(), key=lambda record: record.sequence)
            self._records[kind] = {record.id: record for record in ordered}


def instant(updated_ms: int) -> str:
    """Write milliseconds as a FHIR instant in UTC."""
    text = from_ms(updated_ms).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _to_journal(record: Record) -> Resource:
    head = {
        "type": record.resource_type,
        "id": record.id,
        "version": record.version,
        "updated_ms": record.updated_ms,
    }
    return head | {"resource": orjson.Fragment(record.body) if record.body else None}


def _from_journal(entry: Resource) -> Record:
    resource = entry["resource"]
    return Record(
        entry["type"],
        entry["id"],
        entry["version"],
        entry["updated_ms"],
        bytes(memoryview(orjson.dumps(resource))) if resource else b"",
        search_keys(resource) if resource else _NO_KEYS,
    )
