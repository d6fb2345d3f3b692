"""Which processes `nadi up` runs."""

import os
from pathlib import Path

from gateway.cli.processes import broker, broker_program, children, listener, play
from gateway.queue import DELIVER_QUEUE, INFER_QUEUE
from gateway.settings import Settings

SETTINGS = Settings(data_dir=Path("/srv/nadi"), port=8081, sandbox_port=8091)


def test_the_embedded_broker_comes_first_and_keeps_nothing_on_disk():
    first = children(SETTINGS, sandbox=False)[0]

    assert first.name == "broker"
    assert first.makes == SETTINGS.broker_socket
    options = dict(zip(first.command[1::2], first.command[2::2], strict=True))
    assert options["--port"] == "0"
    assert options["--save"] == ""
    assert options["--appendonly"] == "no"
    assert options["--unixsocketperm"] == "700"


def test_there_is_a_server_program_to_run():
    assert os.access(broker_program(), os.X_OK)
    assert broker(SETTINGS).command[0] == str(broker_program())


def test_a_broker_that_is_named_is_not_started():
    named = Settings(broker_url="redis://elsewhere/0")

    names = [child.name for child in children(named, sandbox=False)]

    assert names == ["api", "relay", INFER_QUEUE, DELIVER_QUEUE]


def test_a_stop_closes_the_door_first_and_the_broker_last():
    phases = {child.name: child.stop_phase for child in children(SETTINGS, sandbox=True)}

    assert play(SETTINGS, 3).stop_phase < phases["api"] < phases["infer"] == phases["deliver"]
    assert phases["deliver"] < phases["relay"], "it gives their last events a place in the log"
    assert phases["relay"] < phases["broker"] == phases["sandbox"]


def test_each_process_learns_where_it_is_and_who():
    for child in children(SETTINGS, sandbox=True)[1:]:
        assert child.environment["NADI_DATA_DIR"] == "/srv/nadi"
        assert child.environment["NADI_PORT"] == "8081"
        assert child.environment["NADI_SANDBOX_PORT"] == "8091"
        assert child.environment["NADI_WORKER_NAME"].startswith(f"{child.name}@")
        assert child.environment["PROMETHEUS_MULTIPROC_DIR"] == "/srv/nadi/run/metrics"


def test_everything_that_is_kept_running_is_watched_but_the_stand_in_ehr():
    kept = [*children(SETTINGS, sandbox=True), listener(SETTINGS, "mllp")]

    unwatched = [child.name for child in kept if child.hung_after_s != SETTINGS.hung_after_s]

    assert unwatched == ["sandbox"]
    assert [child.name for child in kept if child.is_pinged] == ["broker"]


def test_no_environment_shows_up_when_a_child_is_printed():
    assert "NADI_" not in repr(children(SETTINGS, sandbox=False))
