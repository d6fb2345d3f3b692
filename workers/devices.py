"""(6.3) Where an EHR has the Devices of the models: one for each, however many write there at once.

A Device is looked for before it is written, so that an EHR that heeds no condition gets no second
one; an EHR that takes none has it inside each result.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from adapters.fhir_rest.answers import WriteOutcome
from adapters.fhir_rest.errors import EhrAnswerUnreadable
from gateway.core.errors import ProcessingError
from gateway.core.findings import DIGEST_SYSTEM
from gateway.core.write_back import CONTAINED_DEVICE, StoredReport, device_condition, is_device
from workers.ehr_abilities import EhrAbilities


class Keeper(Protocol):
    """What is needed of the client of an EHR; `adapters.fhir_rest` has one."""

    def search(
        self, resource_type: str, params: Sequence[tuple[str, str]], *, max_pages: int = 5
    ) -> list[dict[str, Any]]:
        """Search one type."""

    def create(
        self, resource_type: str, body: bytes, *, if_none_exist: str | None = None
    ) -> WriteOutcome:
        """Create a resource unless the condition finds it."""


class Devices:
    """The Devices in one EHR; safe to share among threads."""

    def __init__(self, ehr: Keeper, abilities: EhrAbilities) -> None:
        self._ehr = ehr
        self._abilities = abilities
        self._placing = threading.Lock()
        self._places: dict[str, str] = {}

    def known(self) -> dict[str, str]:
        """Give the places that are known, by the model's digest."""
        return dict(self._places)  # other threads learn places too

    def look_for(self, reports: Sequence[StoredReport]) -> None:
        """Learn where Devices are, so that an EHR without conditions makes no second one.

        Raises:
            TransientError: The EHR is away.
        """
        for digest in {report.digest for report in reports} - self._places.keys():
            # Where it can't be searched for, the condition of its entry has to do.
            with suppress(ProcessingError):
                self.remember(digest, self._find(digest))

    def remember(self, digest: str, reference: str | None) -> None:
        """Keep where a Device is, where that is known."""
        if reference is not None:
            self._places[digest] = reference

    def forget(self, reports: Sequence[StoredReport]) -> None:
        """Look for the Devices anew: one may be gone, and that be the reason of a refusal."""
        for report in reports:
            self._places.pop(report.digest, None)

    def place(self, report: StoredReport) -> str:
        """Give the place of the model's Device, written first where it is not there.

        Raises:
            TransientError: The EHR is away, or does not say where the Device is.
        """
        with self._placing:  # one places it, so that an EHR without conditions gets no second one
            place = self._places.get(report.digest)
            if place is None:
                place = self._places[report.digest] = self._placed(report)
            return place

    def _placed(self, report: StoredReport) -> str:
        if self._abilities.rules_out("Device"):
            return CONTAINED_DEVICE
        try:
            return self._find(report.digest) or self._create(report)
        except ProcessingError:  # an EHR without Devices: the Observation carries its own
            return CONTAINED_DEVICE

    def _find(self, digest: str) -> str | None:
        token = [("identifier", f"{DIGEST_SYSTEM}|{digest}")]
        for found in self._ehr.search("Device", token, max_pages=1):
            if is_device(found, digest):
                return f"Device/{found.get('id')}"
        return None

    def _create(self, report: StoredReport) -> str:
        condition = device_condition(report.digest)
        reference = self._ehr.create("Device", report.device, if_none_exist=condition).reference
        if reference is None:
            raise EhrAnswerUnreadable
        return reference
