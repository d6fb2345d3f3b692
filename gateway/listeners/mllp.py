"""The listener of HL7 v2: `python -m gateway.listeners.mllp`.

For each message (of a batch, one after the other):

(1) it is read; what can't be read is refused with its reason;
(2) a repeat (the same MSH-3, MSH-4 and MSH-10 with the same bytes) is answered as before; a control
    id that comes again with other content is another message;
(3) it becomes a message Bundle, under the EHR's id of its patient;
(4) the Bundle is handed over and, once durable, acknowledged. While the gateway or the EHR is away,
    the sender waits; when the listener stops meanwhile, the sender gets no answer and will repeat.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar, cast

from adapters.hl7v2.acknowledgement import Outcome, acknowledgements, batched, refused
from adapters.hl7v2.conversion import Converted, convert
from adapters.hl7v2.dialect import Dialect, Note
from adapters.hl7v2.framing import Block
from adapters.hl7v2.identity import FindPatient, Origin, plain_id
from adapters.hl7v2.message import Message, batch_complaint, header_alone, parsed, split_batch
from adapters.hl7v2.problems import Code, Hl7Problem, Place
from adapters.hl7v2.server import Limits, MllpServer
from adapters.peer_refusal import PeerRefusal
from adapters.site import Site
from adapters.site_feeds import Feed
from adapters.tls import tls_context
from gateway import telemetry
from gateway.core.audit_refusals import UNKNOWN, Refusals
from gateway.core.clock import to_ms, utc_now
from gateway.core.errors import (
    ConfigurationError,
    GatewayError,
    Issue,
    ProcessingError,
    TransientError,
)
from gateway.listeners.desk import Desk
from gateway.listeners.door import Interrupted, NotTaken
from gateway.listeners.patients import finding
from gateway.listeners.refusals import RefusalBook
from gateway.listeners.serving import serve
from gateway.settings import get_settings

if TYPE_CHECKING:
    from adapters.site_mllp import MllpEntry

log = telemetry.get_logger()

KIND = "mllp"
#: Repeats are recognised for so long.
REMEMBERED_MS = 7 * 86_400_000
_SEEN = "seen/"
_FORGET_EVERY_S = 3600.0
_WAIT_S = 2.0
_VERSION_2 = "2."
_ENTRIES = "Bundle.entry"
_ENTRY = f"{_ENTRIES}["

T = TypeVar("T")


def dialect_of(feed: Feed, site: Site) -> Dialect:
    """Give how a feed writes, by the site file."""
    entry = cast("MllpEntry", feed.entry)
    return Dialect(
        zone=entry.zone,
        charset=entry.charset,
        authorities=entry.authorities,
        code_systems=entry.code_systems,
        local_codes=site.local_codes,
    )


def origin_of(feed: Feed, find_patient: FindPatient) -> Origin:
    """Give where the messages of a feed come from, by the site file."""
    return Origin(
        feed=feed.name,
        patient_system=feed.patients.identifier if feed.patients else "",
        find_patient=find_patient,
        has_own_patients=feed.speaks_for == feed.system,
    )


class Mllp:
    """Serves one feed."""

    def __init__(self, desk: Desk) -> None:
        """Take the desk of the feed."""
        self._desk = desk
        self._entry = cast("MllpEntry", desk.feed.entry)
        self._origin = origin_of(desk.feed, plain_id)
        self._stop = threading.Event()
        self._forget_at = time.monotonic()
        self._refusals = RefusalBook(desk)

    def run(self, stop: threading.Event) -> None:
        """Serve until told to stop.

        Raises:
            GatewayError: The port can't be listened on, or a TLS file can't be used.
        """
        self._stop = stop
        entry, tls = self._entry, self._entry.tls
        limits = Limits(
            max_bytes=entry.max_bytes,
            max_connections=entry.max_connections,
            idle_s=entry.idle_s,
            allow=tuple(entry.allow),
        )
        context = tls_context(tls.certificate, tls.key, tls.clients) if tls else None
        desk, timeout_s = self._desk, get_settings().ehr_timeout_s
        # A connection that is closed is no message: it does not end a silence.
        count = partial(telemetry.count_listened, desk.feed.name)
        server = MllpServer(self.answer, limits, tls=context, count=count, refuse=self._refused)
        at = f"{'MLLPS' if tls else 'MLLP'} on {entry.host}"
        with (
            self._refusals.kept(),
            finding(
                desk.feed, desk.store, desk.source, site=desk.site, timeout_s=timeout_s
            ) as find_patient,
        ):
            self._origin = origin_of(desk.feed, find_patient)
            server.run(
                entry.host, entry.port, stop, ready=lambda port: desk.standing.up(f"{at}:{port}")
            )

    def _refused(self, why: PeerRefusal, peer: str) -> None:
        """Tell the engineer of a peer that was refused, and the audit log."""
        self._desk.peers.note(why, peer)
        if why.is_told:
            self._refusals.note(Refusals(why.value, UNKNOWN, peer, why=f"The peer {why.says}."))

    def answer(self, block: Block, peer: str) -> list[bytes] | None:
        """Give what answers a block; None where nothing can be said, so that it is repeated."""
        messages = split_batch(block.content) if block.is_whole else [block.content]
        is_batch = messages != [block.content]
        try:
            answers = [self._answer_one(each, peer, is_whole=block.is_whole) for each in messages]
        except Interrupted:
            return None
        if is_batch:
            said = batch_complaint(block.content, len(messages))
            if said:
                self._desk.count("batch-not-whole")
            return [batched([ack for each in answers for ack in each], self._now(), said)]
        return answers[0]

    def _answer_one(self, content: bytes, peer: str, *, is_whole: bool) -> list[bytes]:
        message: Message | None = None
        try:
            # (1) read
            self._insist_on_size(is_whole=is_whole)
            message = parsed(content, charset=self._entry.charset)
            self._insist_on_header(message)
            outcome = self._taken(message, content, peer)
        except Hl7Problem as problem:
            outcome = refused(problem)
            self._desk.count(f"refused-{int(problem.code)}")
        return acknowledgements(message or header_alone(content), outcome, self._now())

    def _insist_on_size(self, *, is_whole: bool) -> None:
        if not is_whole:
            says = f"The message is larger than {self._entry.max_bytes} bytes."
            raise Hl7Problem(Code.DATA_TYPE, Place(), says)

    def _insist_on_header(self, message: Message) -> None:
        header = message.header
        if not header.value(10):
            says = "MSH-10 is empty: without a control id no answer finds its message."
            raise Hl7Problem(Code.REQUIRED_MISSING, header.at(10), says)
        # Senders that leave it empty mean production.
        if (header.text(11) or "P") not in self._entry.accept:
            says = f"Taken here: {', '.join(self._entry.accept)}."
            raise Hl7Problem(Code.UNSUPPORTED_PROCESSING_ID, header.at(11), says)
        if not header.text(12).startswith(_VERSION_2):
            raise Hl7Problem(Code.UNSUPPORTED_VERSION, header.at(12), "Versions 2.x are taken.")

    def _taken(self, message: Message, content: bytes, peer: str) -> Outcome:
        # (2) a repeat
        key, digest = self._key(message), sha256(content).hexdigest()
        seen = self._waiting(lambda: self._desk.remembered(key)).get(key) or {}
        known = seen if seen.get("sha256") == digest else {}
        if "notes" in known:
            self._desk.count("repeat")
            return Outcome(notes=tuple(_note(each) for each in known["notes"]))
        # (3) convert
        begun = known.get("received")
        received = datetime.fromisoformat(begun) if begun else utc_now()
        converted = self._converted(message, content, received)
        if converted.is_ahead:
            self._keep_reception(key, digest, received)
        # (4) it is durable when this is done
        self._hand_over(converted, peer)
        self._remember(key, digest, converted.notes)
        self._desk.count("taken")
        return Outcome(notes=converted.notes)

    def _converted(self, message: Message, content: bytes, received: datetime) -> Converted:
        dialect = dialect_of(self._desk.feed, self._desk.site())
        try:
            return self._waiting(lambda: convert(message, content, self._origin, dialect, received))
        except (ProcessingError, ConfigurationError) as error:
            log.exception("patients-not-found", route=self._desk.feed.name)
            says = "The EHR refuses the search for patients; `nadi doctor` says more."
            raise Hl7Problem(Code.INTERNAL, Place("PID", 1, 3), says) from error

    def _keep_reception(self, key: str, digest: str, received: datetime) -> None:
        """Keep when a message came whose versions go by that.

        It is durable before any of them is, so that the same message, sent again after a crash, is
        the same versions.
        """
        self._desk.count("clock-ahead")
        kept = {"sha256": digest, "received": received.isoformat()}
        self._waiting(lambda: self._desk.remember({key: kept}))

    def _hand_over(self, converted: Converted, peer: str) -> None:
        try:
            self._desk.hand_over(converted.bundle, self._stop, sender=peer)
        except NotTaken as error:
            issue = error.issues[0]
            place = _place(issue, converted)
            if issue.code == "exception":
                raise Hl7Problem(Code.INTERNAL, place, f"Not taken: {issue.diagnostics}") from error
            raise Hl7Problem(Code.DATA_TYPE, place, _refusal(issue, place)) from error

    def _waiting(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer.

        Raises:
            Interrupted: The listener stops before there is one.
        """
        while True:
            try:
                return ask()
            except TransientError:
                if self._stop.wait(_WAIT_S):
                    raise Interrupted from None

    def _key(self, message: Message) -> str:
        parts = map(message.as_sent, (3, 4, 10))
        hashed = self._desk.store.sealer.keyed_hash("hl7v2-message", self._desk.feed.name, *parts)
        return f"{_SEEN}{hashed}"

    def _remember(self, key: str, digest: str, notes: tuple[Note, ...]) -> None:
        """Keep how it was answered; where that is lost, a repeat gives the same events again."""
        kept = [[int(note.code), *vars(note.place).values(), note.says] for note in notes]
        try:
            self._desk.remember({key: {"sha256": digest, "notes": kept}}, is_durable=False)
            self._forget()
        except GatewayError:
            log.warning("database-away", route=self._desk.feed.name)

    def _forget(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + _FORGET_EVERY_S
        before_ms = to_ms(utc_now()) - REMEMBERED_MS
        with self._desk.store.write(is_durable=False) as uow:
            uow.listener_state.remove_older(self._desk.feed.name, _SEEN, before_ms)

    def _now(self) -> datetime:
        return utc_now().astimezone(self._entry.zone)


def _note(kept: list[Any]) -> Note:
    code, segment, sequence, field, says = kept
    return Note(Code(code), Place(segment, sequence, field), says)


def _refusal(issue: Issue, place: Place) -> str:
    """Say in words of HL7 what the gateway refuses."""
    if issue.expression == _ENTRIES:
        return "It holds more than the gateway takes at once: send it as several messages."
    what = "The message" if place == Place() else f"What {place.segment} says"
    return f"{what} can't be kept: {issue.diagnostics}"


def _place(issue: Issue, converted: Converted) -> Place:
    """Say which segment an entry of the Bundle came from."""
    _, _, rest = (issue.expression or "").partition(_ENTRY)
    number = rest.partition("]")[0]
    if number.isdecimal() and int(number) < len(converted.places):
        return converted.places[int(number)]
    return Place()


if __name__ == "__main__":
    serve(KIND, Mllp)
