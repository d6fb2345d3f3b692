"""What `nadi doctor` says of the feeds that follow an EHR, and of ports of DICOM.

Are its Subscriptions there, does what changes there arrive here, and is it looked for what was
deleted there?

The second is proved: where the site file names a test patient, a probe is written into the EHR and
waited for.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from adapters.feeds.atom_client import atom_client
from adapters.feeds.subscription import WORKING
from adapters.fhir_rest.client import FhirClient
from adapters.site import Site, System
from adapters.site_address import completed
from adapters.site_feeds import Feed
from adapters.site_following import AtomEntry, FollowEntry, PollEntry, SubscriptionEntry
from gateway.cli.doctor_remedies import with_remedy
from gateway.cli.doctor_systems import unsaid
from gateway.core.audit import Source
from gateway.core.errors import GatewayError
from gateway.delivery_probe import DeliveryProbe, ObservationTrace, SavedPatientTrace, Trace
from gateway.feed_standing import pushings
from gateway.listeners.deletions import CONSENT, STATE
from gateway.listeners.keeping import references_of
from gateway.store.unit_of_work import Store
from workers.ehrs import Ehrs
from workers.pacing import paced

_FOLLOWING = frozenset({"subscription", "poll", "atom"})
_ASK_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.2
#: A probe is given so long beyond the interval of a poll.
_PATIENCE_S = 10.0
#: A look for deletions is late after so many intervals.
_LATE_LOOKS = 3
_SILENT = "does it still push, with a credential of Nadi's that is in force?"
_FEW_MINUTES, _MANY_MINUTES = 2, 120
_LATE = "; a Consent that was deleted since still permits: does its listener run, and what says it?"
_UNPROVEN = (
    "not proved: name a made-up patient of this system (test_patient in the site file); a probe "
    "about it is then written and waited for"
)
_IGNORED = (
    "an EHR that does not know one leaves it out in silence and sends everything: look whether "
    "what comes is what was asked for, or leave it out of `types`, since `match` decides anyway"
)
_OBSERVATIONS = (
    "does the feed follow Observations of category laboratory, does its listener run, and does the "
    "EHR reach this gateway?"
)
_ENTRIES = "does its listener run, and does the feed patient have an entry about it?"
_NO_PATIENTS = (
    "not proved: a probe arrives by the feed patient, which is not read; add it to `feeds`"
)


@dataclass(frozen=True)
class FeedFinding:
    """What was found of a feed; `is_fault` is None where nothing could be proved."""

    check: str
    says: str
    is_fault: bool | None


def feed_findings(site: Site, store: Store, source: Source) -> Iterator[FeedFinding]:
    """Look at every feed that follows an EHR, and ask every port of DICOM."""
    ehrs = Ehrs(lambda: site, store=store, timeout_s=_ASK_WITHIN_S)
    for feed in site.feeds.values():
        system = site.system(feed.system)
        if feed.kind in _FOLLOWING and system is not None:
            yield from _of_feed(_Examined(feed, system, store, source), ehrs)
    yield from pushes_of(site, store)
    ehrs.close()
    yield from _ports(site)


def pushes_of(site: Site, store: Store) -> Iterator[FeedFinding]:
    """Say of every system that pushes when its last event came; a silent one is a fault."""
    with store.read() as uow:
        found, now_ms = pushings(uow, site), uow.now_ms
    for each in found:
        words = "nothing was pushed yet"
        if each.heard_ms is not None:
            words = f"the last event came {_ago((now_ms - each.heard_ms) / 1000)}"
        if each.is_silent:
            words = f"silent: {words}, and silent_after_s is {each.after_s:g}; {_SILENT}"
        elif each.after_s is None:
            words += "; with silent_after_s in the site file it is told"
        yield FeedFinding(f"push {each.system}", words, is_fault=each.is_silent)


def _ports(site: Site) -> Iterator[FeedFinding]:
    if not any(feed.kind == "dicom" for feed in site.feeds.values()):
        return
    from gateway.cli.doctor_dicom import echoes  # noqa: PLC0415 - slow to load, needed by few

    for name, is_well, says in echoes(site):
        yield FeedFinding(f"C-ECHO {name}", says, is_fault=not is_well)


@dataclass(frozen=True)
class _Examined:
    feed: Feed
    system: System
    store: Store
    source: Source


def _of_feed(examined: _Examined, ehrs: Ehrs) -> Iterator[FeedFinding]:
    name = examined.feed.name
    try:
        client = ehrs.connection(examined.system.name).client
        yield from _searches(examined, client)
        if examined.feed.kind == "subscription":
            yield _subscriptions(examined, client)
        yield _delivery(examined, client)
        if isinstance(examined.feed.entry, FollowEntry):
            yield deletions_of(examined.feed, examined.store)
    except GatewayError as error:
        yield FeedFinding(f"delivery {name}", with_remedy(error), is_fault=True)


def deletions_of(feed: Feed, store: Store) -> FeedFinding:
    """Say how the deletions of a feed's EHR are found, and when they last were.

    A look that is overdue is a fault: a Consent may be gone, and permit.
    """
    check = f"deletions {feed.name}"
    with store.read() as uow:
        kept = uow.listener_state.with_prefix(feed.name, STATE)
        now_ms = uow.now_ms
    looks = {key.removeprefix(STATE): _look(value) for key, value in kept.items()}
    if not looks:
        return FeedFinding(check, "not looked for yet: does its listener run?", is_fault=None)
    every_s = feed.entry.deletions_every_s if isinstance(feed.entry, FollowEntry) else 0
    ages_s = {kind: (now_ms - at_ms) / 1000 for kind, (_, at_ms) in looks.items()}
    words = [f"{kind} {how} {_ago(ages_s[kind])}" for kind, (how, _) in sorted(looks.items())]
    is_late = ages_s.get(CONSENT, 0) > _LATE_LOOKS * every_s + _PATIENCE_S
    remedy = _LATE if is_late else ""
    return FeedFinding(check, f"looked for: {'; '.join(words)}{remedy}", is_fault=is_late)


def _look(kept: Mapping[str, int]) -> tuple[str, int]:
    """Say how a type was last looked after, and when."""
    asked_ms, swept_ms = kept.get("asked_ms", 0), kept.get("swept_ms", 0)
    how = "by the EHR's history" if asked_ms >= swept_ms else "by asking for what is held"
    return how, max(asked_ms, swept_ms)


def _ago(age_s: float) -> str:
    minutes = int(age_s // 60)
    if minutes < _FEW_MINUTES:
        return "just now"
    return f"{minutes} min ago" if minutes < _MANY_MINUTES else f"{minutes // 60} h ago"


def _searches(examined: _Examined, client: FhirClient) -> Iterator[FeedFinding]:
    """Compare what is searched by with what the EHR says it knows."""
    entry = examined.feed.entry
    if not isinstance(entry, FollowEntry):
        return
    try:
        missing = unsaid(entry.types, client.capabilities())
    except GatewayError:  # that it says nothing of itself has a finding of its own
        return
    if missing:
        says = f"its CapabilityStatement names no search parameter {', '.join(missing)}; {_IGNORED}"
        yield FeedFinding(f"search {examined.feed.name}", says, is_fault=None)


def _subscriptions(examined: _Examined, client: FhirClient) -> FeedFinding:
    """Ask the EHR for each Subscription that is kept there."""
    check = f"subscriptions {examined.feed.name}"
    known = references_of(examined.store, examined.feed)
    states = {reference: _state(client, reference) for reference in known}
    ended = [f"{each} is {state}" for each, state in states.items() if state not in WORKING]
    if not known or ended:
        words = ", ".join(ended) or "none was made yet"
        return FeedFinding(check, f"{words}; its listener, or nadi site apply, mends it", True)
    return FeedFinding(check, f"{len(known)} in the EHR, and at work", is_fault=False)


def _state(client: FhirClient, reference: str) -> str:
    found = client.read(reference)
    return "gone" if found is None else str(found.get("status"))


def _delivery(examined: _Examined, client: FhirClient) -> FeedFinding:
    """Write a probe and wait for it."""
    check, patient = f"delivery {examined.feed.name}", examined.system.test_patient
    if patient is None:
        return FeedFinding(check, _UNPROVEN, is_fault=None)
    entry = examined.feed.entry
    if not isinstance(entry, AtomEntry):
        return _awaited(examined, ObservationTrace(client, patient), _OBSERVATIONS)
    if "patient" not in entry.feeds:
        return FeedFinding(check, _NO_PATIENTS, is_fault=None)
    base_url = completed(entry.base_url, f"The base_url of {examined.feed.name}")
    pace = paced(examined.system, examined.store, timeout_s=_ASK_WITHIN_S)
    feeds = atom_client(base_url, examined.system, _ASK_WITHIN_S, pace)
    try:
        trace = SavedPatientTrace(feeds.save_patient, patient)
        return _awaited(examined, trace, _ENTRIES)
    finally:
        feeds.close()


def _awaited(examined: _Examined, trace: Trace, may_be: str) -> FeedFinding:
    """Leave a trace and wait until it has arrived; where it does not, ask what it may be."""
    feed = examined.feed
    check, names = f"delivery {feed.name}", (feed.name, feed.system)
    probe = DeliveryProbe(examined.store, trace, names, examined.source)
    within_s = _within_s(feed)
    sent, until = probe.send(), time.monotonic() + within_s
    while (lag_ms := probe.lag_ms(sent)) is None:
        if time.monotonic() > until:
            words = f"the probe {sent.reference} did not arrive within {within_s:g} s: {may_be}"
            return FeedFinding(check, words, is_fault=True)
        time.sleep(_LOOK_EVERY_S)
    return FeedFinding(check, f"a probe arrived after {lag_ms / 1000:.1f} s", is_fault=False)


def _within_s(feed: Feed) -> float:
    """Say how long a probe may take: what is polled waits for the next question."""
    entry = feed.entry
    if isinstance(entry, PollEntry | AtomEntry):
        return entry.every_s + _PATIENCE_S
    lost_s = entry.grace_s if isinstance(entry, SubscriptionEntry) else 0
    return lost_s + _PATIENCE_S
