"""Fill in what an EHR held before: a Bulk Data export, handed in for the record.

1. The export is asked for, and its address is kept; whoever is started next goes on with it.
2. The manifest is kept when it is there, with all its pages.
3. Files are read line by line, Patients and Consents first, and handed in `_BATCH` lines at a time;
   how far a file was read is kept after each batch. A batch that was handed in and not noted, since
   the process died between the two, is handed in again and recognised: nothing is there twice.
4. What the EHR deleted is received as deleted; what it could not export is counted.
5. The export is removed from the EHR.

Models do not run for what is filled in: it is only kept for the record. What changed within the
hour before the export may be on its way as an event too, and is handed in as one, if it is recent
in clinical time as well: an EHR that touches what was measured last year asks for no result of it.

Memory holds one batch; no file is written.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import orjson

from adapters.feeds.bulk import BulkClient, ExportFile, ExportGone, Line, Manifest, Waiting
from adapters.feeds.page import Found, found_in
from adapters.fhir_rest.errors import EhrAnswerUnreadable
from gateway import telemetry
from gateway.core import clinical_time
from gateway.core.clock import to_ms, utc_now
from gateway.core.errors import TransientError
from gateway.core.event import facts
from gateway.listeners.handing_in import HandingIn
from gateway.store.unit_of_work import Store

_EXPORT, _FILE = "export", "file/"
_BATCH = 500
_MOST_BATCH_BYTES = 8 * 2**20
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
#: What changed so shortly before an export may still be on its way as an event.
_FRESH_MS = 3_600_000
#: A result may be finished so long after its sample was taken; what was true before that is old.
_RECENT_MS = 3 * 86_400_000
_FIRST_TYPES = ("Patient", "Consent", "Encounter")

log = telemetry.get_logger()


@dataclass(frozen=True)
class Order:
    """What is to be filled in.

    Attributes:
        scope: `` for the whole system, `Patient`, or `Group/id`.
        types: Resource types; empty for all that the EHR exports.
        since: Only what changed since; empty for everything.
    """

    scope: str = ""
    types: tuple[str, ...] = ()
    since: str = ""

    def params(self) -> list[tuple[str, str]]:
        """Give the parameters of the kick-off."""
        named = {"_outputFormat": "application/fhir+ndjson"}
        named |= {"_type": ",".join(self.types)} if self.types else {}
        named |= {"_since": self.since} if self.since else {}
        return list(named.items())


@dataclass(frozen=True)
class Position:
    """How far a file was read.

    Attributes:
        bytes: Up to which byte; 0 where bytes can't be counted on.
    """

    lines: int = 0
    bytes: int = 0
    is_done: bool = False


@dataclass
class Tally:
    """What came of it so far, in resources.

    Attributes:
        at: When the EHR made the export: the next one may ask for what changed since.
        as_events: How many were handed in as events, so that models may have run for them.
    """

    at: str = ""
    read: int = 0
    refused: int = 0
    deleted: int = 0
    not_exported: int = 0
    as_events: int = 0
    by_type: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SoFar:
    """How far one that was begun has come: what is noted, and need not be done again.

    Attributes:
        lines: How many were read and handed in.
        total: How many there are; None where the EHR has not said.
    """

    lines: int
    total: int | None


class Progress:
    """What is told while it goes on; by itself it tells nobody."""

    def waiting(self, percent: int | None) -> None:
        """Tell that the export is being made."""

    def reading(self, file: ExportFile, lines: int, total: int | None) -> None:
        """Tell how far all files together were read."""


@dataclass(frozen=True)
class WaysIn:
    """How what is read is handed in: for the record only, or as events."""

    record: HandingIn
    event: HandingIn


class Backfill:
    """Fills in from one EHR; used by one thread."""

    def __init__(
        self, store: Store, name: str, client: BulkClient, ways: WaysIn, progress: Progress
    ) -> None:
        """Take what it works with.

        Args:
            store: The database.
            name: Name under which it remembers, `system/backfill`.
            client: Of the EHR.
            ways: How what is read is handed in.
            progress: Is told how far it is.
        """
        self._store = store
        self._name = name
        self._client = client
        self._ways = ways
        self._progress = progress

    @property
    def begun(self) -> Order | None:
        """What was begun and is not finished; None where nothing is."""
        kept = self._kept(_EXPORT)
        return Order(kept["scope"], tuple(kept["types"]), kept["since"]) if kept else None

    @property
    def so_far(self) -> SoFar:
        """How far what was begun has come."""
        with self._store.read() as uow:
            kept = uow.listener_state.get(self._name, _EXPORT) or {}
            positions = uow.listener_state.with_prefix(self._name, _FILE)
        lines = sum(position["lines"] for position in positions.values())
        manifest = kept.get("manifest")
        return SoFar(lines, _total(Manifest.from_json(manifest)) if manifest else None)

    def run(self, order: Order, pause: Callable[[float], None]) -> Tally:
        """Do all of an order, or what is left of the one that was begun.

        Args:
            order: What is to be filled in.
            pause: Waits for so many seconds.

        Raises:
            TransientError: The EHR or the API is away; run it again to go on.
            ProcessingError: The EHR refuses the export.
        """
        while True:
            try:
                return self._run(self.begun or order, pause)
            except ExportGone:
                # The EHR keeps exports for a while only: what was read is recognised.
                log.warning("export-gone", system=self._name)
                self.forget()

    def forget(self) -> None:
        """Let go of what was begun."""
        with self._store.write() as uow:
            for key in [_EXPORT, *uow.listener_state.with_prefix(self._name, _FILE)]:
                uow.listener_state.remove(self._name, key)

    # -- the export --------------------------------------------------------------------------

    def _run(self, order: Order, pause: Callable[[float], None]) -> Tally:
        manifest = self._manifest(order, pause)
        tally = Tally(at=manifest.at)
        files = sorted(enumerate(manifest.files), key=lambda each: _rank(each[1]))
        total = _total(manifest)
        # An EHR may write a time that can't be read: then nothing is fresher than now.
        began = _ms(manifest.at) or to_ms(utc_now())
        for index, file in files:
            self._read(_Reading(file, index, began), tally, total)
        address = str((self._kept(_EXPORT) or {})["status_url"])
        self.forget()
        try:
            self._client.delete(address)
        except TransientError:
            log.warning("export-not-removed", system=self._name)
        return tally

    def _manifest(self, order: Order, pause: Callable[[float], None]) -> Manifest:
        kept = self._kept(_EXPORT) or self._kick_off(order)
        if kept["manifest"]:
            return Manifest.from_json(kept["manifest"])
        found = self._page(kept["status_url"], pause)
        seen = {kept["status_url"]}
        while found.following:
            if found.following in seen:
                raise EhrAnswerUnreadable
            seen.add(found.following)
            found = found.with_page(self._page(found.following, pause))
        self._keep(_EXPORT, {**kept, "manifest": found.as_json()})
        return found

    def _page(self, url: str, pause: Callable[[float], None]) -> Manifest:
        """Wait for a page of the manifest; a later one may still be made."""
        wait_s = _FIRST_WAIT_S
        while isinstance(found := self._client.status(url), Waiting):
            self._progress.waiting(found.percent)
            pause(found.retry_after_s or wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        return found

    def _kick_off(self, order: Order) -> dict[str, Any]:
        status_url = self._client.kick_off(order.scope, order.params())
        kept = {
            "scope": order.scope,
            "types": list(order.types),
            "since": order.since,
            "status_url": status_url,
            "manifest": None,
        }
        self._keep(_EXPORT, kept)
        return kept

    # -- its files ---------------------------------------------------------------------------

    def _read(self, reading: "_Reading", tally: Tally, total: int | None) -> None:
        key = f"{_FILE}{reading.index}"
        kept = self._kept(key)
        position = Position(**kept) if kept else Position()
        tally.read += position.lines
        if position.is_done:
            return
        lines = self._client.lines(
            reading.file.url,
            after_byte=position.bytes,
            after_line=position.lines,
            needs_token=reading.file.needs_token,
        )
        for batch in _batches(lines):
            self._take(batch, reading, tally)
            position = Position(position.lines + len(batch), batch[-1].end or 0)
            self._keep(key, vars(position))
            tally.read += len(batch)
            self._progress.reading(reading.file, tally.read, total)
        self._keep(key, vars(replace(position, is_done=True)))

    def _take(self, batch: Sequence[Line], reading: "_Reading", tally: Tally) -> None:
        if reading.file.kind == "error":
            tally.not_exported += len(batch)
        elif reading.file.kind == "deleted":
            self._take_deleted(batch, tally)
        else:
            self._take_resources(batch, reading, tally)

    def _take_resources(self, batch: Sequence[Line], reading: "_Reading", tally: Tally) -> None:
        found = [each for line in batch if (each := _found(line)) is not None]
        old: list[Found] = []
        fresh: list[Found] = []
        for each in found:
            (fresh if _is_fresh(each, reading.began_ms) else old).append(each)
        kept = self._ways.record.take(old) if old else 0
        as_events = self._ways.event.take(fresh) if fresh else 0
        taken = kept + as_events
        tally.as_events += as_events
        tally.refused += len(batch) - taken
        kind = reading.file.type
        tally.by_type[kind] = tally.by_type.get(kind, 0) + taken

    def _take_deleted(self, batch: Sequence[Line], tally: Tally) -> None:
        gone = [each for line in batch for each in _deleted(line.raw)]
        if gone:
            self._ways.event.gone(gone)
        tally.deleted += len(gone)

    def _kept(self, key: str) -> Any:  # noqa: ANN401 (our own JSON)
        with self._store.read() as uow:
            return uow.listener_state.get(self._name, key)

    def _keep(self, key: str, value: dict[str, Any]) -> None:
        with self._store.write() as uow:
            uow.listener_state.put(self._name, {key: value})


@dataclass(frozen=True)
class _Reading:
    """A file that is read.

    Attributes:
        index: Its place in the manifest.
        began_ms: Of when the export is.
    """

    file: ExportFile
    index: int
    began_ms: int


def _total(manifest: Manifest) -> int | None:
    """Say how many lines all files have; None where the EHR does not say of each."""
    counts = [each.count for each in manifest.files]
    return None if None in counts else sum(count or 0 for count in counts)


def _rank(file: ExportFile) -> tuple[bool, int]:
    """Put Patients and Consents first, and what was deleted last."""
    is_first = file.type in _FIRST_TYPES
    place = _FIRST_TYPES.index(file.type) if is_first else len(_FIRST_TYPES)
    return file.kind != "output", place


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line.raw or b"")
        if len(batch) == _BATCH or size > _MOST_BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _found(line: Line) -> Found | None:
    """Look at the resource of a line; None where there is none, or it is too long."""
    if line.raw is None:
        return None
    try:
        return found_in(line.raw)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _is_fresh(found: Found, began_ms: int) -> bool:
    """Say whether it may be on its way as an event: it just changed, and tells of a recent time."""
    if (found.updated_ms or 0) <= began_ms - _FRESH_MS:
        return False
    true_ms = _true_ms(found.raw)
    return true_ms is None or true_ms > began_ms - _RECENT_MS


def _true_ms(raw: bytes) -> int | None:
    """Give the clinical time that a result would bear; None where the resource states none."""
    try:
        effective = facts(orjson.loads(raw)).effective
    except (AttributeError, KeyError, TypeError, ValueError):
        return None  # no valid R4: it is refused where it is handed in
    return to_ms(effective) if effective else None


def _deleted(raw: bytes | None) -> list[str]:
    """Read the references that a line of a file of deletions names."""
    try:
        entries = orjson.loads(raw or b"{}").get("entry") or ()
        requests = [each.get("request") or {} for each in entries]
    except (orjson.JSONDecodeError, AttributeError):
        return []
    urls = [str(each.get("url", "")) for each in requests if each.get("method") == "DELETE"]
    return [url for url in urls if url.count("/") == 1]


def _ms(at: str) -> int:
    found = clinical_time.parse(at)
    return to_ms(found.first) if found else 0
