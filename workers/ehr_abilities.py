"""(6.3) What an EHR has room for: asked of its CapabilityStatement, and learnt from its refusals.

Only results beyond a plain Observation need this, a RiskAssessment or one with a Media, and an EHR
without transactions, which may take batches. An EHR that does not answer, or says nothing of its
types, is taken at its best until it refuses; batches have to be named.

Source: FHIR R4 CapabilityStatement.rest.resource.
"""

import time
from collections.abc import Callable
from typing import Protocol

from adapters.fhir_rest.answers import EhrCapabilities
from gateway.core.errors import GatewayError
from gateway.core.write_back import StoredReport

#: How long what an EHR said of itself is believed; it may be upgraded meanwhile.
REMEMBER_S = 600.0

#: Stands for batch Bundles among the types that an EHR refused.
BATCH = "batch"


class Asked(Protocol):
    """What is needed of the client of an EHR; `adapters.fhir_rest` has one."""

    def capabilities(self) -> EhrCapabilities:
        """Ask the EHR what it can do."""


class EhrAbilities:
    """Which resource types one EHR can keep; safe to share among threads."""

    def __init__(self, ehr: Asked, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ehr = ehr
        self._monotonic = monotonic
        self._asked_at = float("-inf")
        self._said: EhrCapabilities | None = None
        self._refused: dict[str, float] = {}

    def fitted(self, report: StoredReport) -> StoredReport:
        """Give a report as far as this EHR can keep it."""
        if report.instead is not None and not self.takes(report.resource_type):
            report = report.as_observation()
        return self.without_what_it_lacks(report)

    def without_what_it_lacks(self, report: StoredReport) -> StoredReport:
        """Give a report without its attachments, if the EHR can't keep those."""
        if report.attachments and not self.takes("Media"):
            report = report.without_attachments()
        return report

    def takes(self, resource_type: str) -> bool:
        """Say whether the EHR can keep such a resource, as far as is known."""
        if self._has_refused(resource_type):
            return False
        said = self._ask()
        return said is None or said.takes(resource_type)

    def takes_batches(self) -> bool:
        """Say whether the EHR says that it takes batch Bundles, and did not refuse one."""
        if self._has_refused(BATCH):
            return False
        said = self._ask()
        return said is not None and said.batch

    def refused(self, resource_type: str) -> None:
        """Remember that the EHR turned out not to have a type, or not to take a `BATCH`."""
        self._refused[resource_type] = self._monotonic()

    def _has_refused(self, resource_type: str) -> bool:
        refused_at = self._refused.get(resource_type, float("-inf"))
        return self._monotonic() - refused_at < REMEMBER_S

    def _ask(self) -> EhrCapabilities | None:
        if self._monotonic() - self._asked_at >= REMEMBER_S:
            try:
                self._said = self._ehr.capabilities()
                self._asked_at = self._monotonic()
            except GatewayError:  # away, or it does not say: the write itself will tell
                return self._said
        return self._said
