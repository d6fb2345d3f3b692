"""The depths of the queues and the like: gauges that are read from the database at a scrape."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily, Metric

from gateway.core.errors import GatewayError


@dataclass(frozen=True)
class Levels:
    """What is read from the database at a scrape.

    Attributes:
        jobs: Number of jobs by state.
        deliveries: Number of deliveries by state.
        oldest_ready_s: Age of the oldest job that waits for a worker, in seconds.
        audit_waiting: Audit records without a place in the Merkle log yet.
        audit_lag_s: Age of the oldest of them, in seconds.
        room: By what there may be too little room in, 1 where there is.
        listeners: 1 for each listener that listens, 0 for each that does not.
        notices: By system, what it said of changes and no listener has done yet.
    """

    jobs: Mapping[str, int]
    deliveries: Mapping[str, int]
    oldest_ready_s: float = 0.0
    audit_waiting: int = 0
    audit_lag_s: float = 0.0
    room: Mapping[str, float] = field(default_factory=dict)
    listeners: Mapping[str, float] = field(default_factory=dict)
    notices: Mapping[str, float] = field(default_factory=dict)


class LevelsCollector:
    """Turns `Levels` into gauges, read at the moment of the scrape."""

    def __init__(self) -> None:
        """Begin without anything to read."""
        self.read: Callable[[], Levels] | None = None

    def collect(self) -> Iterator[Metric]:
        """Read the levels and give them as gauges."""
        if self.read is None:
            return
        try:
            levels = self.read()
        except GatewayError:
            yield GaugeMetricFamily("nadi_database_up", "Whether the database answers.", 0)
            return
        yield GaugeMetricFamily("nadi_database_up", "Whether the database answers.", 1)
        yield _by_label("nadi_jobs", "Jobs by state.", "state", levels.jobs)
        yield _by_label("nadi_deliveries", "Deliveries by state.", "state", levels.deliveries)
        for metric, meaning, label, numbers in (
            ("short_of_room", "Events are refused, by what is short.", "of", levels.room),
            ("listener_up", "Whether a listener listens.", "listener", levels.listeners),
            ("notices", "Notices that wait for a listener.", "system", levels.notices),
        ):
            yield _by_label(f"nadi_{metric}", meaning, label, numbers)
        for name, meaning, value in (
            ("nadi_oldest_ready_seconds", "Age of the oldest waiting job.", levels.oldest_ready_s),
            ("nadi_audit_waiting", "Audit records not yet in the log.", levels.audit_waiting),
            ("nadi_audit_lag_seconds", "Age of the oldest of them.", levels.audit_lag_s),
        ):
            yield GaugeMetricFamily(name, meaning, value)


def _by_label(
    name: str, meaning: str, label: str, numbers: Mapping[str, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for value, number in sorted(numbers.items()):
        family.add_metric([value], number)
    return family
