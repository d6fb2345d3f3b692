"""What the two stories of the workers, infer and deliver, need from outside.

`workers.app` fills these for a running process; tests fill them with a temporary database and
fakes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from adapters.fhir_rest.answers import Content
from adapters.site import Site
from gateway.core.attachments import Listed
from gateway.core.audit import AgentKind, AuditAgent, AuditedModel, Source
from gateway.core.clock import Clock, to_ms, utc_now
from gateway.core.delivery import Backoff, Circuit, Passage, Random
from gateway.core.findings import RuntimeFacts
from gateway.core.write_back import StoredReport
from gateway.store.unit_of_work import Store, UnitOfWork
from models.manifest import Manifest
from workers.chart import Searchable
from workers.fates import Fate, Gate

if TYPE_CHECKING:  # a worker that only delivers does without numpy
    from models.tensors import FloatArray, Tensors
    from models.texts import TextEncoder


class Client(Searchable, Protocol):
    """What is needed of an EHR's client; `adapters.fhir_rest` has one."""

    def read(self, reference: str) -> Mapping[str, Any] | None:
        """Read a resource; None when the EHR does not have it."""

    def content(self, address: str, *, max_bytes: int) -> Content | None:
        """Fetch what an attachment points at; None when the EHR does not have it."""


class Archive(Protocol):
    """What is needed of an image archive's client; `adapters.dicomweb` has one."""

    def instance(self, study: str, series: str, instance: str, *, max_bytes: int) -> bytes | None:
        """Fetch a DICOM file; None when the archive does not have it."""

    def instances(self, study: str) -> Sequence[Listed]:
        """Ask which instances of a study it has."""


class Recipient(Protocol):
    """Takes results into one EHR; `workers.climbing` has one."""

    def write(
        self, reports: Sequence[StoredReport], *, repeated: frozenset[str], gate: Gate
    ) -> dict[str, Fate]:
        """Write reports; give the fate of each by its identifier."""

    def look_again(self) -> None:
        """Find out anew what the EHR can do."""


class Connection(Protocol):
    """How one EHR is reached."""

    @property
    def client(self) -> "Client":
        """For searches, and for what resources point at."""

    @property
    def archive(self) -> "Archive | None":
        """Where its images are; None when the site names no archive."""

    @property
    def recipient(self) -> Recipient:
        """For results."""

    @property
    def base_url(self) -> str:
        """Its FHIR base."""


class Connections(Protocol):
    """Every EHR of the site."""

    def connection(self, system: str) -> Connection:
        """Give the connection to a system."""


class LoadedModel(Protocol):
    """A model that can be asked."""

    @property
    def manifest(self) -> Manifest:
        """What it needs and gives."""

    @property
    def facts(self) -> RuntimeFacts:
        """On what it runs."""

    @property
    def encoder(self) -> "TextEncoder | None":
        """Its tokenizer, where it reads texts."""

    def predict(self, batch: "Tensors") -> "FloatArray":
        """Ask it: n cases by the graph's names give float32 of shape (n, columns)."""


class Models(Protocol):
    """The models of this process."""

    def get(self, digest: str) -> LoadedModel:
        """Give a model by its digest.

        Raises:
            NotFound: It is not installed here.
        """

    def retire(self, digests: Collection[str], /) -> int:
        """Let go of retired models, for good; count those that were open."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The outside of a worker.

    Attributes:
        owner: Name that leases are held under.
        lease_ms: How long a worker may hold what it claimed, in milliseconds.
        site: Gives the site in force.
        backoff: When to try again.
        random: Gives a random number in [0, 1).
        clock: Gives the present time.
        began_ms: When this process began.
    """

    store: Store
    site: Callable[[], Site]
    models: Models
    ehrs: Connections
    owner: str
    lease_ms: int
    backoff: Backoff
    random: Random
    clock: Clock = utc_now
    began_ms: int = 0


@dataclass(frozen=True)
class Round:
    """One round of a worker: the moment it looked, and what held then.

    Attributes:
        now: The moment.
        site: The site in force.
        source: Who writes the audit events.
        circuits: The circuits that are not closed, by system.
    """

    now: datetime
    site: Site
    source: Source
    circuits: Mapping[str, Circuit]

    @property
    def now_ms(self) -> int:
        """The moment in milliseconds."""
        return to_ms(self.now)

    def lets_through(self, system: str) -> bool:
        """Say whether a system may be asked."""
        return self.circuits.get(system, Circuit()).passage(self.now_ms) is not Passage.NONE


def new_round(uow: UnitOfWork, ports: Ports) -> Round:
    """Look at the time, the site and the circuits."""
    site = ports.site()
    source = Source(site.name or "site", ports.owner)
    return Round(uow.now, site, source, uow.deliveries.circuits())


def system_agent(system: str, kind: AgentKind) -> AuditAgent:
    """Name a system in an audit event."""
    return AuditAgent(system, system, kind)


def audited(facts: RuntimeFacts, name: str) -> AuditedModel:
    """Name a model and its runtime in an audit event."""
    return AuditedModel(name, facts.model_digest, facts.runtime, facts.kernel_class)
