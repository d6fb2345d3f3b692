"""Keep the Subscriptions of a feed in its EHR: there, as the site file says, and working.

* Each has a credential of its own, which its header carries and nobody else knows. Whenever the
  Subscription is written again, a new one is made, and the old one is revoked afterwards.
* One that the EHR has lost is made again; one in error, or off, is set to `requested`; one that the
  site file does not name any more is set to `off`, and its credential is revoked.
* What is in the EHR already, from a start that broke off, is taken over and not made twice.
* One at a time does so: the listener, and `nadi site apply`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from adapters.feeds.subscription import WORKING, Wanted
from adapters.fhir_rest.client import FhirClient
from adapters.site_address import completed
from adapters.site_feeds import Feed
from adapters.site_following import SubscriptionEntry
from gateway import telemetry
from gateway.core import audit
from gateway.core.audit import AuditAgent, Source, Step
from gateway.core.clock import new_id
from gateway.core.errors import Busy, ConfigurationError, GatewayError, NotFound, ProcessingError
from gateway.core.principal import Role
from gateway.store.unit_of_work import Store, UnitOfWork

_OWN = "own/"
_CLAIM = "keeping"
#: Who claimed the work and died holds it up for so long.
_CLAIMED_MS = 60_000

log = telemetry.get_logger()


@dataclass(frozen=True)
class _Own:
    """What is remembered of one: where it is, what it says, and with which credential it calls."""

    reference: str
    sha256: str
    credential: str


@dataclass(frozen=True)
class Kept:
    """One Subscription of ours.

    Attributes:
        reference: `Subscription/id` in the EHR.
        was: What was done: `kept`, `made`, `renewed` or `ended`.
    """

    criteria: str
    reference: str
    was: str


class Keeper:
    """Keeps the Subscriptions of one feed."""

    def __init__(
        self, store: Store, feed: Feed, client: FhirClient, *, source: Source, by: AuditAgent
    ) -> None:
        """Take whose they are.

        Args:
            store: The database.
            feed: Of kind `subscription`.
            client: Of its EHR.
            source: Who writes the audit events.
            by: Who makes the credentials.
        """
        self._store = store
        self._feed = feed
        self._client = client
        self._source = source
        self._by = by

    def keep(self) -> list[Kept]:
        """See to every Subscription of the feed.

        Raises:
            TransientError: The EHR is away.
            ProcessingError: It refuses a Subscription.
            ConfigurationError: The site file can't say where Nadi is reached.
        """
        wanted = wanted_of(self._feed)
        with self._alone():
            known = self._known()
            kept = [self._keep(key, each, known.get(key)) for key, each in wanted.items()]
            return [*kept, *self._end([key for key in known if key not in wanted])]

    def end(self) -> list[Kept]:
        """End every Subscription of the feed, which the site file does not have any more.

        Raises:
            TransientError: The EHR is away.
        """
        with self._alone():
            return self._end(list(self._known()))

    def renew(self, reference: str) -> bool:
        """Set a Subscription to `requested`, with a new credential; say whether it is ours.

        Raises:
            TransientError: The EHR is away.
            ProcessingError: It refuses.
        """
        known = self._known()
        for key, wanted in wanted_of(self._feed).items():
            if key in known and known[key].reference == reference:
                with self._alone():
                    self._write(key, wanted, known[key], self._client.read(reference))
                return True
        return False

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from making the same Subscriptions at the same time.

        Raises:
            Busy: Somebody is at it.
        """
        with self._store.write() as uow:
            uow.lock_patients([f"{self._feed.name} {_CLAIM}"])
            until_ms = uow.listener_state.get(self._feed.name, _CLAIM) or 0
            if until_ms > uow.now_ms:
                raise Busy("Its Subscriptions are being seen to by another process.")
            uow.listener_state.put(self._feed.name, {_CLAIM: uow.now_ms + _CLAIMED_MS})
        try:
            yield
        finally:
            with self._store.write() as uow:
                uow.listener_state.remove(self._feed.name, _CLAIM)

    def _known(self) -> dict[str, _Own]:
        with self._store.read() as uow:
            kept = uow.listener_state.with_prefix(self._feed.name, _OWN)
        return {key: _Own(**each) for key, each in kept.items()}

    def _keep(self, key: str, wanted: Wanted, known: _Own | None) -> Kept:
        found = self._client.read(known.reference) if known else self._like(wanted)
        is_same = known is not None and known.sha256 == wanted.digest
        if found is not None and known and is_same and found.get("status") in WORKING:
            return Kept(wanted.criteria, known.reference, "kept")
        return self._write(key, wanted, known, found)

    def _like(self, wanted: Wanted) -> dict[str, Any] | None:
        """Find one that a start which broke off has left; an EHR may not know the search."""
        try:
            listed = self._client.search("Subscription", [("url", wanted.endpoint)])
        except ProcessingError:
            return None
        return next((each for each in listed if wanted.is_in(each)), None)

    def _write(
        self, key: str, wanted: Wanted, known: _Own | None, found: dict[str, Any] | None
    ) -> Kept:
        credential_id, token = self._new_credential(key)
        try:
            reference = self._send(wanted, token, found)
        except GatewayError:
            with self._store.write() as uow:
                self._revoke(uow, credential_id)
            raise
        own = _Own(reference, wanted.digest, credential_id)
        with self._store.write() as uow:
            uow.listener_state.put(self._feed.name, {key: vars(own)})
            if known is not None:
                self._revoke(uow, known.credential)
        return Kept(wanted.criteria, reference, "made" if found is None else "renewed")

    def _send(self, wanted: Wanted, token: str, found: dict[str, Any] | None) -> str:
        if found is None:
            body = orjson.dumps(wanted.resource(token))
            written = self._client.create("Subscription", body)
        else:
            body = orjson.dumps(wanted.resource(token, resource_id=str(found["id"])))
            written = self._client.update(f"Subscription/{found['id']}", body)
        if written.reference is None:
            raise NotFound("The EHR does not say where it keeps the Subscription.")
        return written.reference

    def _end(self, keys: Sequence[str]) -> list[Kept]:
        return [self._end_one(key) for key in keys]

    def _end_one(self, key: str) -> Kept:
        known = self._known()[key]
        found = self._client.read(known.reference)
        if found is not None:
            body = orjson.dumps({**found, "status": "off"})
            try:
                self._client.update(known.reference, body)
            except ProcessingError as error:
                # Its credential ends all the same: what it still sends is not taken.
                log.warning("subscription-not-ended", error=type(error).__name__)
        with self._store.write() as uow:
            self._revoke(uow, known.credential)
            uow.listener_state.remove(self._feed.name, key)
        return Kept("", known.reference, "ended")

    def _new_credential(self, key: str) -> tuple[str, str]:
        name = f"{self._feed.name} {key.removeprefix(_OWN)[:8]}"[:64]
        with self._store.write() as uow:
            made = uow.credentials.add(name, Role.EHR, self._feed.speaks_for)
            self._record(uow, made[0], is_added=True)
        return made

    def _revoke(self, uow: UnitOfWork, credential_id: str) -> None:
        found = uow.credentials.find(credential_id)
        if found is not None and found.revoked_ms is None:
            uow.credentials.revoke(credential_id)
            self._record(uow, credential_id, is_added=False)

    def _record(self, uow: UnitOfWork, credential_id: str, *, is_added: bool) -> None:
        found = uow.credentials.find(credential_id)
        uow.audit(
            audit.credential_changed(
                Step(id=new_id(), recorded=uow.now, source=self._source),
                by=self._by,
                credential_id=credential_id,
                role=Role.EHR.value,
                is_added=is_added,
                fingerprint=found.fingerprint if found else "",
            )
        )


def references_of(store: Store, feed: Feed) -> list[str]:
    """Give where the EHR keeps the Subscriptions of a feed, as far as they were made."""
    with store.read() as uow:
        kept = uow.listener_state.with_prefix(feed.name, _OWN)
    return [_Own(**each).reference for each in kept.values()]


def wanted_of(feed: Feed) -> dict[str, Wanted]:
    """Give the Subscriptions that a feed wants, by the keys under which they are remembered.

    Raises:
        ConfigurationError: A variable of the endpoint is not set, or it is no such feed.
    """
    entry = feed.entry
    if not isinstance(entry, SubscriptionEntry):
        raise ConfigurationError(f"{feed.name} has no settings of a Subscription.")
    endpoint = completed(entry.endpoint, f"The endpoint of {feed.name}")
    return {
        f"{_OWN}{sha256(criteria.encode()).hexdigest()[:32]}": Wanted(
            criteria=criteria,
            endpoint=endpoint,
            reason=f"Nadi, feed {feed.name}",
            topic=entry.topic,
            content=entry.content,
            heartbeat_s=entry.heartbeat_s if entry.topic else None,
        )
        for criteria in entry.types
    }
