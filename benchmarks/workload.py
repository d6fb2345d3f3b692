"""What is pushed in a round: the records of seeded patients, and the events that start the model.

Every patient has, in this order: the Patient, a Consent, a blood pressure and eight labs in the
mixed codes and units of the sandbox's ward, and then a few creatinines. Only the creatinines are
events in the sense of the benchmark: each has to give one Observation in the EHR, unless the
patient said no (one in twenty).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

import onnxruntime
import orjson

from adapters.sandbox.ward_consents import consent
from adapters.sandbox.ward_labs import (
    LOCAL_CODES,
    Result,
    blood_pressure,
    creatinine,
    observation,
    other_labs,
)
from adapters.sandbox.ward_people import patient
from models.registry import load_installed
from models.runtime import needs_exact_int8, open_session
from workers.features import Refusal, extract

TRIGGERS_PER_PATIENT = 5
_DENIES_EVERY = 20
_GAP = timedelta(minutes=20)


@dataclass(frozen=True)
class Post:
    """One request that the EHR makes."""

    path: str
    body: bytes
    id: str


@dataclass(frozen=True)
class Workload:
    """A round's requests.

    Attributes:
        records: Pushed first: what is known of the patients.
        triggers: The events, patients by turns.
        expected: Trigger id to the probabilities that the model gives with the default session
            and with the one Nadi opens; triggers of patients who deny are not in it.
    """

    records: tuple[Post, ...]
    triggers: tuple[Post, ...]
    expected: Mapping[str, tuple[float, ...]]


def make_workload(triggers: int, *, seed: int, now: datetime) -> Workload:
    """Make up patients with so many triggers.

    Args:
        triggers: How many events.
        seed: Same seed and time, same bytes.
        now: The newest event is from just before.
    """
    oracle = _Oracle()
    people = [Person(i, seed, now) for i in range(-(-triggers // TRIGGERS_PER_PATIENT))]
    turns = [(who, who.triggers[i]) for i in range(TRIGGERS_PER_PATIENT) for who in people]
    pushed = turns[:triggers]
    return Workload(
        records=tuple(post_of(resource) for who in people for resource in who.record),
        triggers=tuple(post_of(trigger) for _, trigger in pushed),
        expected={
            trigger["id"]: oracle.probabilities(who.record, trigger)
            for who, trigger in pushed
            if not who.denies
        },
    )


class _Oracle:
    """Runs the model directly, beside both systems."""

    def __init__(self) -> None:
        model = load_installed()["ckd-risk"]
        self._manifest = model.manifest
        weights = model.weights()
        exact = open_session(weights, exact_int8=needs_exact_int8())
        self._sessions = (onnxruntime.InferenceSession(weights), exact)

    def probabilities(
        self, record: Sequence[dict[str, Any]], trigger: dict[str, Any]
    ) -> tuple[float, ...]:
        """Give the probability by the default session, and by one opened as Nadi opens it."""
        features = extract(
            self._manifest,
            [*record, trigger],
            patient=record[0],
            at=datetime.fromisoformat(trigger["effectiveDateTime"]),
            local_codes=LOCAL_CODES,
        )
        if isinstance(features, Refusal):
            raise TypeError(f"the workload's own patient was refused: {features.reason}")
        batch = {self._manifest.weights.input_name: features.vector.reshape(1, -1)}
        return tuple(float(session.run(None, batch)[0][0, 0]) for session in self._sessions)


def post_of(resource: Mapping[str, Any]) -> Post:
    """Give the request that creates a resource."""
    return Post(f"/fhir/{resource['resourceType']}", orjson.dumps(resource), str(resource["id"]))


class Person:
    """A patient made up.

    Attributes:
        denies: Whether nothing may be inferred about them.
        record: What is known of them.
        triggers: Their events, the oldest first.
    """

    def __init__(
        self,
        number: int,
        seed: int,
        now: datetime,
        *,
        triggers: int = TRIGGERS_PER_PATIENT,
        gap: timedelta = _GAP,
    ) -> None:
        """Make one up.

        Args:
            number: Same seed, time and number, same patient.
            seed: Of all patients.
            now: The newest event is from just before.
            triggers: How many events.
            gap: Between one and the next.
        """
        self._dice = Random(f"{seed}/{number}")  # noqa: S311  a game, not a key
        self._id = f"bench{seed}-{number:05d}"
        self._gap = gap
        self._begin = now - gap * (triggers + 2)
        self._severity = self._dice.random()
        self.denies = number % _DENIES_EVERY == _DENIES_EVERY - 1
        self.record: Sequence[dict[str, Any]] = list(self._record())
        self.triggers: Sequence[dict[str, Any]] = list(self._triggers(triggers))

    def _record(self) -> Iterator[dict[str, Any]]:
        today = self._begin.date()
        yield self._dated(patient(self._dice, self._id, today), self._begin)
        wish = consent(
            self._dice,
            "deny" if self.denies else "permit",
            patient_id=self._id,
            consent_id=f"{self._id}-consent",
            today=today,
        )
        yield self._dated(wish, self._begin)
        results = [blood_pressure(self._dice, self._severity)]
        results += other_labs(self._dice, self._severity)
        for number, result in enumerate(results):
            yield self._measured(result, f"r{number}", self._begin)

    def _triggers(self, count: int) -> Iterator[dict[str, Any]]:
        for number in range(count):
            result = creatinine(self._dice, self._severity)
            yield self._measured(result, f"t{number}", self._begin + self._gap * (number + 1))

    def _measured(self, result: Result, name: str, at: datetime) -> dict[str, Any]:
        resource = observation(
            result,
            patient_id=self._id,
            observation_id=f"{self._id}-{name}",
            at=at.isoformat(),
        )
        return self._dated(resource, at)

    def _dated(self, resource: Mapping[str, Any], at: datetime) -> dict[str, Any]:
        last_updated = at.isoformat(timespec="milliseconds")
        return {**resource, "meta": {"versionId": "1", "lastUpdated": last_updated}}
