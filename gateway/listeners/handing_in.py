"""Hand in what was found in an EHR, and pass over what the gateway refuses for good.

What is refused is on record in the audit log and counted. It must not hold up what comes after it:
of several resources that are refused together, each is handed in alone.
"""

from collections.abc import Callable, Iterable, Sequence

import orjson

from adapters.feeds.page import Found, bundles_of
from gateway import telemetry
from gateway.core.errors import ContentError
from gateway.listeners.door import Taken

log = telemetry.get_logger()


class HandingIn:
    """The way in for one feed."""

    def __init__(
        self,
        hand_over: Callable[[bytes], Sequence[Taken]],
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

    def take(self, found: Sequence[Found]) -> int:
        """Hand in resources; they are durable when this returns. Give how many were taken.

        Raises:
            TransientError: They were not taken; the same may be later.
        """
        refused = self._refused(bundles_of(found, self._base_url))
        if refused is None:
            alone = [self._refused(bundles_of([each], self._base_url)) for each in found]
            refused = sum(each != 0 for each in alone)
        self._count("taken", len(found) - refused)
        if refused:
            self._count("refused", refused)
        return len(found) - refused

    def take_notification(self, bundle: bytes) -> bool:
        """Hand in a notification as the EHR wrote it; say whether it was taken.

        Raises:
            TransientError: It was not taken; the same may be later.
        """
        is_taken = self._refused([bundle]) is not None
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
        self._refused([orjson.dumps(bundle)])
        self._count("gone", len(references))

    def _refused(self, bundles: Iterable[bytes]) -> int | None:
        """Say how many entries were refused; None where all of a Bundle was, for what it is."""
        refused = 0
        try:
            for bundle in bundles:
                refused += sum(bool(entry.issues) for entry in self._hand_over(bundle))
        except ContentError as error:
            log.warning("feed-refused", issue_type=error.issue_type)
            return None
        return refused
