"""The one door in, as a listener uses it: hand over a Bundle and know what became of it.

What is handed over is taken when the API answered 2xx, and only then: it is durable. While the API
is away, or has no room, the door waits and tries again for as long as the listener wants; so a
listener acknowledges nothing that could still be lost.
"""

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from gateway import telemetry
from gateway.core.clock import new_id
from gateway.core.errors import ContentError, Issue, TransientError
from gateway.core.principal import SENDER_HEADER

log = telemetry.get_logger()

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
#: An answer 500 is a fault of ours that may be one of a moment, or of this content.
_TRIES_OF_A_FAULT = 3
_ANSWER_WITHIN_S = 60.0
#: These say that the same Bundle may be taken later: who a listener is may take a moment to be
#: known after a site was applied.
_LATER = frozenset({401, 403, 408, 425, 429, 502, 503, 504})
_FAULT = 500


class NotTaken(ContentError):
    """The gateway refuses this content; it is not to be handed over again unchanged."""

    def __init__(self, issues: tuple[Issue, ...]) -> None:
        super().__init__(issues[0].diagnostics, location=issues[0].expression)
        self.issue_type = issues[0].code
        self._issues = issues

    @property
    def issues(self) -> tuple[Issue, ...]:
        """What the gateway says about it."""
        return self._issues


class Interrupted(TransientError):
    """The listener stopped before the gateway took this; nothing of it may be acknowledged."""


@dataclass(frozen=True)
class Taken:
    """What became of one entry of a Bundle.

    Attributes:
        task: Address of its Task; empty when it was refused.
        issues: Why it was refused.
    """

    task: str = ""
    issues: tuple[Issue, ...] = ()


class Door:
    """Hands Bundles to the API. Threads may share one."""

    def __init__(
        self,
        address: str,
        token: Callable[[], str],
        *,
        headers: Mapping[str, str] = {},
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Take where the API is.

        Args:
            address: Of the API, without a path.
            token: Gives the listener's token of the moment.
            headers: Sent with everything.
            transport: How it is reached, where that is not by network.
        """
        self._token = token
        self._client = httpx.Client(
            base_url=address,
            headers=dict(headers),
            timeout=_ANSWER_WITHIN_S,
            trust_env=False,
            transport=transport,
        )

    def hand_over(
        self, bundle: bytes, stop: threading.Event, *, sender: str = ""
    ) -> tuple[Taken, ...]:
        """Hand over a Bundle; come back when it is durable.

        Args:
            bundle: The JSON of a Bundle.
            stop: Set when it is not to be waited for any longer.
            sender: Network address of who sent it, for the audit log.

        Returns:
            What became of each entry; of a message, document or transaction all are taken.

        Raises:
            NotTaken: The gateway refuses all of it.
            Interrupted: It was not taken before `stop` was set.
        """
        request_id, wait_s, faults = new_id(), _FIRST_WAIT_S, 0
        while True:
            answer = self._ask(bundle, request_id, sender)
            if answer is not None and answer.is_success:
                return _taken(answer)
            if answer is not None and answer.status_code not in _LATER:
                faults += answer.status_code == _FAULT
                if answer.status_code != _FAULT or faults == _TRIES_OF_A_FAULT:
                    raise NotTaken(_issues(answer))
            log.warning("gateway-away", status=answer.status_code if answer is not None else 0)
            if stop.wait(_pause_s(answer, wait_s)):
                raise Interrupted
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._client.close()

    def _ask(self, bundle: bytes, request_id: str, sender: str) -> httpx.Response | None:
        headers = {
            "Authorization": f"Bearer {self._token()}",
            "Content-Type": "application/fhir+json",
            "X-Request-Id": request_id,
            **({SENDER_HEADER: sender} if sender else {}),
        }
        try:
            return self._client.post("/fhir", content=bundle, headers=headers)
        except httpx.TransportError:
            return None


def _pause_s(answer: httpx.Response | None, wait_s: float) -> float:
    """Say how long to wait: as long as asked to, and not all listeners at the same moment."""
    asked = answer.headers.get("retry-after", "") if answer is not None else ""
    least = min(float(asked), _LONGEST_WAIT_S) if asked.isdecimal() else wait_s
    return least * random.uniform(1.0, 1.25)  # noqa: S311 (a delay, not a key)


def _taken(answer: httpx.Response) -> tuple[Taken, ...]:
    entries = orjson.loads(answer.content).get("entry") or ()
    return tuple(_entry(entry["response"]) for entry in entries)


def _entry(response: Mapping[str, Any]) -> Taken:
    outcome = response.get("outcome")
    if outcome is None:
        return Taken(f"{response.get('location', '')}")
    return Taken(issues=_of_outcome(outcome))


def _issues(answer: httpx.Response) -> tuple[Issue, ...]:
    try:
        found = _of_outcome(orjson.loads(answer.content))
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        found = ()
    return found or (Issue("exception", f"The gateway answered {answer.status_code}."),)


def _of_outcome(outcome: Mapping[str, Any]) -> tuple[Issue, ...]:
    return tuple(
        Issue(each["code"], each["diagnostics"], next(iter(each.get("expression", ())), None))
        for each in outcome["issue"]
    )
