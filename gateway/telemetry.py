"""What Nadi says of itself: logs through an allow-list, metrics for every verb, traces on request.

* A log line is an event name and allow-listed keys; everything else is dropped, whoever logs it.
  Libraries keep only logger, place, level and error class, for their messages may quote content.
* A traceback is a list of file, line and function; no message of an exception, no locals.
* Metrics carry codes as labels: systems, routes, states and reasons, never a patient's anything.
* Traces are off, and cost nothing, unless `NADI_OTLP_ENDPOINT` is set.

Call `configure` once per process, before anything logs.
"""

import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
    start_http_server,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway import metric_files
from gateway.levels import Levels, LevelsCollector
from gateway.settings import Settings

#: The only keys that reach a log line. None of them may ever hold a patient's value.
ALLOWED_KEYS = frozenset(
    {
        "event", "level", "timestamp", "process", "pid", "port", "logger", "place", "trace",
        "job_id", "event_id", "delivery_id", "batch_id", "request_id", "audit_id",
        "route", "system", "model", "model_digest", "site_version",
        "step", "state", "business_status", "outcome", "decision", "reason_code",
        "issue_type", "status", "error", "attempt", "retry_in_s",
        "count", "size_bytes", "duration_ms", "lag_ms", "tree_size",
        "exit_code", "restarts", "resource_type", "role",
        # Network address of a machine that was refused, and why: one of a table of ours.
        "peer", "reason",
    }
)  # fmt: skip

#: Messages of libraries that say where a process is in its life, and the event they become.
HARMLESS_MESSAGES = {
    "Application startup complete.": "http ready",
    "Application shutdown complete.": "http stopped",
    "Shutting down": "http stopping",
    "Waiting for connections to close. (CTRL+C to force quit)": "http draining",
    "consumer: Cannot connect to %s: %s.\n%s\n": "broker away",
    "consumer: Connection to broker lost. Trying to re-establish the connection...": "broker lost",
    "Connected to %s": "broker reached",
    "%s ready.": "worker ready",
}

_EVENT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 _.:,-]{0,79}")
_LONGEST_VALUE = 200
_LIBRARIES = ("httpx", "httpcore", "uvicorn", "celery", "kombu", "amqp", "sqlalchemy", "alembic")

Span = AbstractContextManager[object]


# --- Logs -----------------------------------------------------------------------------------


def configure(process: str, settings: Settings, *, stream: TextIO | None = None) -> None:
    """Set up the logs, metrics and traces of this process.

    Args:
        process: Name that every line carries, for example `api`.
        settings: Gives `log_level`, `metrics_port` and `otlp_endpoint`.
        stream: Where lines go; standard error when absent.
    """
    out = stream or sys.stderr
    level = logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
    chain = _chain(process, terminal=out.isatty())
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    _adopt_libraries(level)
    _adopt_crashes()
    if settings.metrics_port and not is_shared():
        serve_metrics(settings.metrics_port)
    if settings.otlp_endpoint:
        _start_traces(process, settings.otlp_endpoint)


@contextmanager
def hushed() -> Iterator[list[str]]:
    """Keep what is logged meanwhile off the terminal of a command; give its names as they come.

    For a command that says itself what came of it.
    """
    names: list[str] = []

    def keep(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        names.append(str(event["event"]))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    try:
        yield names
    finally:
        structlog.configure(**before)


def get_logger() -> Any:  # noqa: ANN401 (structlog's own return type)
    """Give a logger: `log.info("job-claimed", job_id=..., count=...)`."""
    return structlog.get_logger()


def _chain(process: str, *, terminal: bool) -> list[Processor]:
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )

    def add_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_process,
        describe_exception,
        keep_allowed,
        renderer,
    ]


def describe_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace an exception by its class name and the places it passed."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["trace"] = places(error)
    return event


def places(error: BaseException) -> list[str]:
    """List where an exception and its causes passed: class names, files, lines, functions."""
    found: list[str] = []
    current: BaseException | None = error
    while current is not None and len(found) < _LONGEST_VALUE:
        found.append(type(current).__name__)
        found += [
            f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(current.__traceback__)
        ]
        current = current.__cause__ or current.__context__
    return found


