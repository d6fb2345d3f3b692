"""Checkpoints leave the machine by every way there is, and what comes out can be verified."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from PIL import Image

from adapters.site import SiteWatch
from adapters.witness.files import picture
from gateway.cli.audit_witnesses import Standing, witnessing
from gateway.core.clock import utc_now
from gateway.core.ledger import read_verifier_key, verify_checkpoint
from gateway.core.notes import notes_in
from gateway.store.verification import verify
from gateway.store.witnesses import WitnessState
from tests.installation import Installation, creatinine, installation, reopened
from tests.witnessing import (
    free_port,
    mail_server,
    newest,
    put_site,
    reasons,
    serving,
    tcp_server,
    udp_server,
)
from workers.witnesses import WitnessPublisher


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("witnessed") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(creatinine("p1"))
        nadi.integrate()
    return folder


@pytest.fixture(scope="module")
def other_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("witness") / "nadi"
    with installation(folder):
        pass
    return folder


@pytest.fixture
def nadi(template: Path, tmp_path: Path) -> Iterator[Installation]:
    shutil.copytree(template, tmp_path / "nadi")
    with reopened(tmp_path / "nadi") as copy:
        yield copy


@pytest.fixture
def sister(
    nadi: Installation, other_template: Path, tmp_path: Path
) -> Iterator[tuple[Installation, str]]:
    """A second gateway that is a witness for the first, and its address."""
    folder = tmp_path / "sister"
    shutil.copytree(other_template, folder)
    with reopened(folder) as other, serving(folder) as url:
        put_site(other, f"witness_for:\n  - {nadi.keys.verifier}\n")
        put_site(nadi, f'witnesses:\n  sister: {{kind: http, url: "{url}", every_s: 1}}\n')
        time.sleep(1.1)
        yield other, url


class Publishing:
    """A publisher whose clock a test sets."""

    def __init__(self, nadi: Installation) -> None:
        self.now = utc_now()
        self._nadi = nadi
        watch = SiteWatch(nadi.store, every_s=0)
        self.publisher = WitnessPublisher(
            nadi.store, watch.current, nadi.keys.origin, clock=lambda: self.now
        )

    def turn(self, seconds: float = 0) -> dict[str, WitnessState]:
        self.now += timedelta(seconds=seconds)
        self.publisher.turn()
        with self._nadi.store.read() as uow:
            return uow.witnesses.states()


def grow(nadi: Installation) -> None:
    nadi.receive(creatinine("p1", number=int(time.monotonic_ns() % 10**9)))
    nadi.integrate()


def insist_on_note(nadi: Installation, text: str) -> None:
    """Insist that a text carries a checkpoint that verifies and is the newest."""
    [note] = notes_in(text)
    name, key = read_verifier_key(nadi.keys.verifier)
    opened = verify_checkpoint(note, key, origin=name)
    assert opened.size == newest(nadi)[0]


def test_a_file_on_another_mount_gets_each_checkpoint_once(
    nadi: Installation, tmp_path: Path
) -> None:
    path = tmp_path / "mount" / "nadi.log"
    path.parent.mkdir()
    put_site(nadi, f"witnesses:\n  mount: {{kind: file, path: {path}, every_s: 60}}\n")
    publishing = Publishing(nadi)

    publishing.turn()
    publishing.turn(seconds=61)
    assert len(notes_in(path.read_text())) == 1, "nothing was new"
    grow(nadi)
    publishing.turn(seconds=1)
    assert len(notes_in(path.read_text())) == 2, "a minute had passed"
    grow(nadi)
    state = publishing.turn(seconds=30)["mount"]

    assert len(notes_in(path.read_text())) == 2, "its interval is a minute"
    assert state.size < newest(nadi)[0]
    assert state.failures == 0


def test_a_mount_that_is_away_is_tried_again_and_never_replaced_by_this_disk(
    nadi: Installation, tmp_path: Path
) -> None:
    path = tmp_path / "mount" / "nadi.log"
    put_site(nadi, f"witnesses:\n  mount: {{kind: file, path: {path}}}\n")
    publishing = Publishing(nadi)

    first = publishing.turn()["mount"]
    second = publishing.turn(seconds=1)["mount"]
    third = publishing.turn(seconds=5)["mount"]

    assert (first.failures, second.failures, third.failures) == (1, 1, 2)
    assert "No such file" in third.problem
    assert not path.parent.exists()
    path.parent.mkdir()
    assert publishing.turn(seconds=11)["mount"].problem == ""
    insist_on_note(nadi, path.read_text())


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_log_server_gets_a_line_from_which_the_checkpoint_can_be_read(
    nadi: Installation, transport: str
) -> None:
    server = tcp_server if transport == "tcp" else udp_server
    with server() as told:
        put_site(
            nadi,
            "witnesses:\n  logs: {kind: syslog, host: 127.0.0.1, "
            f"port: {told.port}, transport: {transport}}}\n",
        )
        Publishing(nadi).turn()
        line = told.wait()

    if transport == "tcp":
        length, _, line = line.partition(b" ")
        assert int(length) == len(line), "octet counting, RFC 6587"
    assert line.startswith(b"<109>1 2")
    assert len(line.split(b" ")) >= 8, "all fields of RFC 5424 are there"
    assert b"\n" not in line
    insist_on_note(nadi, line.decode())


def test_a_mail_holds_the_checkpoint_as_it_is(nadi: Installation, tmp_path: Path) -> None:
    with mail_server() as told:
        put_site(
            nadi,
            "witnesses:\n"
            "  auditor: {kind: email, to: a@x.example, sender: n@h.example, "
            f'smtp: "127.0.0.1:{told.port}"}}\n'
            "  queue: {kind: email, to: a@x.example, sender: n@h.example, "
            f"folder: {tmp_path}}}\n",
        )
        states = Publishing(nadi).turn()
        mail = told.wait().decode()

    assert {state.problem for state in states.values()} == {""}
    [written] = tmp_path.glob("checkpoint-*.eml")
    for text in (mail, written.read_bytes().decode()):
        assert "To: a@x.example\r\n" in text
        assert "Subject: Nadi audit checkpoint" in text
        insist_on_note(nadi, text)


@pytest.mark.parametrize("form", ["svg", "png"])
def test_a_qr_code_is_drawn_to_be_printed(nadi: Installation, tmp_path: Path, form: str) -> None:
    put_site(nadi, f"witnesses:\n  paper: {{kind: qr, folder: {tmp_path}, format: {form}}}\n")

    Publishing(nadi).turn()

    [drawn] = tmp_path.glob(f"checkpoint-*.{form}")
    assert drawn.read_bytes() == picture(newest(nadi)[1], form)
    if form == "png":
        with Image.open(drawn) as image:
            assert image.width == image.height >= 6 * 53
            assert image.convert("L").getextrema() == (0, 255)
    else:
        assert b"<svg" in drawn.read_bytes()


def test_another_gateway_keeps_the_newest_checkpoint_of_a_log_that_grows(
    nadi: Installation, sister: tuple[Installation, str]
) -> None:
    other, url = sister
    publishing = Publishing(nadi)

    publishing.turn()
    for _ in range(3):
        grow(nadi)
        state = publishing.turn(seconds=2)["sister"]

    assert state.problem == ""
    kept = httpx.get(url, params={"origin": nadi.keys.origin})
    insist_on_note(nadi, kept.text)
    assert sum("checkpoint of another log" in body for body in reasons(other)) == 4


@pytest.mark.parametrize(
    "change",
    ["set size = size - 1", "set note = note || ' '", "set received_ms = 1", None],
)
def test_what_a_witness_keeps_is_itself_verified(
    nadi: Installation, sister: tuple[Installation, str], change: str | None
) -> None:
    other, _ = sister
    Publishing(nadi).turn()
    assert findings(other) == set()

    with other.store.engine.begin() as connection:
        statement = f"update witnessed_logs {change}" if change else "delete from witnessed_logs"
        connection.exec_driver_sql(statement)

    assert findings(other) == {"witnessed_logs"}


def findings(nadi: Installation) -> set[str]:
    with nadi.store.read() as uow:
        report = verify(uow, nadi.keys.verifier, outside=[], progress=lambda *_: None)
    # Nothing was integrated there yet.
    return {each.table for each in report.findings}


@pytest.mark.usefixtures("sister")
def test_a_witness_that_is_further_than_remembered_is_asked_from_where_it_is(
    nadi: Installation,
) -> None:
    Publishing(nadi).turn()
    with nadi.store.write() as uow:
        uow.witnesses.keep(WitnessState("sister"))
    grow(nadi)

    state = Publishing(nadi).turn()["sister"]

    assert (state.size, state.problem) == (newest(nadi)[0], "")


@pytest.mark.usefixtures("sister")
def test_a_log_that_was_rolled_back_is_refused_and_stays_marked(
    nadi: Installation, template: Path
) -> None:
    grow(nadi)
    Publishing(nadi).turn()
    site = nadi.site()
    nadi.store.close()
    shutil.copy(template / "nadi.db", nadi.folder / "nadi.db")
    for name in ("nadi.db-wal", "nadi.db-shm"):
        (nadi.folder / name).unlink(missing_ok=True)

    with reopened(nadi.folder) as back:
        publisher = WitnessPublisher(back.store, lambda: site, back.keys.origin)
        publisher.turn()
        [found] = witnessing(site, back.store)

    assert found.standing is Standing.DISAGREES
    assert "cut or rolled back" in found.says


def test_a_log_that_forked_is_refused_and_the_witness_has_it_on_record(
    nadi: Installation, sister: tuple[Installation, str], template: Path
) -> None:
    other, _ = sister
    grow(nadi)
    Publishing(nadi).turn()
    size, site = newest(nadi)[0], nadi.site()
    nadi.store.close()
    shutil.copy(template / "nadi.db", nadi.folder / "nadi.db")
    for name in ("nadi.db-wal", "nadi.db-shm"):
        (nadi.folder / name).unlink(missing_ok=True)

    with reopened(nadi.folder) as back:
        while newest(back)[0] <= size:
            grow(back)
        WitnessPublisher(back.store, lambda: site, back.keys.origin).turn()
        [found] = witnessing(site, back.store)

    assert found.standing is Standing.DISAGREES
    assert "forked" in found.says
    assert any("does not continue" in body for body in reasons(other))


def test_a_witness_that_is_away_is_tried_again(nadi: Installation) -> None:
    url = f"http://127.0.0.1:{free_port()}/witness/checkpoints"
    put_site(
        nadi,
        f'witnesses:\n  away: {{kind: http, url: "{url}", timeout_s: 2}}\n'
        f"  logs: {{kind: syslog, host: 127.0.0.1, port: {free_port()}}}\n"
        "  mail: {kind: email, to: a@x.example, sender: n@h.example, "
        f'smtp: "127.0.0.1:{free_port()}"}}\n',
    )

    states = Publishing(nadi).turn()

    assert {name: state.failures for name, state in states.items()} == {
        "away": 1,
        "logs": 1,
        "mail": 1,
    }
    assert "can't be reached" in states["away"].problem
    assert not any(state.disagrees for state in states.values())


def test_an_offer_returns_at_once_while_a_witness_is_slow(nadi: Installation) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        put_site(nadi, f'witnesses:\n  slow: {{kind: http, url: "{url}", timeout_s: 3}}\n')
        publishing, stopped = Publishing(nadi), threading.Event()
        thread = threading.Thread(target=publishing.publisher.run, args=(stopped,), daemon=True)
        thread.start()

        began = time.perf_counter()
        for _ in range(100):
            publishing.publisher.offer()
        took_s = time.perf_counter() - began
        wait_for(lambda: "slow" in states(nadi))
        stopped.set()
        thread.join(20)

    assert took_s < 3, "one answer alone would take that long"
    assert states(nadi)["slow"].failures >= 1


def states(nadi: Installation) -> dict[str, WitnessState]:
    with nadi.store.read() as uow:
        return uow.witnesses.states()


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_witnesses_nothing_is_sent(nadi: Installation) -> None:
    assert Publishing(nadi).turn() == {}
