"""The relay's thread removes what has had its time, once an hour, while it leads."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.audit import Source
from gateway.core.retention import DAY_MS, Retention
from tests.hospital import Hospital, consent_of, observation
from workers.retention import RetentionRunner


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    made.site = replace(made.site, retention=Retention(is_in_force=True))
    made.push(observation(code="1751-7"))
    made.pass_time(366 * DAY_MS / 1000)
    yield made
    made.close()


def runner(hospital: Hospital) -> RetentionRunner:
    return RetentionRunner(
        hospital.store, lambda: hospital.site, Source("site", "relay"), clock=lambda: hospital.now
    )


def test_it_removes_what_is_due_and_puts_it_on_record(hospital: Hospital) -> None:
    assert runner(hospital).turn(threading.Event()) == 1
    assert ("expire", "0") in hospital.audited()


def test_without_the_key_in_the_site_file_nothing_is_removed(hospital: Hospital) -> None:
    hospital.site = replace(hospital.site, retention=Retention())

    assert runner(hospital).turn(threading.Event()) == 0


def test_it_looks_only_while_its_relay_leads_and_once_an_hour(hospital: Hospital) -> None:
    looked, stopped = threading.Semaphore(0), threading.Event()
    running = runner(hospital)
    turn = running.turn

    def counted(stop: threading.Event) -> int:
        done = turn(stop)
        looked.release()
        return done

    running.turn = counted
    thread = threading.Thread(target=running.run, args=(stopped,))
    thread.start()
    assert not looked.acquire(timeout=0.3)

    running.offer()
    assert looked.acquire(timeout=10)
    running.offer()
    assert not looked.acquire(timeout=0.3)
    hospital.pass_time(3601)
    running.offer()
    assert looked.acquire(timeout=10)

    stopped.set()
    thread.join()


def test_a_consent_without_a_version_that_comes_again_after_its_time_is_new(
    hospital: Hospital,
) -> None:
    first, second = consent_of(kind="deny"), consent_of(kind="permit")
    for each in (first, second):
        del each["meta"]
    hospital.push(first)
    hospital.push(second)
    hospital.pass_time(1100 * DAY_MS / 1000)
    runner(hospital).turn(threading.Event())

    hospital.push(first)

    with hospital.store.read() as uow:
        key = hospital.store.sealer.patient_key("ehr", "Patient/p1")
        [kept] = uow.consents.of([key])[key]
        [now] = [e for e in uow.events.recent(principal_id=None, limit=9) if e.is_current][:1]
        assert uow.events.content(now)
    assert kept.ref == f"Consent/{now.id}"
