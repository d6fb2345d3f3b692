"""Score what is on record: what a route would have made of every event, had it been in force.

Nothing is written but the audit log: no job, no result. Consent is asked as it holds today, and
where it does not permit the route's purpose the model is not asked. A reading counts only when it
was true at the time of the event or before, so that no event is scored with its own future.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from statistics import quantiles
from typing import Any

import orjson

from adapters.site import Site
from gateway.cli.explanation import Explainer, Explanation
from gateway.cli.patients import record_search
from gateway.cli.sample import Sample, Sampled
from gateway.core.audit import Source
from gateway.core.clock import from_ms
from gateway.core.errors import Unsealable
from gateway.core.event import facts
from gateway.core.fhir import Resource
from gateway.core.routing import Route
from gateway.store.events import Event
from gateway.store.unit_of_work import Store
from models.registry import InstalledModel

_PART = 200
_CUTS = 20
SCORED, DENIED, NOT_MATCHED = "scored", "consent-denied", "not-matched"


@dataclass(frozen=True)
class Scored:
    """What came of one event.

    Attributes:
        event_id: Of the event; nothing of its content.
        outcome: `scored`, `consent-denied`, `not-matched`, or why the model refuses.
        value: The result's number, where it has one.
    """

    event_id: str
    at: datetime | None
    outcome: str
    value: float | None = None


@dataclass
class Tally:
    """What came of all of them."""

    outcomes: Counter[str] = field(default_factory=Counter)
    values: list[float] = field(default_factory=list)

    def add(self, scored: Scored) -> None:
        """Take one in."""
        self.outcomes[scored.outcome] += 1
        if scored.value is not None:
            self.values.append(scored.value)

    @property
    def matched(self) -> int:
        """How many started the route."""
        return sum(self.outcomes.values()) - self.outcomes[NOT_MATCHED]

    @property
    def spread(self) -> dict[str, float]:
        """Give the 5th, 50th and 95th percentile of the values; nothing of fewer than 20."""
        if len(self.values) < _CUTS:
            return {}
        cuts = quantiles(self.values, n=_CUTS)
        return {"p5": cuts[0], "p50": cuts[_CUTS // 2 - 1], "p95": cuts[-1]}


class Retrospect:
    """Scores the events of one route."""

    def __init__(
        self, store: Store, site: Site, route: Route, model: InstalledModel, source: Source
    ) -> None:
        self._store = store
        self._route = route
        self._source = source
        self._base_url = site.systems[route.source].base_url
        self._explainer = Explainer(site, route, model, store, obeys=True)

    def count(self) -> int:
        """Say how many events there are to look at."""
        route = self._route
        with self._store.read() as uow:
            return uow.events.count_current(route.source, route.resource_type)

    def scored(self, since: datetime | None) -> Iterator[Scored]:
        """Score every event, oldest first.

        Args:
            since: Leaves out what was true of the patient before.

        Raises:
            StoreUnavailable: The database is away.
        """
        for part in self._parts():
            wanted = [each for each in part if _is_since(each, since)]
            # On record before anything of a patient is read.
            self._record(wanted)
            for event in wanted:
                yield self._one(event)

    def _parts(self) -> Iterator[list[Event]]:
        after = ""
        while True:
            with self._store.read() as uow:
                part = uow.events.current_of(
                    self._route.source, self._route.resource_type, after=after, limit=_PART
                )
            if not part:
                return
            yield part
            after = part[-1].id

    def _record(self, events: list[Event]) -> None:
        keys = {event.patient_key for event in events if event.patient_key}
        with self._store.write() as uow:
            for key in sorted(keys):
                record_search(uow, self._source, key, f"Observation?patient={key}")

    def _one(self, event: Event) -> Scored:
        at = from_ms(event.effective_ms) if event.effective_ms is not None else None
        try:
            with self._store.read() as uow:
                raw = uow.events.content(event)
        except Unsealable:
            return Scored(event.id, at, "erased")
        content = orjson.loads(raw)
        resource = Resource(event.resource_type, content, raw)
        read = Sampled(resource, facts(content, base_url=self._base_url))
        (made,) = self._explainer.explain(Sample((read,), ()))
        outcome, value = _outcome(made)
        return Scored(event.id, at, outcome, value)


def _is_since(event: Event, since: datetime | None) -> bool:
    return since is None or event.effective_ms is None or from_ms(event.effective_ms) >= since


def _outcome(made: Explanation) -> tuple[str, float | None]:
    if made.why_not is not None:
        return NOT_MATCHED, None
    if made.patient is None:
        return "patient-unknown", None
    if made.consent is not None and not made.consent.is_permitted:
        return DENIED, None
    if made.refusal is not None:
        return made.refusal.reason, None
    return (SCORED, _value(made.result)) if made.result else ("input-missing", None)


def _value(result: Any) -> float | None:  # noqa: ANN401 (FHIR JSON)
    """Give the number of a result, as far as it has one."""
    if "valueQuantity" in result:
        return float(result["valueQuantity"]["value"])
    for prediction in result.get("prediction") or ():
        if "probabilityDecimal" in prediction:
            return float(prediction["probabilityDecimal"])
    return None
