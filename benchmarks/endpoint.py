"""Where a server of this machine answers."""

import http.client
import socket
import time
from dataclasses import dataclass

_START_WITHIN_S = 60.0


@dataclass(frozen=True)
class Endpoint:
    """Where a server of this machine answers.

    Attributes:
        accepts: The status by which it says that it has taken something.
    """

    port: int
    token: str = ""
    accepts: int = 202

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection that is kept."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    @property
    def headers(self) -> dict[str, str]:
        """What every request says of itself."""
        return {
            "Content-Type": "application/fhir+json",
            "Authorization": f"Bearer {self.token}",
        }


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_ok(endpoint: Endpoint, path: str, *, within_s: float = _START_WITHIN_S) -> None:
    """Wait for a 200.

    Raises:
        TimeoutError: None came in time, within a minute if nothing else is said.
    """
    limit = time.monotonic() + within_s
    while time.monotonic() < limit:
        connection = endpoint.connect()
        try:
            connection.request("GET", path)
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    raise TimeoutError(f"nothing answers at {path} of port {endpoint.port}")
