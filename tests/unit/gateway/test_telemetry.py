"""Logs, metrics and traces hold codes and ids, never content."""

import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from gateway import telemetry
from gateway.cli.healthy import is_healthy
from gateway.core.errors import StoreUnavailable
from gateway.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
CANARY = "Meenakshi Canary 4711"


@pytest.fixture
def lines():
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    telemetry.configure("api", Settings(), stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def test_a_line_is_json_with_event_level_time_and_process(lines):
    telemetry.get_logger().info("job-claimed", job_id="j1", count=3)

    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "job-claimed",
        "level": "info",
        "process": "api",
        "job_id": "j1",
        "count": 3,
    }


def test_keys_that_are_not_allow_listed_are_dropped(lines):
    telemetry.get_logger().info("received", patient=CANARY, body={"a": CANARY}, route="ckd")

    (line,) = lines()
    assert CANARY not in json.dumps(line)
    assert line["route"] == "ckd"


def test_an_allowed_key_still_takes_no_structure_and_no_long_text(lines):
    telemetry.get_logger().info("received", state={"name": CANARY}, reason_code="x" * 500)

    (line,) = lines()
    assert "state" not in line
    assert "reason_code" not in line


def test_an_event_that_is_not_a_name_is_not_logged(lines):
    telemetry.get_logger().info(f'{{"family": "{CANARY}"}}')

    (line,) = lines()
    assert line["event"] == "unnamed"


def test_a_traceback_has_places_and_classes_but_no_message_and_no_locals(lines):
    def read(name):
        try:
            int(name)
        except ValueError as error:
            raise KeyError(name) from error

    try:
        read(CANARY)
    except KeyError:
        telemetry.get_logger().exception("inference-failed")

    (line,) = lines()
    assert CANARY not in json.dumps(line)
    assert line["error"] == "KeyError"
    assert line["trace"][0] == "KeyError"
    assert "ValueError" in line["trace"]
    assert any("test_telemetry.py" in place for place in line["trace"])


def test_what_libraries_log_keeps_logger_place_and_class_only(lines):
    try:
        int(CANARY)
    except ValueError:
        logging.getLogger("kombu.transport").exception("cannot send %s", CANARY)

    (line,) = lines()
    assert CANARY not in json.dumps(line)
    assert line["event"] == "library"
    assert line["logger"] == "kombu.transport"
    assert line["place"].startswith("test_telemetry:")
    assert line["error"] == "ValueError"


def test_harmless_messages_of_libraries_become_events_of_ours(lines):
    logging.getLogger("uvicorn.error").info("Application startup complete.")
    logging.getLogger("celery.worker").error(
        "consumer: Cannot connect to %s: %s.\n%s\n", "url", CANARY, 1
    )

    assert [line["event"] for line in lines()] == ["http ready", "broker away"]
    assert CANARY not in json.dumps(lines())


@pytest.mark.parametrize("name", ["httpx", "sqlalchemy.engine", "uvicorn.access", "celery.app"])
def test_chatty_libraries_are_silent_below_warning(lines, name):
    logging.getLogger(name).info("GET /fhir/Patient?name=%s", CANARY)

    assert lines() == []


def test_a_crashing_thread_is_logged_without_its_message(lines):
    def crash():
        raise ValueError(CANARY)

    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()

    (line,) = lines()
    assert line["event"] == "crashed"
    assert line["error"] == "ValueError"
    assert CANARY not in json.dumps(line)


def test_a_terminal_gets_lines_for_people():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(
        telemetry._chain("api", terminal=Terminal().isatty())[-1], structlog.dev.ConsoleRenderer
    )


def _samples() -> dict[str, float]:
    text = telemetry.render_metrics().decode()
    return {
        sample.name + "".join(f",{v}" for _, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_verb_is_counted_and_timed():
    before = _samples()

    telemetry.count_received("ehr", "accepted", 2)
    telemetry.count_admitted("ckd", "job")
    telemetry.count_job("ckd", "completed", "delivered")
    telemetry.count_refusal("input-missing")
    telemetry.count_delivery_attempt("ehr", "delivered")
    telemetry.observe_delivery_lag("ehr", 0.2)
    with telemetry.step("infer", count=8):
        pass

    # The metrics are the process's: other tests count too.
    grown = {name: value - before.get(name, 0) for name, value in _samples().items()}
    assert grown["nadi_received_total,accepted,ehr"] == 2
    assert grown["nadi_admitted_total,job,ckd"] == 1
    assert grown["nadi_jobs_total,delivered,ckd,completed"] == 1
    assert grown["nadi_refusals_total,input-missing"] == 1
    assert grown["nadi_delivery_attempts_total,delivered,ehr"] == 1
    assert grown["nadi_delivery_lag_seconds_count,ehr"] == 1
    assert grown["nadi_step_seconds_count,infer"] == 1
    assert grown["nadi_step_items_total,infer"] == 8


def test_levels_are_read_from_the_database_at_the_scrape():
    telemetry.report_levels(
        lambda: telemetry.Levels(jobs={"ready": 4}, deliveries={"pending": 1}, audit_lag_s=0.5)
    )

    samples = _samples()
    assert samples["nadi_database_up"] == 1
    assert samples["nadi_jobs,ready"] == 4
    assert samples["nadi_deliveries,pending"] == 1
    assert samples["nadi_audit_lag_seconds"] == 0.5


def test_a_scrape_survives_a_database_that_is_away():
    def away():
        raise StoreUnavailable

    telemetry.report_levels(away)

    assert _samples()["nadi_database_up"] == 0


def test_several_processes_of_a_machine_add_up_in_one_scrape(tmp_path):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    count = "from gateway import telemetry as t; t.count_received('ehr', 'accepted', 5)"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", count], cwd=ROOT, env=environment, check=True)

    show = "from gateway import telemetry as t; print(t.render_metrics().decode(), t.is_shared())"
    shown = subprocess.run(
        [sys.executable, "-c", show], cwd=ROOT, env=environment, check=True, capture_output=True
    ).stdout.decode()

    assert 'nadi_received_total{outcome="accepted",system="ehr"} 10.0' in shown
    assert shown.endswith("True\n")


def test_a_span_costs_nothing_when_traces_are_off():
    with telemetry.span("infer", job_id="j1") as current:
        assert current is None


def test_the_traces_sdk_is_not_even_imported_when_traces_are_off():
    code = "import sys, gateway.telemetry; print('opentelemetry.sdk' in sys.modules)"

    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)

    assert shown.stdout == b"False\n"


def test_spans_carry_allow_listed_attributes_only(monkeypatch):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry._Traces, "tracer", provider.get_tracer("test"))

    with pytest.raises(ValueError, match="Canary"), telemetry.span("infer", count=2, name2=CANARY):
        raise ValueError(CANARY)

    (finished,) = exporter.get_finished_spans()
    assert dict(finished.attributes) == {"count": 2}
    assert finished.events == ()
    assert CANARY not in finished.to_json()


def test_a_worker_of_its_own_serves_its_metrics_on_a_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    server, thread = telemetry.serve_metrics(port)

    assert is_healthy(f"http://127.0.0.1:{port}/metrics")
    assert not is_healthy(f"http://127.0.0.1:{port + 1}/metrics")
    server.shutdown()
    server.server_close()
    thread.join()
