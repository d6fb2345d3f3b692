"""Hand in what was found in an EHR, and pass over what the gateway refuses for good.

What is refused is on record in the audit log and counted. It must not hold up what comes after it:
of several resources that are refused together, each is handed in alone.
"""

from collections.abc import Callable, Iterable, Sequence

import orjson

from adapters.feeds.page import Found, bundles_of
from gateway import telemetry
from gateway.core.errors import ContentError

log = telemetry.get_logger()


class HandingIn:
    """The way in for one feed."""

    def __init__(
        self,
        hand_over: Callable[[bytes], object],
        *,
        base_url: str,
        count: Callable[[str, int], None],
    ) -> None:
        """Take how a Bundle is handed over.

        Args:
            hand_over: Comes back when a Bundle is durable; raises a `ContentError` when all of it
                is refused, a `TransientError` when it was not taken.
            base_url: FHIR base of the EHR.
            count: Counts what was handed in, by outcome.
        """
        self._hand_over = hand_over
        self._base_url = base_url
        self._count = count

    def take(self, found: Sequence[Found]) -> None:
        """Hand in resources; they are durable when this returns.

        Raises:
            TransientError: They were not taken; the same may be later.
        """
        if self._taken(bundles_of(found, self._base_url)):
            self._count("taken", len(found))
            return
        for each in found:
            is_taken = self._taken(bundles_of([each], self._base_url))
            self._count("taken" if is_taken else "refused", 1)

    def take_notification(self, bundle: bytes) -> bool:
        """Hand in a notification as the EHR wrote it; say whether it was taken.

        Raises:
            TransientError: It was not taken; the same may be later.
        """
        is_taken = self._taken([bundle])
        self._count("taken" if is_taken else "refused", 1)
        return is_taken

    def gone(self, references: Sequence[str]) -> None:
        """Say which resources the EHR does not have any more.

        Raises:
            TransientError: It was not taken; the same may be later.
        """
        entries = [
            {
                "fullUrl": f"{self._base_url}/{reference}",
                "request": {"method": "DELETE", "url": reference},
                "response": {"status": "204"},
            }
            for reference in references
        ]
        bundle = {"resourceType": "Bundle", "type": "history", "entry": entries}
        self._taken([orjson.dumps(bundle)])
        self._count("gone", len(references))

    def _taken(self, bundles: Iterable[bytes]) -> bool:
        try:
            for bundle in bundles:
                self._hand_over(bundle)
        except ContentError as error:
            log.warning("feed-refused", issue_type=error.issue_type)
            return False
        return True
