"""What waits, whatever line it waits in: for tests that play the relay."""

from gateway.store.deliveries import Deliveries
from gateway.store.jobs import Jobs


def ready(jobs: Jobs, most: int = 100) -> list[tuple[str, str]]:
    """Give id and model digest of jobs that may be claimed, the oldest first."""
    found = [each for line in jobs.lines() for each in jobs.head(line, most)]
    return [(each.id, each.model_digest) for each in sorted(found, key=lambda each: each.id)]


def due(deliveries: Deliveries, most: int = 100) -> list[tuple[str, str]]:
    """Give id and system of deliveries that may be tried, the longest due first."""
    found = [
        (since_ms, delivery_id, line[1].partition("/")[0])
        for line in deliveries.lines()
        for delivery_id, since_ms in deliveries.head(line, most)
    ]
    return [(delivery_id, system) for _, delivery_id, system in sorted(found)]
