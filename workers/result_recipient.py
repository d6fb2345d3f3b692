"""(6.3) Write reports into one EHR, whatever that EHR can do, so that each is there once.

The ladder, from the cheapest for both sides to what every FHIR server can:

1. one transaction Bundle for many reports;
2. where the EHR refuses the whole, one transaction for each report;
3. where it takes no transactions but says that it takes batches, batch Bundles
   (`workers.result_batches`);
4. elsewhere Device, result, Media and Provenance one after the other, for several reports side by
   side over as many connections.

An EHR without RiskAssessment gets the result as an Observation, one without Media gets it without
(`workers.ehr_abilities`); the outcome says so.

A report that may have been written before (an answer was lost, a worker died) is searched for
first. Right before each request that carries results it is asked, through a `Gate`, which of them
still may go: a batch takes its time, and a patient may withdraw her consent meanwhile.
What stands there as an error because the EHR dropped its label (`workers.verifying`) is written
over itself, when a person had it tried again.
`If-None-Exist` alone is not trusted: some EHRs ignore it, and some ignore a search
parameter they don't know, so what is found is compared before it is believed.

Source: FHIR R4 RESTful API; docs/architecture.md (deliver).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import orjson

from adapters.fhir_rest.answers import EhrCapabilities, WriteOutcome
from adapters.fhir_rest.errors import EhrAnswerUnreadable, EhrRefused, MultipleMatches
from gateway.core.errors import GatewayError, ProcessingError, TransientError
from gateway.core.findings import Json, Report
from gateway.core.retraction import ENTERED_IN_ERROR
from gateway.core.write_back import (
    WITHOUT_MEDIA,
    StoredReport,
    attachments_of,
    identifier_of,
    is_provenance,
    is_result,
    provenance_condition,
    provenance_of,
    result_condition,
    transaction,
    with_device,
)
from workers.devices import Devices
from workers.ehr_abilities import BATCH, REMEMBER_S, EhrAbilities
from workers.fates import (
    Fate,
    Gate,
    NotReached,
    NotTaken,
    Withheld,
    Written,
    not_reached,
    open_gate,
)
from workers.looking import Looking, Searched, Unsure
from workers.result_batches import write_batch
from workers.side_by_side import side_by_side

#: Reports of one transaction: enough to share its cost, few enough for any EHR's limits.
REPORTS_PER_TRANSACTION = 50
#: Statuses that are about the service or our access to it and not about what was sent.
_OF_THE_SERVICE = frozenset({403, 404, 405, 410, 501})
#: Statuses that say that a resource type is not there.
NO_SUCH_TYPE = frozenset({404, 405, 501})
_FOUND = 200


class Ehr(Searched, Protocol):
    """What is needed of the client of an EHR; `adapters.fhir_rest` has one."""

    def capabilities(self) -> EhrCapabilities:
        """Ask the EHR what it can do."""

    def create(
        self, resource_type: str, body: bytes, *, if_none_exist: str | None = None
    ) -> WriteOutcome:
        """Create a resource unless the condition finds it."""

    def update(self, reference: str, body: bytes, *, if_match: str | None = None) -> WriteOutcome:
        """Write a resource under its id."""

    def transaction(self, body: bytes) -> list[WriteOutcome]:
        """Send a transaction or batch Bundle."""


class ResultRecipient:
    """One EHR as a recipient of results; safe to share among threads."""

    def __init__(
        self,
        ehr: Ehr,
        *,
        abilities: EhrAbilities | None = None,
        connections: int = 1,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the EHR, and how many requests may be under way where each result goes alone.

        Args:
            ehr: The EHR.
            abilities: What is known of it; found out anew when absent.
            connections: How many requests may be under way.
            monotonic: Gives seconds.
        """
        self._ehr = ehr
        self._connections = connections
        self._monotonic = monotonic
        self._no_transactions_until = float("-inf")
        self._abilities = abilities or EhrAbilities(ehr, monotonic=monotonic)
        self._devices = Devices(ehr, self._abilities)
        self._looking = Looking(ehr, self._abilities)

    def write(
        self,
        reports: Sequence[StoredReport],
        *,
        repeated: frozenset[str],
        gate: Gate = open_gate,
    ) -> dict[str, Fate]:
        """Write reports; give the fate of each by its identifier.

        Args:
            reports: What is to be written.
            repeated: Identifiers that may be in the EHR already.
            gate: Asked right before anything is sent.
        """
        fates: dict[str, Fate] = {}
        maybe = [report for report in reports if report.identifier in repeated]
        for chunk in _chunks(maybe):
            fates.update(self._search(chunk, gate))
        rest = [self._abilities.fitted(r) for r in reports if r.identifier not in fates]
        for chunk in _chunks(rest):
            fates.update(self._write(chunk, gate))
        return fates

    def held(
        self, report: StoredReport, *, sought: frozenset[str] = frozenset()
    ) -> list[Json] | Unsure:
        """Give what the EHR holds of a report in this form.

        Args:
            report: In this form.
            sought: Types among which its identifier was looked for already, in vain.

        Raises:
            TransientError: The EHR is away.
        """
        looked = self._looking.find([report], has_condition=False, sought=sought)
        return looked[report.identifier]

    def _search(self, reports: Sequence[StoredReport], gate: Gate) -> dict[str, Fate]:
        """Give the fate of those that are in the EHR, or that can't be looked for."""
        try:
            found = self._looking.find(reports)
        except TransientError as error:
            return dict.fromkeys((r.identifier for r in reports), not_reached(error))
        fates: dict[str, Fate] = {}
        for report in reports:
            matches = found[report.identifier]
            if isinstance(matches, Unsure):
                fates[report.identifier] = NotReached(matches.why, is_of_system=False)
            elif matches:
                fates[report.identifier] = self._complete(report, matches, gate)
        return fates

    def _complete(self, report: StoredReport, found: Sequence[Json], gate: Gate) -> Fate:
        """Write what belongs to a result that is there, unless it is there too."""
        form = str(found[0].get("resourceType"))
        if form != report.resource_type:
            report = report.as_observation()
        report = self._abilities.without_what_it_lacks(report)
        written = Written(
            f"{form}/{found[0].get('id')}",
            _FOUND,
            is_repeated=len(found) > 1,
            changed=report.changed,
            is_by_looks=not is_result(found[0], report.identifier),
        )
        if report.may_stand_again and found[0].get("status") == ENTERED_IN_ERROR:
            not_over = self._write_over(report, str(written.location), gate)
            if not_over is not None:
                return not_over
        try:
            return self._add_missing(report, written)
        except TransientError as error:
            return not_reached(error)
        except GatewayError:
            return written  # the result itself is there; that is what counts

    def _write_over(self, report: StoredReport, place: str, gate: Gate) -> Fate | None:
        """Write a result over itself where it was taken back before; None when it stands there."""
        try:
            placed = with_device(report.opened(), self._devices.place(report))
            if report.identifier not in gate([report]):
                return Withheld()
            body = orjson.dumps({**placed.result, "id": place.partition("/")[2]})
            self._ehr.update(place, body)
        except TransientError as error:
            return not_reached(error)
        except EhrRefused as error:
            return _refused(error)
        except GatewayError as error:
            return NotReached(type(error).__name__, is_of_system=False)
        return None

    def _add_missing(self, report: StoredReport, written: Written) -> Written:
        if report.provenance is not None and self._has_provenance(report.identifier):
            report = replace(report, provenance=None)
        if report.provenance is None and not report.attachments:
            return written
        placed = with_device(report.opened(), self._devices.place(report))
        return self._write_beside(placed, written, is_repeat=True)

    def _has_provenance(self, identifier: str) -> bool:
        found = self._looking.tagged("Provenance", "_tag", [identifier])
        return any(is_provenance(each, identifier) for each in found)

    def _write(self, reports: Sequence[StoredReport], gate: Gate) -> dict[str, Fate]:
        is_off = self._monotonic() < self._no_transactions_until
        if is_off or not self._abilities.tries_transactions:
            return self._without_transactions(reports, gate)
        try:
            return self._as_transaction(reports, gate)
        except TransientError as error:
            return dict.fromkeys((r.identifier for r in reports), not_reached(error))
        except GatewayError as error:
            return self._after_refusal(reports, gate, error)

    def _after_refusal(
        self, reports: Sequence[StoredReport], gate: Gate, error: GatewayError
    ) -> dict[str, Fate]:
        """Go one rung down the ladder."""
        self._devices.forget(reports)
        is_about_transactions = isinstance(error, EhrRefused) and error.status in _OF_THE_SERVICE
        if len(reports) > 1 and not is_about_transactions:
            fates: dict[str, Fate] = {}
            for report in reports:
                fates.update(self._write([report], gate))
            return fates
        fates = self._without_transactions(reports, gate)
        if any(isinstance(fate, Written) for fate in fates.values()):
            self._no_transactions_until = self._monotonic() + REMEMBER_S
        return fates

    def _as_transaction(self, reports: Sequence[StoredReport], gate: Gate) -> dict[str, Fate]:
        self._devices.look_for(reports)
        reports, withheld = _passing(reports, gate)
        if not reports:
            return withheld
        made = transaction(reports, self._devices.known())
        outcomes = self._ehr.transaction(made.body)
        if len(outcomes) != made.size:
            raise EhrAnswerUnreadable
        for digest, outcome in zip(made.devices, outcomes, strict=False):
            if outcome.is_success:
                self._devices.remember(digest, outcome.reference)
        return withheld | {
            report.identifier: _fate_of(outcomes[position], report)
            for report, position in zip(reports, made.results, strict=True)
        }

    def _without_transactions(self, reports: Sequence[StoredReport], gate: Gate) -> dict[str, Fate]:
        if len(reports) == 1 or not self._abilities.takes_batches():
            return self._one_by_one(reports, gate)
        try:
            return self._as_batch(reports, gate)
        except TransientError as error:
            return dict.fromkeys((r.identifier for r in reports), not_reached(error))
        except EhrRefused:
            self._abilities.refused(BATCH)
            return self._one_by_one(reports, gate)
        except GatewayError as error:  # it may have been done all the same
            unclear = NotReached(type(error).__name__, is_of_system=False)
            return dict.fromkeys((r.identifier for r in reports), unclear)

    def _as_batch(self, reports: Sequence[StoredReport], gate: Gate) -> dict[str, Fate]:
        placed, withheld = _passing([r.placed(self._devices.place(r)) for r in reports], gate)

        def alone(report: StoredReport) -> Fate:
            self._devices.forget([report])  # one may be gone, and that be the reason
            return self._alone(report, gate)

        def beside(report: StoredReport, written: Written) -> Fate:
            return self._with_the_rest(report, report.opened(), written)

        if not placed:
            return withheld
        return withheld | write_batch(placed, self._ehr, alone=alone, beside=beside)

    def _one_by_one(self, reports: Sequence[StoredReport], gate: Gate) -> dict[str, Fate]:
        """Write each alone: the first shows whether the EHR is there, the others side by side."""
        away: list[NotReached] = []

        def write(report: StoredReport) -> Fate:
            if away:  # no use in knocking for each of the others: they share its fate
                return away[0]
            fate = self._alone(report, gate)
            if isinstance(fate, NotReached) and fate.is_of_system:
                away.append(fate)
            return fate

        fates = {report.identifier: write(report) for report in reports[:1]}
        rest = reports[1:]
        written = side_by_side(write, rest, at_once=self._connections)
        return fates | {each.identifier: fate for each, fate in zip(rest, written, strict=True)}

    def _alone(self, report: StoredReport, gate: Gate) -> Fate:
        try:
            placed = with_device(report.opened(), self._devices.place(report))
            if report.identifier not in gate([report]):
                return Withheld()
            written = self._write_result(placed, report)
        except TransientError as error:
            return not_reached(error)
        except MultipleMatches:
            unclear = NotReached("MultipleMatches", is_of_system=False)
            return self._search([report], gate).get(report.identifier, unclear)
        except EhrRefused as error:
            self._devices.forget([report])
            return self._without_its_type(report, gate, error)
        except GatewayError as error:
            return NotReached(type(error).__name__, is_of_system=False)
        return self._with_the_rest(report, placed, written)

    def _without_its_type(self, report: StoredReport, gate: Gate, error: EhrRefused) -> Fate:
        """Write the other form where the EHR turns out not to have the first one's type."""
        if report.instead is None or error.status not in NO_SUCH_TYPE:
            return _refused(error)
        self._abilities.refused(report.resource_type)
        return self._alone(report.as_observation(), gate)

    def _with_the_rest(self, report: StoredReport, placed: Report, written: Written) -> Fate:
        if written.location is None:  # the EHR did not say where: look for it
            return self._search([report], open_gate).get(report.identifier, written)
        try:
            return self._write_beside(placed, written, is_repeat=False)
        except TransientError as error:
            return not_reached(error)
        except GatewayError:
            return written  # an EHR without Provenance: the result names its Device all the same

    def _write_result(self, placed: Report, report: StoredReport) -> Written:
        outcome = self._ehr.create(
            report.resource_type,
            orjson.dumps(placed.result),
            if_none_exist=result_condition(report.identifier),
        )
        return Written(outcome.reference, outcome.status, changed=report.changed)

    def _write_beside(self, report: Report, written: Written, *, is_repeat: bool) -> Written:
        """Write Media and Provenance of a result whose place is known.

        Raises:
            GatewayError: The EHR does not take the Provenance.
        """
        place = str(written.location)
        places = [place]
        for media in attachments_of(report, place):
            try:
                places += self._attach(media, is_repeat=is_repeat)
            except MultipleMatches:
                continue  # it is there, more than once; the Provenance is about the result then
            except EhrRefused as error:
                if error.status in NO_SUCH_TYPE:
                    self._abilities.refused("Media")
                written = replace(written, changed=(*written.changed, WITHOUT_MEDIA))
        provenance = provenance_of(report, *places)
        if provenance is not None:
            condition = provenance_condition(report.identifier)
            self._ehr.create("Provenance", orjson.dumps(provenance), if_none_exist=condition)
        return written

    def _attach(self, media: Json, *, is_repeat: bool) -> list[str]:
        """Give the place of a Media, written where it is not there; none where nobody says.

        Raises:
            EhrRefused: The EHR does not take it.
            TransientError: The EHR is away.
        """
        own = identifier_of(media)
        found: list[Json] = []
        if is_repeat:
            with suppress(ProcessingError):  # it can't be searched for: its condition has to do
                found = [
                    m
                    for m in self._looking.tagged("Media", "identifier", [own])
                    if is_result(m, own)
                ]
        if found:
            return [f"Media/{found[0].get('id')}"]
        body, condition = orjson.dumps(media), result_condition(own)
        place = self._ehr.create("Media", body, if_none_exist=condition).reference
        return [place] if place else []


def _passing(
    reports: Sequence[StoredReport], gate: Gate
) -> tuple[list[StoredReport], dict[str, Fate]]:
    """Give what the gate lets go, and the fate of what it does not."""
    passing = gate(reports)
    withheld = (each.identifier for each in reports if each.identifier not in passing)
    return [r for r in reports if r.identifier in passing], dict.fromkeys(withheld, Withheld())


def _fate_of(outcome: WriteOutcome, report: StoredReport) -> Fate:
    if outcome.is_success:
        return Written(outcome.reference, outcome.status, changed=report.changed)
    return _refused(EhrRefused(outcome.status, outcome.codes))


def _refused(error: EhrRefused) -> Fate:
    # No access, or no such service: the operator's turn, while the result waits.
    if error.status in _OF_THE_SERVICE:
        return NotReached(f"EhrRefused {error.status}", refused_with=error.status)
    return NotTaken(error.status)


def _chunks(reports: Sequence[StoredReport]) -> Iterator[Sequence[StoredReport]]:
    for start in range(0, len(reports), REPORTS_PER_TRANSACTION):
        yield reports[start : start + REPORTS_PER_TRANSACTION]
