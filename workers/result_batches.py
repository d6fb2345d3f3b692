"""(6.3) Write reports as batch Bundles, for an EHR that takes batches but no transactions.

The entries of a batch are unrelated: none can refer to another, and each has an answer of its own.
So the Devices are placed first, the results go in one batch, and when their places are known the
Provenances in a second one. A result with a Media is completed alone. An entry that is refused goes
once more alone, where every way out is known; one that had bad luck waits for its next attempt.

Source: FHIR R4 RESTful API section 3.1.0.11.1 (http://hl7.org/fhir/R4/http.html#transaction).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from adapters.fhir_rest.answers import WriteOutcome, error_of
from adapters.fhir_rest.errors import EhrAnswerUnreadable
from gateway.core.clock import utc_now
from gateway.core.errors import GatewayError, TransientError
from gateway.core.write_back import StoredReport, provenance_batch, result_batch
from workers.fates import Fate, NotReached, Written, not_reached


class TakesBundles(Protocol):
    """What is needed of the client of an EHR."""

    def transaction(self, body: bytes) -> list[WriteOutcome]:
        """Send a transaction or batch Bundle."""


def write_batch(
    reports: Sequence[StoredReport],
    ehr: TakesBundles,
    *,
    alone: Callable[[StoredReport], Fate],
    beside: Callable[[StoredReport, Written], Fate],
) -> dict[str, Fate]:
    """Write reports; give the fate of each by its identifier.

    Args:
        reports: With the places of their Devices.
        ehr: Where to.
        alone: Writes a report by itself.
        beside: Writes what belongs to a result that is there.

    Raises:
        TransientError: The EHR is away; it may have written all the same.
        GatewayError: It refuses the whole.
    """
    fates: dict[str, Fate] = {}
    plain: list[tuple[StoredReport, str]] = []
    for report, outcome in zip(
        reports, _send(ehr, result_batch(reports), len(reports)), strict=True
    ):
        if not outcome.is_success:
            fates[report.identifier] = _bad_luck(outcome) or alone(report)
            continue
        written = Written(outcome.reference, outcome.status, changed=report.changed)
        fates[report.identifier] = written
        if outcome.reference is None or report.attachments:
            fates[report.identifier] = beside(report, written)
        elif report.provenance is not None:
            plain.append((report, outcome.reference))
    return fates | _unfinished(plain, ehr)


def _unfinished(written: Sequence[tuple[StoredReport, str]], ehr: TakesBundles) -> dict[str, Fate]:
    """Write Provenances; give the fate of results that have to be completed later."""
    if not written:
        return {}
    identifiers = [report.identifier for report, _ in written]
    try:
        outcomes = _send(ehr, provenance_batch(written), len(written))
    except TransientError as error:
        return dict.fromkeys(identifiers, not_reached(error))
    except GatewayError:
        return {}  # an EHR without Provenance: the result names its Device all the same
    found = {name: _bad_luck(each) for name, each in zip(identifiers, outcomes, strict=True)}
    return {name: fate for name, fate in found.items() if fate is not None}


def _send(ehr: TakesBundles, body: bytes, size: int) -> list[WriteOutcome]:
    outcomes = ehr.transaction(body)
    if len(outcomes) != size:
        raise EhrAnswerUnreadable
    return outcomes


def _bad_luck(outcome: WriteOutcome) -> NotReached | None:
    """Say that an entry may pass later, if its status says so: the EHR as a whole is there."""
    if outcome.is_success:
        return None
    error = error_of(outcome.status, {}, b"", utc_now())
    is_for_now = isinstance(error, TransientError)
    return NotReached(type(error).__name__, is_of_system=False) if is_for_now else None
