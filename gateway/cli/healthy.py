"""Health check of a container: `python -m gateway.cli.healthy URL` ends with 0 when it answers 200.

The image has no curl, and the check has to be light: the standard library is enough.
"""

import http.client
import sys
from urllib.parse import urlsplit

_ANSWER_WITHIN_S = 3.0


def is_healthy(url: str) -> bool:
    """Say whether an http URL answers 200 in time."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_ANSWER_WITHIN_S)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_healthy(sys.argv[1]) else 1)
