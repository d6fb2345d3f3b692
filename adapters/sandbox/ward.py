"""A seeded ward: what an EHR would push over a few hours, and what should come of it.

For every patient the timeline has, in this order: the Patient, the Consent if there is one, vitals
and labs, a revocation if there is one, and the creatinine, which starts the demonstration's route.
Patients overlap, as in a real ward. The same seed gives the same ward, only its times move along
with `start`.

Every creatinine of a patient whose `expectation` is `result` should give exactly one Observation;
any other patient's should give none, for the reason told.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Literal

from adapters.sandbox.ward_consents import Wish, consent
from adapters.sandbox.ward_labs import (
    Result,
    blood_pressure,
    creatinine,
    observation,
    odd_creatinine,
    other_labs,
)
from adapters.sandbox.ward_people import patient

EventKind = Literal["patient", "consent", "vital", "lab", "revocation"]
Case = Literal[
    "permit",
    "deny",
    "silent",
    "revoked",
    "expired",
    "entered-in-error",
    "implausible",
    "unknown-unit",
    "stale",
]

#: Share of the patients in each case; the others permit and have ordinary results.
_SHARES: Mapping[Case, float] = {"deny": 0.12, "revoked": 0.07, "silent": 0.05, "expired": 0.05}
#: Cases that one patient is in, if the ward has enough of them.
_SINGLES: Mapping[Case, int] = {
    "entered-in-error": 10,
    "implausible": 20,
    "unknown-unit": 20,
    "stale": 20,
}
_EXPECTATIONS: Mapping[Case, str] = {
    "permit": "result",
    "implausible": "refused:input-implausible",
    "unknown-unit": "refused:unit-unknown",
    "stale": "refused:too-few-inputs",
}
_DENIED = "consent-denied"
_WISHES: Mapping[Case, Wish] = {
    "deny": "deny",
    "expired": "expired",
    "entered-in-error": "entered-in-error",
}
_CREATININE_CODES = frozenset({"2160-0", "14682-9"})
_ILL_SHARE = 0.4
_REPEAT_SHARE = 0.15
_LONGEST_S = 6 * 3600.0
_ARRIVAL_GAP_S = 10.0
_STALE = timedelta(days=1200)


@dataclass(frozen=True)
class WardEvent:
    """One resource that the EHR would push.

    Attributes:
        resource: Valid R4, with id, `meta.versionId` and `meta.lastUpdated`.
        offset_s: Seconds since the ward's beginning.
    """

    kind: EventKind
    resource: dict[str, Any]
    patient_id: str
    offset_s: float

    @property
    def is_trigger(self) -> bool:
        """Say whether this is a creatinine, which starts the demonstration's route."""
        codings = self.resource.get("code", {}).get("coding", ())
        return any(each["code"] in _CREATININE_CODES for each in codings)


@dataclass(frozen=True)
class Ward:
    """The timeline of a ward, and per patient id what should come of it.

    Attributes:
        expectations: `result`, `consent-denied` or `refused:<reason>`.
    """

    timeline: tuple[WardEvent, ...]
    expectations: Mapping[str, str]

    @property
    def expected_results(self) -> Mapping[str, int]:
        """Count, by patient id, the Observations that should reach the EHR."""
        counts = dict.fromkeys(self.expectations, 0)
        for event in self.timeline:
            if event.is_trigger and self.expectations[event.patient_id] == "result":
                counts[event.patient_id] += 1
        return counts


def ward(patients: int, seed: int, *, start: datetime | None = None) -> Ward:
    """Make up a ward.

    Args:
        patients: How many.
        seed: Same seed, same ward.
        start: When it ends: the newest result is from just before. Aware; now when left out.
    """
    dice = Random(seed)  # noqa: S311  a game, not a key
    end = start or datetime.now(UTC).replace(microsecond=0)
    cases = _cases(dice, patients)
    gap_s = min(_ARRIVAL_GAP_S, _LONGEST_S / max(patients, 1))
    begin = end - timedelta(seconds=gap_s * patients) - timedelta(hours=1)
    events: list[WardEvent] = []
    expectations: dict[str, str] = {}
    for number, case in enumerate(cases):
        patient_id = f"ward{seed}-{number:05d}"
        stay = _Stay(Random(f"{seed}/{number}"), patient_id, begin, number * gap_s)  # noqa: S311
        events.extend(stay.events(case))
        expectations[patient_id] = _EXPECTATIONS.get(case, _DENIED)
    events.sort(key=lambda event: event.offset_s)
    return Ward(tuple(events), expectations)


