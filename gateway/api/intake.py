"""(1, 2) Receive and admit: what waits together is stored, decided and audited in one transaction.

(1.1) each resource is given its identity: dedupe key, patient key, version; a Consent whose
      patient can't be told is refused;
(1.2) repeats are recognised, among themselves and against what is stored;
(1.3) new resources are stored as received, sealed; an older version changes nothing (2.1), and what
      has no version is taken in the order it arrives, so that bytes may come back into force;
(2)   the current ones are admitted: routes, consent, jobs;
(2.7) a consent that arrived stops the open jobs it no longer permits, and the results of theirs
      that wait for the EHR.

While the canary was permitted (`gateway.canary`) nothing is received but consents and herself.

The answer to a request is given after the commit that holds all of this.
"""

from collections.abc import Callable, Mapping, Sequence

from adapters.site import Site
from gateway.api.arrivals import Posting, gather
from gateway.api.batch import Batch, Receipt
from gateway.api.witness import Witness
from gateway.core.canary import CANARY_SYSTEM
from gateway.core.errors import ConfigurationError, StoreUnavailable
from gateway.store.unit_of_work import Store
from gateway.telemetry import step


class Intake:
    """Receives batches of postings; the group commit's `process`."""

    def __init__(
        self,
        store: Store,
        site: Callable[[], Site],
        models: Callable[[], Mapping[str, str]],
        *,
        process_name: str,
        after_commit: Callable[[], None],
    ) -> None:
        """Take what a batch needs.

        Args:
            store: The database.
            site: Gives the site in force.
            models: Gives the models in service: name as routes name it to digest.
            process_name: How audit events name this process.
            after_commit: Rings the relay.
        """
        self._store = store
        self._site = site
        self._models = models
        self._process_name = process_name
        self._after_commit = after_commit

    def __call__(self, postings: Sequence[Posting]) -> list[tuple[Receipt, ...]]:
        """Receive a batch.

        Returns:
            For each posting one receipt per resource, in order, after the commit.

        Raises:
            StoreUnavailable: Nothing was committed.
        """
        with step("receive", sum(posting.count for posting in postings)):
            site = self._site_in_force()
            # (1.1) identity, worked out before the transaction so that it stays short
            gathered = gather(postings, self._store.sealer, site)
            with self._store.write() as uow:
                if not all(map(_is_always_received, postings)):
                    uow.canary.insist()
                witness = Witness(uow, site.name, self._process_name)
                batch = Batch(uow, site, self._models(), witness)
                receipts = batch.take(gathered)
        batch.tally.publish()
        if batch.has_ready:
            self._after_commit()
        return receipts

    def _site_in_force(self) -> Site:
        try:
            return self._site()
        except ConfigurationError as error:
            # The sender can't mend this: its event must not look refused.
            raise StoreUnavailable(
                "The site configuration can't be used; its engineer has to apply another.",
                retry_after_s=60,
            ) from error


def _is_always_received(posting: Posting) -> bool:
    """Say whether it is a Consent, which may be a refusal, or the canary's."""
    resource = posting.resource
    is_consent = resource is not None and resource.type == "Consent"
    return is_consent or posting.system == CANARY_SYSTEM
