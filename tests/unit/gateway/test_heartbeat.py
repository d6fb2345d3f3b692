"""Signs of life: given while work goes on, withheld when it is stuck, and heard."""

import asyncio
import os
import socket
import threading

import pytest

from gateway.heartbeat import Heartbeat
from gateway.pulse import PingPulse, PipePulse


@pytest.fixture
def pulse():
    made = PipePulse()
    yield made
    made.close()
    os.close(made.write_end)


class Time:
    now = 0.0

    def __call__(self):
        return self.now


def heart(descriptor, time=None):
    return Heartbeat(descriptor, hung_after_s=0.2, stuck_after_s=60, monotonic=time or Time())


def test_a_sign_is_heard_once(pulse):
    assert not pulse.heard()

    heart(pulse.write_end).beat()

    assert pulse.heard()
    assert not pulse.heard()


def test_work_that_takes_too_long_withholds_the_sign_until_it_ends(pulse):
    time = Time()
    beating = heart(pulse.write_end, time)

    with beating.working():
        time.now = 59
        with beating.working():
            time.now = 61
            assert beating.beat()
            assert not pulse.heard()
    beating.beat()

    assert pulse.heard()


def test_work_that_fails_is_no_longer_under_way(pulse):
    time = Time()
    beating = heart(pulse.write_end, time)

    with pytest.raises(ZeroDivisionError), beating.working():
        raise ZeroDivisionError
    time.now = 1000

    assert not beating.is_stuck


def test_a_thread_gives_signs_until_nobody_listens():
    pulse = PipePulse()
    heard = threading.Event()
    heart(pulse.write_end).start()

    while not heard.wait(0.01):
        if pulse.heard():
            heard.set()
    pulse.close()

    assert "heartbeat" in {each.name for each in threading.enumerate()}
    _until_no_thread("heartbeat")
    os.close(pulse.write_end)


def _until_no_thread(name):
    for each in threading.enumerate():
        if each.name == name:
            each.join(5)
            assert not each.is_alive()


def test_an_event_loop_that_stands_still_gives_none(pulse):
    async def stand_still():
        beating = asyncio.create_task(heart(pulse.write_end).keep_beating())
        await asyncio.sleep(0.1)
        moved = pulse.heard()
        threading.Event().wait(0.3)
        stood = pulse.heard()
        beating.cancel()
        return moved, stood

    assert asyncio.run(stand_still()) == (True, False)


def test_a_full_pipe_holds_nobody_up(pulse):
    beating = heart(pulse.write_end)

    assert all(beating.beat() for _ in range(70_000))


def test_without_a_pipe_nothing_is_written(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        assert not heart(file.fileno()).beat()
    assert not heart(None).beat()
    assert not heart(987_654).beat()
    assert (tmp_path / "file").read_bytes() == b""


@pytest.fixture
def server(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        yield tmp_path / "s", listening


def test_a_server_that_answers_is_heard(server):
    path, listening = server
    pulse = PingPulse(path)

    assert not pulse.heard()
    answering, _ = listening.accept()
    with answering:
        assert answering.recv(10) == b"PING\r\n"
        answering.sendall(b"+PONG\r\n")

        assert pulse.heard()
        assert not pulse.heard()
    pulse.close()


def test_a_server_that_hung_up_is_asked_anew(server):
    path, listening = server
    pulse = PingPulse(path)
    pulse.heard()
    listening.accept()[0].close()

    assert not pulse.heard()
    assert not pulse.heard()
    again, _ = listening.accept()
    with again:
        again.sendall(b"+PONG\r\n")
        assert pulse.heard()
    pulse.close()


def test_a_server_that_is_away_or_answers_nothing_is_not_heard(server, tmp_path):
    path, _ = server
    silent, nobody = PingPulse(path), PingPulse(tmp_path / "nobody")

    assert not any(silent.heard() for _ in range(20_000))
    assert not any(nobody.heard() for _ in range(3))
    silent.close()
    nobody.close()
