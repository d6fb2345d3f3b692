"""The network's side: takes associations, and gives each image of a C-STORE to whoever keeps it.

* Rejected is who calls us by another name, who is not among the callers, and who is one too many.
* A PDU may be no longer than was agreed on; of a data set that is too long the rest is read and
  dropped, so that the sender is told; nothing of it is decoded.
* Success is answered when an image was kept, and only then. No room is a refusal that a sender
  repeats (A700); what is not understood is one of Cxxx, with a comment that holds no value.

Source: DICOM PS3.4 annex B (Storage), PS3.7 9.1.1 and C (statuses), PS3.8 9.3 (PDUs), PS3.15 B.
"""

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from socketserver import BaseServer
from typing import Any, cast

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.transport import (
    AssociationSocket,
    RequestHandler,
    ThreadedAssociationServer,
)

from adapters.dicom.header import TOO_MANY_BYTES, UNREADABLE, NotUnderstood
from adapters.dicom.sockets import ClosingSocket
from gateway.core.errors import ConfigurationError
from models.dicom import SYNTAXES

SUCCESS, NO_ROOM = 0x0000, 0xA700
_VERIFICATION = "1.2.840.10008.1.1"
_MAX_PDU = 128 * 1024
_ENDS_WITHIN_S = 1.0
_LONGEST_COMMENT = 64
#: A command comes before the data set.
_AROUND = 16 * 1024
_CALLING, _CALLED = 0x03, 0x07
_REASONS = {_CALLING: "refused-caller", _CALLED: "refused-called"}

# What it logs may quote what came.
logging.getLogger("pynetdicom").propagate = False


@dataclass(frozen=True)
class Stored:
    """An image as it came.

    Attributes:
        content: Its data set, without file meta information.
        syntax: UID of its transfer syntax.
        sop_class: As the command says.
        instance: SOP Instance UID, as the command says.
    """

    content: bytes
    syntax: str
    sop_class: str
    instance: str


@dataclass(frozen=True, kw_only=True)
class Terms:
    """On which terms images are taken.

    Attributes:
        title: Our AE title.
        callers: AE titles that may send.
        allow: Addresses and networks that may connect; empty for all.
        idle_s: Longest silence.
    """

    title: str
    callers: tuple[str, ...]
    allow: tuple[str, ...]
    max_bytes: int
    max_connections: int
    idle_s: float


@dataclass(frozen=True)
class Peer:
    """Who sends.

    Attributes:
        title: The AE title that it calls itself; empty where it did not come to say so.
        address: Its network address.
    """

    title: str
    address: str


#: Counts what is refused, by outcome, and whom.
Count = Callable[[str, Peer], None]


class NoRoom(Exception):
    """An image can't be kept now; it may be later."""


