"""A checkpoint as one line of a system log.

Source: RFC 5424; RFC 6587 section 3.4.1 (octet counting over TCP); RFC 5426 (UDP).
"""

import base64
import socket

from adapters.witness.entries import SyslogEntry
from adapters.witness.publication import Publication, WitnessAway, WitnessUnreadable
from gateway.core.notes import ONE_LINE

_TIMEOUT_S = 10
#: Facility "log audit" (13), severity "notice" (5).
_PRIORITY = 13 * 8 + 5


def line_of(publication: Publication) -> bytes:
    """Write the message; the whole note is in it, since a line can't hold its line breaks."""
    at = publication.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = socket.gethostname() or "-"
    encoded = base64.b64encode(publication.note.encode()).decode()
    says = f"audit log of {publication.size} entries: {ONE_LINE} {encoded}"
    return f"<{_PRIORITY}>1 {at} {host} nadi - checkpoint - {says}".encode()


class SyslogWitness:
    """Sends lines to a log server."""

    def __init__(self, entry: SyslogEntry) -> None:
        self._entry = entry

    def publish(self, publication: Publication) -> None:
        """Send one line."""
        line = line_of(publication)
        place = (self._entry.host, self._entry.port)
        try:
            if self._entry.transport == "tcp":
                with socket.create_connection(place, timeout=_TIMEOUT_S) as connection:
                    connection.sendall(b"%d %b" % (len(line), line))
            else:
                family, kind, _, _, address = socket.getaddrinfo(*place, type=socket.SOCK_DGRAM)[0]
                with socket.socket(family, kind) as connection:
                    connection.sendto(line, address)
        except OSError as error:
            message = f"The log server {place[0]}:{place[1]} did not take it ({_why(error)})."
            raise WitnessAway(message) from error

    def kept(self, origin: str) -> list[str]:  # noqa: ARG002 - the promise of a witness
        """Refuse: what is in the system log is on the log server."""
        raise WitnessUnreadable(
            "Take the line out of the log server and name the file with --from."
        )


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
