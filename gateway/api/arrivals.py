"""(1.1) From a request to arrivals: each resource with its identity and its patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256

from adapters.site import Site
from gateway.api.entries import is_whole, lost_consent
from gateway.core.admission import Arrival
from gateway.core.clock import new_id
from gateway.core.deletion import is_deleted
from gateway.core.errors import ConfigurationError, Issue
from gateway.core.event import Facts, facts
from gateway.core.fhir import BundleEntry, ParsedBundle, Resource
from gateway.core.jobs import EventId
from gateway.core.principal import Principal
from gateway.store.identity import dedupe_key, resource_key
from gateway.store.sealing import Sealer

#: What makes a posting heavy: an image of some megabytes counts for many resources, so that those
#: which wait for a commit take only so much memory.
_BYTES_PER_RESOURCE = 32 * 1024


@dataclass(frozen=True, kw_only=True)
class Posting:
    """One request with its parsed content: a single resource or a Bundle.

    Attributes:
        system: The system of the site file that the caller speaks for.
        address: Network address of the caller, for the audit event.
        is_update: Whether it came by PUT.
        is_known_bundle: Whether the same Bundle is stored already, or is about to be.
        awaited_by: Route whose result somebody waits for.
        refusal: Why it is refused as a whole; it holds neither resource nor Bundle then.
        is_record: Whether its resources are only kept for the record.
        is_told: Whether it brings all that the EHR has of what the awaited model reads.
    """

    principal: Principal
    system: str
    request_id: str
    address: str | None
    is_update: bool = False
    resource: Resource | None = None
    bundle: ParsedBundle | None = None
    submission_id: str = field(default_factory=new_id)
    is_known_bundle: bool = False
    refusal: tuple[Issue, ...] = ()
    awaited_by: str | None = None
    is_record: bool = False
    is_told: bool = False

    @property
    def weight(self) -> int:
        """What it counts for in a batch: its number of resources, or more where it is large."""
        content = self.bundle or self.resource
        return max(self.count, len(content.raw) // _BYTES_PER_RESOURCE if content else 0)

    @property
    def count(self) -> int:
        """Its number of resources."""
        return max(1, len(self.bundle.entries)) if self.bundle else 1

    @property
    def holds_consent(self) -> bool:
        """Whether a Consent is among its resources."""
        entries = self.bundle.entries if self.bundle else ()
        resources = [self.resource, *(entry.resource for entry in entries)]
        return any(each is not None and each.type == "Consent" for each in resources)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the Bundle or of the resource, hexadecimal; hashed once however often read."""
        content = self.bundle or self.resource
        return sha256(content.raw if content else b"").hexdigest()

    def issues_of(self, index: int) -> tuple[Issue, ...]:
        """Say why an entry of the Bundle, or all of the posting, gave no arrival."""
        return self.bundle.entries[index].issues if self.bundle else self.refusal


def gather(
    postings: Sequence[Posting], sealer: Sealer, site: Site
) -> list[tuple[Posting, Sequence[Arrival | None]]]:
    """Give one arrival per resource; None for what is refused, which its posting explains."""
    # Once per batch: the address is put together from the environment each time it is asked for.
    bases = {system: base_url_of(site, system) for system in {each.system for each in postings}}
    return [
        _without_lost(each, _arrivals_of(each, sealer, bases[each.system])) for each in postings
    ]


def _without_lost(
    posting: Posting, arrivals: list[Arrival | None]
) -> tuple[Posting, Sequence[Arrival | None]]:
    """Refuse the consents that no patient could be found for."""
    lost: dict[int, Issue] = {}
    for index, arrival in enumerate(arrivals):
        at = f"Bundle.entry[{index}].resource" if posting.bundle else "Consent"
        issue = arrival and lost_consent(arrival.facts, at)
        if issue and arrival and not is_deleted(arrival.content):
            lost[index] = issue
    return refused(posting, arrivals, lost)


def refused(
    posting: Posting, arrivals: Sequence[Arrival | None], issues: Mapping[int, Issue]
) -> tuple[Posting, Sequence[Arrival | None]]:
    """Refuse some resources of a posting: these alone, or all of a Bundle that is one whole.

    Args:
        posting: The request.
        arrivals: Of it, in order.
        issues: Why, by place.
    """
    if not issues:
        return posting, arrivals
    bundle = posting.bundle
    if bundle is None or is_whole(bundle):
        refusal = tuple(issues.values())
        return replace(posting, resource=None, bundle=None, refusal=refusal), [None]
    entries = tuple(
        replace(entry, resource=None, issues=(issues[index],)) if index in issues else entry
        for index, entry in enumerate(bundle.entries)
    )
    kept = [None if index in issues else arrival for index, arrival in enumerate(arrivals)]
    return replace(posting, bundle=replace(bundle, entries=entries)), kept


def _arrivals_of(posting: Posting, sealer: Sealer, base_url: str | None) -> list[Arrival | None]:
    if posting.resource is not None:
        read = facts(posting.resource.content, base_url=base_url)
        return [_arrival(posting, posting.resource, sealer, read)]
    entries = posting.bundle.entries if posting.bundle else ()
    urns = _urns(entries)
    return [_of_entry(posting, entry, sealer, base_url, urns) for entry in entries]


def _of_entry(
    posting: Posting,
    entry: BundleEntry,
    sealer: Sealer,
    base_url: str | None,
    urns: Mapping[str, str],
) -> Arrival | None:
    if entry.resource is None:
        return None
    read = facts(entry.resource.content, base_url=base_url, urns=urns)
    return _arrival(posting, entry.resource, sealer, read, index=entry.index)


def base_url_of(site: Site, system: str) -> str | None:
    """Give the FHIR base of a system; None where it is not known here."""
    known = site.systems.get(system)
    try:
        return known.base_url if known else None
    except ConfigurationError:
        # An address that can't be completed here leaves absolute references unresolved: their
        # patients are unknown, and nothing runs for an unknown patient.
        return None


def _urns(entries: tuple[BundleEntry, ...]) -> Mapping[str, str]:
    """Map each entry's `urn:uuid:` to `Type/id`, as far as its resource has an id."""
    return {
        entry.full_url: f"{entry.resource.type}/{entry.resource.content['id']}"
        for entry in entries
        if entry.full_url and entry.resource and "id" in entry.resource.content
    }


def _arrival(
    posting: Posting, resource: Resource, sealer: Sealer, read: Facts, *, index: int | None = None
) -> Arrival:
    digest = sha256(resource.raw).hexdigest()
    system = posting.system
    return Arrival(
        id=EventId(new_id()),
        system=system,
        principal_id=posting.principal.id,
        request_id=posting.request_id,
        facts=read,
        content=resource.content,
        raw=resource.raw,
        sha256=digest,
        dedupe_key=dedupe_key(sealer, system, read, digest),
        resource_key=resource_key(sealer, system, read),
        patient_key=sealer.patient_key(system, read.patient) if read.patient else None,
        submission_id=posting.submission_id if posting.bundle else None,
        entry_index=index,
        is_update=posting.is_update,
        address=posting.address,
        principal_name=posting.principal.name,
        awaited_by=posting.awaited_by,
        is_record=posting.is_record,
        is_told=posting.is_told,
    )