class DicomServer:
    """Listens on one port."""

    def __init__(
        self,
        terms: Terms,
        keep: Callable[[Stored], None],
        count: Count,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take what happens to what comes.

        Args:
            terms: On which terms it comes.
            keep: Keeps an image durably; raises `NotUnderstood` or `NoRoom`.
            count: Counts what is refused, by outcome, and whom.
            tls: DICOM over TLS.
        """
        self._terms = terms
        self._keep = keep
        self.count = count
        self._tls = tls
        self._server: _Server | None = None

    def start(self, host: str, port: int) -> int:
        """Begin to listen; give the port.

        Raises:
            ConfigurationError: The port can't be listened on.
        """
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, lambda _event: SUCCESS),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_ACCEPTED, self._accepted),
        ]
        try:
            self._server = _Server(_entity(self._terms), (host, port), handlers, self)
        except OSError as error:
            says = f"Port {port} of {host} can't be listened on: {error.strerror}."
            raise ConfigurationError(says) from error
        threading.Thread(target=self._server.serve_forever, args=(0.2,), daemon=True).start()
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Take no more, and end what is connected."""
        if self._server is None:
            return
        self._server.shutdown()
        for association in self._server.active_associations:
            association.abort()
            association.join(_ENDS_WITHIN_S)

    @property
    def terms(self) -> Terms:
        """On which terms it listens."""
        return self._terms

    @property
    def tls(self) -> ssl.SSLContext | None:
        """DICOM over TLS."""
        return self._tls

    def _store(self, event: evt.Event) -> Dataset | int:
        request: Any = event.request
        try:
            self._keep(self._stored(event, request))
        except NotUnderstood as problem:
            self.count(f"refused-{problem.status:04X}", _peer(event))
            return _answer(problem.status, problem.message)
        except NoRoom as problem:
            self.count(f"refused-{NO_ROOM:04X}", _peer(event))
            return _answer(NO_ROOM, str(problem))
        return SUCCESS

    def _stored(self, event: evt.Event, request: Any) -> Stored:  # noqa: ANN401 - a primitive
        dimse = event.assoc.dimse
        if isinstance(dimse, _LimitedDimse) and dimse.take_dropped():
            says = f"It has more than {self._terms.max_bytes} bytes."
            raise NotUnderstood(TOO_MANY_BYTES, says)
        content = request.DataSet.getvalue() if request.DataSet else b""
        if not content:
            raise NotUnderstood(UNREADABLE, "There is no data set.")
        return Stored(
            content,
            str(event.context.transfer_syntax),
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
        )

    def _rejected(self, event: evt.Event) -> None:
        answer: Any = event.assoc.acceptor.primitive
        reason = getattr(answer, "diagnostic", None)
        self.count(_REASONS.get(int(reason or 0), "refused-association"), _peer(event))

    def _accepted(self, event: evt.Event) -> None:
        for _ in event.assoc.rejected_contexts:
            self.count("refused-syntax", _peer(event))


def _peer(event: evt.Event) -> Peer:
    requestor = event.assoc.requestor
    return Peer(requestor.ae_title.strip(), str(requestor.address or ""))


def _answer(status: int, comment: str) -> Dataset:
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment[:_LONGEST_COMMENT]
    return answer


def _entity(terms: Terms) -> ApplicationEntity:
    entity = ApplicationEntity(terms.title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(terms.callers)
    entity.maximum_associations = terms.max_connections
    entity.maximum_pdu_size = _MAX_PDU
    entity.acse_timeout = entity.network_timeout = entity.dimse_timeout = terms.idle_s
    entity.add_supported_context(_VERIFICATION)
    syntaxes = sorted(SYNTAXES)
    for context in AllStoragePresentationContexts:
        if "Image Storage" in str(getattr(context.abstract_syntax, "name", "")):
            entity.add_supported_context(str(context.abstract_syntax), syntaxes)
    return entity


class _Server(ThreadedAssociationServer):
    """Waits for no handshake of TLS while others want to connect, and looks who connects."""

    daemon_threads = True

    def __init__(
        self,
        entity: ApplicationEntity,
        address: tuple[str, int],
        handlers: list[Any],
        owner: DicomServer,
    ) -> None:
        self.owner = owner
        self._allowed = [ip_network(each) for each in owner.terms.allow]
        title, contexts = owner.terms.title, entity.supported_contexts
        super().__init__(
            entity, address, title, contexts, evt_handlers=handlers, request_handler=_Handler
        )

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection; its handshake is made by the first who reads from it."""
        listening = cast("socket.socket", self.socket)
        connection, address = listening.accept()
        connection.settimeout(self.owner.terms.idle_s)
        # An answer is one small packet; it must not wait for the next one.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.owner.tls is not None:
            connection = self.owner.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def shutdown(self) -> None:
        """Take no more connections."""
        # The library's own strikes itself off a list that it is not on.
        BaseServer.shutdown(self)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        """Count a connection that ended before it was one."""
        self.owner.count("refused-connection", Peer("", str(client_address[0])))

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ANN401, ARG002
        """Say whether somebody may connect from there."""
        address = str(client_address[0])
        peer = ip_address(address.partition("%")[0])
        may_connect = not self._allowed or any(peer in network for network in self._allowed)
        if not may_connect:
            self.owner.count("refused-address", Peer("", address))
        return may_connect


class _Handler(RequestHandler):
    def _create_association(self) -> Association:
        association = super()._create_association()
        owner = cast("_Server", self.server).owner
        association.dimse = _LimitedDimse(association, owner.terms.max_bytes)
        # A second socket would announce the connection a second time.
        cast("AssociationSocket", association.dul.socket).__class__ = _LimitedSocket
        return association


class _LimitedSocket(ClosingSocket):
    """Reads no PDU that is longer than was agreed on."""

    def recv(self, nr_bytes: int) -> bytearray:
        """Read bytes.

        Raises:
            OSError: They are too many; the connection ends.
        """
        if nr_bytes > 2 * _MAX_PDU:
            raise OSError("a PDU that is longer than was agreed on")
        return super().recv(nr_bytes)


class _LimitedDimse(DIMSEServiceProvider):
    """Keeps no more of a data set than is allowed."""

    def __init__(self, association: Association, max_bytes: int) -> None:
        super().__init__(association)
        self._max_bytes = max_bytes
        self._length = 0
        self._is_dropped = False

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the next piece of a message."""
        if self.message is None:
            self._length = 0
        values = primitive.presentation_data_value_list
        # Lists, whatever the library's annotation says: it takes no tuples.
        kept: Any = [[context, self._limited(value)] for context, value in values]
        primitive.presentation_data_value_list = kept
        super().receive_primitive(primitive)

    def take_dropped(self) -> bool:
        """Say whether something of the message was dropped."""
        is_dropped, self._is_dropped = self._is_dropped, False
        return is_dropped

    def _limited(self, value: bytes) -> bytes:
        self._length += len(value) - 1
        if self._length <= self._max_bytes + _AROUND:
            return value
        if self.message is not None and self.message.data_set is not None:
            self.message.data_set.truncate(0)
        self._is_dropped = True
        return value[:1]
