"""(4.3) Ask an EHR, or its image archive, for what one case's resource points at; all audited.

A system that did not answer is not asked again in the same batch, and one whose circuit is open is
not asked at all. The audit log names a resource by its keyed hash.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from adapters.fhir_rest.answers import Content
from gateway.core import audit
from gateway.core.attachments import Instance, Listed
from gateway.core.audit import AgentKind, AuditRecord
from gateway.core.errors import ConfigurationError, ProcessingError, RateTaken, TransientError
from workers.cases import Case, step_of
from workers.masking import may_read
from workers.opening import Batch
from workers.ports import Archive, Connection, system_agent

Json = Mapping[str, Any]
T = TypeVar("T")

_LONGEST_NAME = 55


class CircuitOpen(TransientError):
    """The system did not answer lately, and is not to be asked yet."""

    def __init__(self, circuit: str) -> None:
        super().__init__("The system is away.")
        self.circuit = circuit


class Masked(Exception):
    """The patient's consents do not permit what a resource points at."""


def archive_circuit(system: str) -> str:
    """Name the circuit of a system's image archive: it may be away when the EHR is not."""
    return f"{system[:_LONGEST_NAME]}/dicomweb"


class Fetcher:
    """The EHR of one case, see `workers.shelf.Keeper`.

    Attributes:
        records: AuditEvents of what was asked.
        given: What it read.
    """

    def __init__(self, batch: Batch, case: Case) -> None:
        self._batch = batch
        self._case = case
        self.records: list[AuditRecord] = []
        self.given: list[Json] = []

    @property
    def base_url(self) -> str:
        """FHIR base of the EHR; empty where the system has none.

        Raises:
            ConfigurationError: The site has no such system (any more).
        """
        known = self._batch.round.site.system(self._case.event.system)
        if known is not None and known.address is None:
            return ""
        return self._connection().base_url

    def read(self, reference: str) -> Json | None:
        """Read a resource; None when the EHR does not have it.

        Raises:
            TransientError: It is away.
            ProcessingError: It refuses.
            Masked: The patient's consents do not permit it.
        """
        client = self._connection().client
        found = self._ask(self._case.event.system, reference, lambda: client.read(reference))
        if found is not None and not may_read(self._case.question, found):
            raise Masked
        self.given += [] if found is None else [found]
        return found

    def content(self, address: str, *, max_bytes: int) -> Content | None:
        """Fetch what an attachment points at; None when the EHR does not have it.

        Raises:
            TransientError: It is away.
            ProcessingError: It refuses, or the address is not its own.
        """
        client = self._connection().client
        return self._ask(
            self._case.event.system,
            address,
            lambda: client.content(address, max_bytes=max_bytes),
        )

    def instance(self, at: Instance, *, max_bytes: int) -> bytes | None:
        """Fetch a DICOM file; None when the archive does not have it.

        Raises:
            ConfigurationError: The site names no archive.
            TransientError: It is away.
            ProcessingError: It refuses.
        """
        archive = self._archive()
        return self._ask(
            archive_circuit(self._case.event.system),
            f"studies/{at.study}/series/{at.series}/instances/{at.instance}",
            lambda: archive.instance(at.study, at.series, at.instance, max_bytes=max_bytes),
        )

    def instances(self, study: str) -> Sequence[Listed]:
        """Ask the archive which instances of a study it has.

        Raises:
            ConfigurationError: The site names no archive.
            TransientError: It is away.
            ProcessingError: It refuses.
        """
        archive = self._archive()
        circuit = archive_circuit(self._case.event.system)
        return self._ask(circuit, f"studies/{study}/instances", lambda: archive.instances(study))

    def _archive(self) -> Archive:
        archive = self._connection().archive
        if archive is None:
            system = self._case.event.system
            raise ConfigurationError(f"System '{system}' needs a dicomweb_url in the site file.")
        return archive

    def _connection(self) -> Connection:
        return self._batch.ports.ehrs.connection(self._case.event.system)

    def _ask(self, circuit: str, name: str, do: Callable[[], T]) -> T:
        if circuit in self._batch.away:
            raise self._batch.away[circuit]
        if not self._batch.round.lets_through(circuit):
            raise CircuitOpen(circuit)
        try:
            found = do()
        except RateTaken:
            raise  # nobody was asked: the line before the system is too long
        except TransientError as error:
            self._batch.away[circuit] = error
            self._note(name, f"The system did not answer: {type(error).__name__}.")
            raise
        except ProcessingError as error:
            self._note(name, f"The system did not give it: {type(error).__name__}.")
            raise
        self._batch.answered.add(circuit)
        self._note(name, "")
        return found

    def _note(self, name: str, reason: str) -> None:
        system, job = self._case.event.system, self._case.job
        hashed = self._batch.ports.store.sealer.keyed_hash("resource-version", system, name)
        kind = name.partition("/")[0] if name[:1].isupper() else "content"
        record = audit.fetched(
            step_of(job, self._batch.round, reason),
            ehr=system_agent(system, AgentKind.SERVER),
            query=f"{kind}/{hashed}",
        )
        self.records.append(record)
