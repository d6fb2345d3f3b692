"""The broker is a doorbell: it may lose everything, hang or die, and no event is lost for it.

Nor does it ever learn anything about a patient.
"""

import os
import re
import threading
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from gateway.settings import Settings
from tests.people import Person, person
from tests.running import RunningNadi, push, push_chart, wait_until

pytestmark = pytest.mark.integration

PATIENTS = 24
QUEUES = ("nadi.infer", "nadi.deliver")


@pytest.fixture(scope="module")
def nadi(shared_nadi: RunningNadi) -> RunningNadi:
    return shared_nadi


def broker_socket(nadi: RunningNadi) -> Path:
    return Settings(data_dir=nadi.folder).broker_socket


@contextmanager
def broker(nadi: RunningNadi) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(broker_socket(nadi)), socket_timeout=5) as client:
        yield client


@contextmanager
def meanwhile(nadi: RunningNadi, command: Sequence[str], *, every_s: float) -> Iterator[None]:
    """Send a command to the broker again and again while events flow."""
    stop = threading.Event()

    def repeat() -> None:
        with broker(nadi) as client:
            while not stop.wait(every_s):
                client.execute_command(*command)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def push_ward(nadi: RunningNadi, patients: int = PATIENTS) -> list[Person]:
    """Push the charts at once and the creatinines one by one, so that messages flow for a while."""
    people = [person("broker") for _ in range(patients)]
    for each in people:
        push_chart(nadi, *each.chart(each.consent()))
    with nadi.client() as client:
        for each in people:
            push(client, each.creatinine())
    return people


def assert_each_has_one_result(nadi: RunningNadi, people: list[Person]) -> None:
    nadi.settle()
    found = [each["subject"]["reference"] for each in nadi.results()]
    assert [found.count(each.reference) for each in people] == [1] * len(people)


def test_a_broker_that_forgets_everything_loses_nothing(nadi: RunningNadi) -> None:
    with meanwhile(nadi, ["FLUSHALL"], every_s=0.01):
        people = push_ward(nadi)
        nadi.settle()

    assert_each_has_one_result(nadi, people)


@pytest.mark.parametrize("queue", QUEUES)
def test_stolen_messages_are_sent_again(nadi: RunningNadi, queue: str) -> None:
    with meanwhile(nadi, ["LPOP", queue, "100"], every_s=0.001):
        people = push_ward(nadi)

    assert_each_has_one_result(nadi, people)


def test_a_broker_that_is_killed_again_and_again_loses_nothing(nadi: RunningNadi) -> None:
    people = []
    for _ in range(3):
        people += push_ward(nadi, 6)
        nadi.kill("broker")
        people += push_ward(nadi, 2)

    wait_until(lambda: bool(nadi.pids("broker")), within_s=60, what="the broker is back")
    assert_each_has_one_result(nadi, people)


def test_an_event_is_accepted_while_the_broker_hangs(nadi: RunningNadi) -> None:
    someone = person("broker")
    push_chart(nadi, *someone.chart(someone.consent()))

    with nadi.frozen("broker"), nadi.client() as client:
        answers = [
            client.put(
                f"/fhir/Observation/{someone.id}-creatinine",
                json=someone.creatinine(),
                headers={"Content-Type": "application/fhir+json"},
            )
            for _ in range(3)
        ]

    assert [answer.status_code for answer in answers] == [202] * 3
    assert max(answer.elapsed.total_seconds() for answer in answers) < 10
    assert_each_has_one_result(nadi, [someone])


def test_an_event_is_accepted_while_there_is_no_broker(nadi: RunningNadi) -> None:
    someone = person("broker")
    push_chart(nadi, *someone.chart(someone.consent()))
    stop = threading.Event()

    def keep_away() -> None:
        while not stop.is_set():
            nadi.kill("broker")
            stop.wait(0.05)

    thread = threading.Thread(target=keep_away)
    thread.start()
    try:
        (task_id,) = push_chart(nadi, someone.creatinine())
    finally:
        stop.set()
        thread.join()

    assert nadi.jobs_of(task_id)
    assert_each_has_one_result(nadi, [someone])


def test_the_broker_never_learns_anything_about_a_patient(nadi: RunningNadi) -> None:
    heard: list[str] = []
    with broker(nadi) as client, client.monitor() as monitor:
        listener = threading.Thread(target=_listen, args=(monitor, heard))
        listener.start()
        people = push_ward(nadi, 6)
        assert_each_has_one_result(nadi, people)
        with broker(nadi) as teller:
            teller.echo("the last word")
            kept = b" ".join(
                part for key in teller.scan_iter() for part in (key, teller.dump(key) or b"")
            )
        listener.join(10)

    bodies = [b64decode(body) for body in re.findall(r'"body": ?"([^"]+)"', " ".join(heard))]
    whole = " ".join(heard).encode() + kept + b" ".join(bodies)
    assert {b"nadi.infer", b"nadi.deliver"} <= set(re.findall(rb"nadi.(?:infer|deliver)", whole))
    assert any(job["id"].encode() in b" ".join(bodies) for job in nadi.jobs()), "bodies were read"
    for each in people:
        for secret in (each.id, "2160-0", "1961-05-01", "3.827", "Observation"):
            assert secret.encode() not in whole, secret


def _listen(monitor: redis.client.Monitor, heard: list[str]) -> None:
    for said in monitor.listen():
        heard.append(str(said["command"]))
        if "the last word" in heard[-1]:
            return


def test_nobody_else_can_reach_the_broker(nadi: RunningNadi) -> None:
    path = broker_socket(nadi)

    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.stat().st_uid == os.getuid()


def test_the_log_holds_after_all_this(nadi: RunningNadi) -> None:
    assert nadi.duplicates() == 0
    verified = nadi.nadi("audit", "verify", check=False)
    assert verified.returncode == 0, verified.stdout
