"""What holds a consent's permit back beyond its rules: it was withdrawn, is over, or is used up.

A permit that is held back *withholds*: it permits nothing, and the default of a route does not
hold in its place, since the patient has spoken; another consent may permit. Only permits have
terms. So a withdrawal can never be mistaken for silence.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from gateway.core.consent.request import ConsentRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Beyond what its rules say, when a consent permits.

    Attributes:
        stopped: Why it no longer permits anything, as a sentence after its name; empty if it does.
        until: From this moment on it permits nothing, and what was had under it is to be erased.
        most: How many uses it permits within `per_s`; None when it doesn't count them.
        per_s: The length of that window, in seconds.
        used_by: The uses within the window that ends now, see `ConsentRequest.use`.
    """

    stopped: str = ""
    until: datetime | None = None
    most: int | None = None
    per_s: int = 0
    used_by: frozenset[str] = frozenset()

    def why_not(self, request: ConsentRequest) -> str:
        """Say why it does not permit this use; empty when it does."""
        if self.stopped:
            return self.stopped
        if self.until is not None and request.now >= self.until:
            return "has come to its end, and what was had under it is to be erased."
        return _USED_UP if self._is_used_up(request.use) else ""

    def _is_used_up(self, use: str | None) -> bool:
        is_counted = use is not None and use in self.used_by
        return self.most is not None and not is_counted and len(self.used_by) >= self.most

    def with_uses(self, uses: frozenset[str]) -> "Terms":
        """Give these terms with the uses that are on record."""
        return replace(self, used_by=uses)


NO_TERMS = Terms()
_USED_UP = "has been used as often as it permits for now."
