"""Sockets of associations that are closed when an association ends, however it ends."""

import socket
from contextlib import suppress
from typing import cast

from pynetdicom import evt
from pynetdicom.transport import AssociationSocket


class ClosingSocket(AssociationSocket):
    """The library's own stays open when its peer was the first to close."""

    def _shutdown_socket(self) -> None:
        if self.socket is None:
            return
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def close_in_the_end(event: evt.Event) -> None:
    """See to it, when a connection opens (`EVT_CONN_OPEN`), that it is closed in the end."""
    # A second socket would announce the connection a second time.
    wrapped = cast("AssociationSocket", event.assoc.dul.socket)
    wrapped.__class__ = ClosingSocket
    if wrapped.socket is not None:
        # A command is small; what follows it must not wait for its acknowledgement.
        wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