def keep_allowed(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop every key that is not allow-listed and every value that is not a short scalar."""
    kept = {
        key: value
        for key, value in event.items()
        if key in ALLOWED_KEYS and (key == "trace" or _is_short_scalar(value))
    }
    if not _EVENT_NAME.fullmatch(str(kept.get("event", ""))):
        kept["event"] = "unnamed"
    return kept


def _is_short_scalar(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_VALUE
    return value is None or isinstance(value, bool | int | float)


class _Adopted(logging.Handler):
    """Passes what libraries log on to our chain, stripped to logger, place and error class."""

    def emit(self, record: logging.LogRecord) -> None:
        event = HARMLESS_MESSAGES.get(str(record.msg))
        if event is None and record.levelno < logging.WARNING:
            return
        structlog.get_logger().log(
            min(record.levelno // 10 * 10, logging.CRITICAL),
            event or "library",
            logger=record.name,
            place=f"{record.module}:{record.lineno}",
            exc_info=record.exc_info,
        )


def _adopt_libraries(level: int) -> None:
    root = logging.getLogger()
    root.handlers = [_Adopted()]
    root.setLevel(max(level, logging.INFO))
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = True
        library.setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)


def _adopt_crashes() -> None:
    """Keep the interpreter from printing an exception's message when a thread or process ends."""

    def crashed(
        _kind: type[BaseException], error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        structlog.get_logger().error("crashed", exc_info=error)

    sys.excepthook = crashed
    threading.excepthook = lambda args: crashed(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: crashed(args.exc_type, args.exc_value, args.exc_traceback)


# --- Metrics --------------------------------------------------------------------------------

metric_files.keep_room()
_registry = CollectorRegistry()
ProcessCollector(registry=_registry)

_STEP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LAG_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 120, 600, 3600, 21600, 86400)

_dropped = Counter(
    "nadi_connections_dropped_total",
    "Connections closed by a limit.",
    ["reason"],
    registry=_registry,
)
_received = Counter(
    "nadi_received_total", "Resources received.", ["system", "outcome"], registry=_registry
)
_admitted = Counter(
    "nadi_admitted_total", "Admission decisions.", ["route", "decision"], registry=_registry
)
_jobs = Counter(
    "nadi_jobs_total",
    "State changes of jobs.",
    ["route", "state", "business_status"],
    registry=_registry,
)
_refusals = Counter("nadi_refusals_total", "Reasoned refusals.", ["reason"], registry=_registry)
_steps = Histogram(
    "nadi_step_seconds",
    "Duration of a verb, one observation per batch.",
    ["step"],
    buckets=_STEP_BUCKETS_S,
    registry=_registry,
)
_batches = Counter(
    "nadi_step_items_total", "Items that went through a verb.", ["step"], registry=_registry
)
_delivery_lag = Histogram(
    "nadi_delivery_lag_seconds",
    "From reception of the event to the stored result.",
    ["system"],
    buckets=_LAG_BUCKETS_S,
    registry=_registry,
)
_delivery_attempts = Counter(
    "nadi_delivery_attempts_total",
    "Attempts at a write-back.",
    ["system", "outcome"],
    registry=_registry,
)


_glass = Counter(
    "nadi_break_glass_total", "Uses of break-glass.", ["route", "outcome"], registry=_registry
)
_cds = Counter(
    "nadi_cds_answers_total",
    "Answers to CDS Hooks calls.",
    ("service", "outcome"),
)

_listened = Counter(
    "nadi_listener_messages_total",
    "What listeners took.",
    ["listener", "outcome"],
    registry=_registry,
)

_not_ours = Counter(
    "nadi_audit_not_ours_total",
    "AuditEvents in the database that nobody with the master key wrote.",
    registry=_registry,
)
_no_room = Counter(
    "nadi_refused_for_room_total",
    "Requests answered 503 by what was short.",
    ["of"],
    registry=_registry,
)


_peers = Counter(
    "nadi_peers_refused_total",
    "Connections to ports of listeners that were refused before any message.",
    ["listener", "reason"],
    registry=_registry,
)


def count_refused_peer(listener: str, reason: str) -> None:
    """Count a connection that was refused: no-certificate, no-tls, not-allowed and the like."""
    _peers.labels(listener, reason).inc()


def count_listened(listener: str, outcome: str, count: int = 1) -> None:
    """Count what a listener was sent: outcome `taken`, `repeat`, or why it was refused."""
    _listened.labels(listener, outcome).inc(count)


_probe_lag = Histogram(
    "nadi_feed_probe_seconds",
    "From a probe written in the EHR to its arrival here.",
    ["listener"],
    buckets=_LAG_BUCKETS_S,
    registry=_registry,
)
_feed_steps = Counter(
    "nadi_feed_steps_total",
    "What was done about Subscriptions: recover, ask-status, reactivate.",
    ["listener", "step"],
    registry=_registry,
)


def observe_probe(listener: str, lag_s: float) -> None:
    """Record how long a probe took from the EHR to here."""
    _probe_lag.labels(listener).observe(lag_s)


def count_feed_step(listener: str, step: str) -> None:
    """Count what was done about a Subscription."""
    _feed_steps.labels(listener, step).inc()


def count_refused_for_room(of: str) -> None:
    """Count requests that were refused since there was too little room."""
    _no_room.labels(of).inc()


def count_not_ours(count: int) -> None:
    """Count AuditEvents that were found to be without a tag of the master key."""
    _not_ours.inc(count)


def count_break_glass(route: str, outcome: str) -> None:
    """Count uses of break-glass: outcome `run` or `refused`."""
    _glass.labels(route, outcome).inc()


def count_cds(service: str, outcome: str) -> None:
    """Count answers to CDS Hooks calls: `cards`, `follows` (a result is held back) or `none`."""
    _cds.labels(service, outcome).inc()


def count_dropped(reason: str) -> None:
    """Count a connection that was closed by a limit: too-many, slow, too-large, no-http, unread."""
    _dropped.labels(reason).inc()


def count_received(system: str, outcome: str, count: int = 1) -> None:
    """Count resources received: outcome `accepted`, `repeat` or an issue type."""
    _received.labels(system, outcome).inc(count)


def count_admitted(route: str, decision: str, count: int = 1) -> None:
    """Count admission decisions: `job`, or the code of the reason against."""
    _admitted.labels(route, decision).inc(count)


def count_job(route: str, state: str, business_status: str, count: int = 1) -> None:
    """Count jobs that reached a state."""
    _jobs.labels(route, state, business_status).inc(count)


def count_refusal(reason: str, count: int = 1) -> None:
    """Count refusals by the code of their reason."""
    _refusals.labels(reason).inc(count)


def count_delivery_attempt(system: str, outcome: str, count: int = 1) -> None:
    """Count attempts at a write-back: outcome `delivered`, `retry` or `given-up`."""
    _delivery_attempts.labels(system, outcome).inc(count)


def observe_delivery_lag(system: str, lag_s: float) -> None:
    """Record how long a result took from reception of its event to its place in the EHR."""
    _delivery_lag.labels(system).observe(lag_s)


@contextmanager
def step(name: str, count: int = 1) -> Iterator[None]:
    """Time one verb (`receive`, `admit`, `queue`, `infer`, `report`, `deliver`) and trace it.

    Args:
        name: The verb.
        count: Items that go through it together.
    """
    started = time.perf_counter()
    try:
        with span(name, count=count):
            yield
    finally:
        _steps.labels(name).observe(time.perf_counter() - started)
        _batches.labels(name).inc(count)


_levels = LevelsCollector()


def report_levels(read: Callable[[], Levels]) -> None:
    """Let every scrape of this process show the levels that `read` finds in the database."""
    _levels.read = read


def render_metrics() -> bytes:
    """Give the metrics of all processes that share the metrics folder, in Prometheus text."""
    scrape = CollectorRegistry()
    if is_shared():
        MultiProcessCollector(scrape)  # type: ignore[no-untyped-call]  # the library has no types here
    else:
        scrape.register(_registry)
    scrape.register(_levels)
    return generate_latest(scrape)


def is_shared() -> bool:
    """Say whether the processes of this machine write their metrics into a common folder.

    So it is when `PROMETHEUS_MULTIPROC_DIR` was set before this process started (`nadi up` does).
    """
    return bool(getattr(values.ValueClass, "_multiprocess", False))


def serve_metrics(port: int) -> tuple[WSGIServer, threading.Thread]:
    """Serve this process's metrics on a port, for a worker in a container of its own.

    Returns:
        The server and its thread, which end with the process.
    """
    return start_http_server(port, registry=_registry)


# --- Traces ---------------------------------------------------------------------------------


class _Traces:
    """The tracer of this process, when there is a collector to send to."""

    tracer: Any = None


def span(name: str, **attributes: str | float) -> Span:
    """Trace a stretch of work, with allow-listed attributes; costs nothing when traces are off."""
    if _Traces.tracer is None:
        return nullcontext()
    kept = {key: value for key, value in attributes.items() if key in ALLOWED_KEYS}
    # An exception's message may quote content, so the span does not record it.
    found: Span = _Traces.tracer.start_as_current_span(
        name, attributes=kept, record_exception=False, set_status_on_exception=False
    )
    return found


def _start_traces(process: str, endpoint: str) -> None:
    # Imported only when wanted: the SDK costs memory that a small machine can use better.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=Resource({"service.name": f"nadi-{process}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    _Traces.tracer = provider.get_tracer("nadi")
