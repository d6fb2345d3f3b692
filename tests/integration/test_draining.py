"""Stopping and starting while events flow: SIGTERM drains, and nothing has to be pushed again."""

import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.people import Person, person
from tests.running import RunningNadi, push, push_chart, running_nadi

pytestmark = pytest.mark.integration

PATIENTS = 60
DRAINED_WITHIN_S = 20.0


def test_sigterm_in_full_flow_drains_in_time_and_a_restart_finishes_everything(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "nadi"
    with running_nadi(folder) as nadi:
        people = [person("drained") for _ in range(PATIENTS)]
        for each in people:
            push_chart(nadi, *each.chart(each.consent()))
        acknowledged: list[Person] = []
        pusher = threading.Thread(target=_push_until_refused, args=(nadi, people, acknowledged))
        pusher.start()
        while len(acknowledged) < PATIENTS // 4:
            time.sleep(0.02)

        started = time.monotonic()
        nadi.process.send_signal(signal.SIGTERM)
        code = nadi.process.wait(DRAINED_WITHIN_S + 5)
        drained_s = time.monotonic() - started
        pusher.join()

    assert code == 0
    assert drained_s < DRAINED_WITHIN_S
    assert "killed" not in nadi.log.read_text(), "every process ended by itself"
    assert len(acknowledged) < PATIENTS, "it was stopped in the middle"

    with running_nadi(folder) as nadi:
        nadi.settle()
        found = [each["subject"]["reference"] for each in nadi.results()]
        assert [found.count(each.reference) for each in acknowledged] == [1] * len(acknowledged)
        assert nadi.duplicates() == 0
        assert nadi.nadi("audit", "verify", check=False).returncode == 0


def _push_until_refused(
    nadi: RunningNadi, people: list[Person], acknowledged: list[Person]
) -> None:
    with nadi.client() as client:
        for each in people:
            try:
                push(client, each.creatinine(), patience_s=0)
            except (AssertionError, httpx.HTTPError):
                return
            acknowledged.append(each)
