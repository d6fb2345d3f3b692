"""Flood the open port of a real `nadi up`: `python -m tests.fuzz.flood`.

Half-open, dripping and bomb-throwing connections from several addresses of this machine, while
one caller goes on pushing. Prints how long that caller waited, what memory the API process took,
and how the hostile connections ended. Ends with 1 when a caller waited 2 s or got a 5xx.
"""

import gzip
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from tests.factories import patient, raw
from tests.fuzz.target import SLOW_S
from tests.running import RunningNadi, running_nadi

_EACH = 100
_HEADER_S, _BODY_S, _LASTS_S = 4, 6, 12
_HEAD = b"POST /fhir HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\n"
_BOMB = gzip.compress(b" " * 50_000_000)
_KINDS = {
    "half-open": b"",
    "headers never end": b"GET / HTTP/1.1\r\nX: ",
    "body never comes": _HEAD + b"Content-Length: 1000\r\n\r\n{",
    "endless header": b"GET / HTTP/1.1\r\nX: " + b"a" * 300_000,
}


def main() -> int:
    """Flood and print."""
    limits = {"NADI_HEADER_TIMEOUT_S": str(_HEADER_S), "NADI_BODY_TIMEOUT_S": str(_BODY_S)}
    with (
        tempfile.TemporaryDirectory(prefix="nadi-flood-") as folder,
        running_nadi(Path(folder) / "data", environment=limits) as nadi,
    ):
        return _flooded(nadi)


def _flooded(nadi: RunningNadi) -> int:
    api = psutil.Process(nadi.pids("api")[0])
    waits, statuses, ended = [], set(), threading.Event()
    before = api.memory_info().rss
    pusher = threading.Thread(target=_push, args=(nadi, waits, statuses, ended))
    bomber = threading.Thread(target=_bomb, args=(nadi, ended))
    with ExitStack() as stack:
        pusher.start()
        bomber.start()
        held = {kind: _opened(stack, nadi, kind, number) for number, kind in enumerate(_KINDS)}
        most = _watched(api)
        ended.set()
        pusher.join()
        bomber.join()
        dropped = {kind: sum(map(_is_over, each)) for kind, each in held.items()}
    _say(f"pushes {len(waits)}, statuses {sorted(statuses)}, slowest {max(waits):.2f} s")
    _say(
        f"memory of the API process: {before / 2**20:.0f} MB before, {most / 2**20:.0f} MB at most"
    )
    for kind, count in dropped.items():
        _say(f"{kind}: {count} of {_EACH} connections dropped")
    is_well = max(waits) < SLOW_S and max(statuses) < 500 and set(dropped.values()) == {_EACH}
    return 0 if is_well else 1


def _opened(stack: ExitStack, nadi: RunningNadi, kind: str, number: int) -> list[socket.socket]:
    """Open connections of one kind from an address of its own."""
    port = int(nadi.base.rpartition(":")[2])
    made = []
    for _ in range(_EACH):
        each = socket.create_connection(("127.0.0.1", port), 5, (f"127.0.0.{number + 2}", 0))
        stack.enter_context(each)
        each.setblocking(False)
        with suppress(OSError):  # dropped before it said all
            each.send(_KINDS[kind])
        made.append(each)
    return made


def _push(
    nadi: RunningNadi, waits: list[float], statuses: set[int], ended: threading.Event
) -> None:
    with nadi.client() as client:
        number = 0
        while not ended.is_set():
            number += 1
            began = time.monotonic()
            answer = client.post(
                "/fhir/Patient",
                content=raw(patient(number)),
                headers={"Content-Type": "application/fhir+json"},
            )
            waits.append(time.monotonic() - began)
            statuses.add(answer.status_code)
            time.sleep(0.02)


def _bomb(nadi: RunningNadi, ended: threading.Event) -> None:
    headers = {"Content-Type": "application/fhir+json", "Content-Encoding": "gzip"}
    bodies = [(_BOMB, headers), (b"[" * 1_000_000, {"Content-Type": "application/json"})]
    with nadi.client() as client:
        while not ended.is_set():
            for body, told in bodies:
                client.post("/fhir", content=body, headers=told)


def _watched(process: psutil.Process) -> int:
    most, end = 0, time.monotonic() + _LASTS_S
    while time.monotonic() < end:
        most = max(most, process.memory_info().rss)
        time.sleep(0.1)
    return most


def _is_over(each: socket.socket) -> bool:
    """Say whether the server has closed a connection, after whatever it said."""
    try:
        while each.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