def _cases(dice: Random, patients: int) -> list[Case]:
    """Deal the cases out: fixed shares, so that even a small ward has some of each."""
    special: list[Case] = [case for case, least in _SINGLES.items() if patients >= least]
    for case, share in _SHARES.items():
        special.extend([case] * round(share * patients))
    ordinary: list[Case] = ["permit"] * (patients - len(special))
    cases = special + ordinary
    dice.shuffle(cases)
    return cases


class _Stay:
    """Tells one patient's story, event by event."""

    def __init__(self, dice: Random, patient_id: str, begin: datetime, offset_s: float) -> None:
        self._dice = dice
        self._id = patient_id
        self._begin = begin
        self._offset_s = offset_s + dice.random()
        self._results = 0
        is_ill = dice.random() < _ILL_SHARE
        self._severity = dice.uniform(0.35, 1.0) if is_ill else dice.uniform(0.0, 0.08)

    def events(self, case: Case) -> Iterator[WardEvent]:
        """Give the patient's events in their order."""
        today = self._begin.date()
        yield self._event("patient", patient(self._dice, self._id, today))
        agreed = self._consent(_WISHES.get(case, "permit"))
        if case != "silent":
            yield self._event("consent", agreed)
        yield self._result("vital", blood_pressure(self._dice, self._severity))
        age = _STALE if case == "stale" else timedelta(0)
        for lab in other_labs(self._dice, self._severity):
            yield self._result("lab", lab, age=age)
        if case == "revoked":
            revoked = {**agreed, "status": "inactive"}
            yield self._event("revocation", revoked, version=2)
        yield from self._creatinines(case)

    def _creatinines(self, case: Case) -> Iterator[WardEvent]:
        if case == "implausible":
            unit = {"unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}
            yield self._result("lab", odd_creatinine(4800, unit))
        elif case == "unknown-unit":
            yield self._result("lab", odd_creatinine(1.4, {"unit": "lab units"}))
        else:
            yield self._result("lab", creatinine(self._dice, self._severity))
            if case != "stale" and self._dice.random() < _REPEAT_SHARE:
                yield self._result("lab", creatinine(self._dice, self._severity))

    def _consent(self, wish: Wish) -> dict[str, Any]:
        return consent(
            self._dice,
            wish,
            patient_id=self._id,
            consent_id=f"{self._id}-consent",
            today=self._begin.date(),
        )

    def _result(
        self, kind: EventKind, result: Result, *, age: timedelta = timedelta(0)
    ) -> WardEvent:
        self._results += 1
        at = self._begin + timedelta(seconds=int(self._offset_s)) - age
        resource = observation(
            result,
            patient_id=self._id,
            observation_id=f"{self._id}-r{self._results:02d}",
            at=at.isoformat(),
        )
        return self._event(kind, resource)

    def _event(self, kind: EventKind, resource: dict[str, Any], *, version: int = 1) -> WardEvent:
        """Date a resource by the patient's clock, and let that clock run on a little."""
        offset_s = round(self._offset_s, 3)
        self._offset_s += self._dice.uniform(2.0, 6.0)
        changed = self._begin + timedelta(seconds=offset_s)
        last_updated = changed.isoformat(timespec="milliseconds")
        meta = {"versionId": str(version), "lastUpdated": last_updated}
        head = {"resourceType": resource["resourceType"], "id": resource["id"], "meta": meta}
        return WardEvent(kind, head | _rest(resource), self._id, offset_s)


def _rest(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key not in ("resourceType", "id")}
