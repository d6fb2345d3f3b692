"""Pushes stories as an EHR does: again until acknowledged, some twice, some again much later.

Some results come from a laboratory, as HL7 v2 messages by MLLP, in the same way.

What was answered is written down; nothing else is believed. When a consent's withdrawal is
acknowledged, a marker goes into the EHR: nothing may be written about that patient after it.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Self

import httpx

from adapters.hl7v2.sender import NoAnswer
from tests.chaos.expected import MARK, Acknowledged
from tests.chaos.lab import Message, Sent, exchanged
from tests.chaos.stories import Push, Story, Teller
from tests.running import TLS, RunningNadi

_STREAMS = 6
_REPEATED_SHARE = 0.08
_REMEMBERED = 400
_PATIENCE_S = 90.0
#: What a gateway under fire may answer: come again. Anything else but 2xx is a fault of its own.
_COME_AGAIN = frozenset({502, 503, 504})


@dataclass
class Record:
    """What the load did and was told.

    Attributes:
        messages: What the laboratory sent.
        answers: For each version of a resource every Task that an answer named.
        strange: Answers that no sender should ever get, counted.
        counts: Pushes, repeats, answers that said to come again, lost connections.
    """

    acknowledged: list[Acknowledged] = field(default_factory=list)
    messages: list[Sent] = field(default_factory=list)
    answers: dict[str, set[str]] = field(default_factory=dict)
    strange: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)


class GaveUp(Exception):
    """It was not acknowledged in time, so nothing can be said of it or of what follows it."""


class Load:
    """Streams of stories, until they are told to stop."""

    def __init__(self, nadi: RunningNadi, teller: Teller, *, per_s: float, lab_port: int) -> None:
        """Make it ready.

        Args:
            nadi: Where to push; its addresses and tokens stay the same over its restarts.
            teller: Tells the stories.
            per_s: Pushes a second, of all streams together.
            lab_port: Where the laboratory sends its messages.
        """
        self.lab_port = lab_port
        self.record = Record()
        self._nadi = nadi
        self._stories = teller.stories()
        self._pause_s = _STREAMS / per_s
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._sent: list[Push] = []
        self._threads = [
            threading.Thread(target=self._stream, args=(Random(f"{teller.seed}/{n}"),))  # noqa: S311
            for n in range(_STREAMS)
        ]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for each in self._threads:
            each.join()

    def _stream(self, dice: Random) -> None:
        with self._nadi.client() as client, httpx.Client(timeout=5, verify=TLS) as ehr:
            teller = _Stream(self, client, ehr, dice)
            while not self._stopped.is_set():
                with self._lock:
                    story = next(self._stories)
                try:
                    teller.tell(story)
                except GaveUp:
                    self.record.counts["given up"] += 1

    def rest(self) -> None:
        """Keep the pace; when the load was stopped, there is none."""
        self._stopped.wait(self._pause_s)

    def remember(self, push: Push) -> None:
        """Keep a push so that it may come again much later."""
        with self._lock:
            self._sent.append(push)
            del self._sent[:-_REMEMBERED]

    def earlier(self, dice: Random) -> Push | None:
        """Give a push that was acknowledged before, of any stream."""
        with self._lock:
            return dice.choice(self._sent) if self._sent else None

    def note(self, push: Push, event_id: str, patient_id: str | None) -> None:
        """Write down an acknowledgement; that of a repeat names no patient."""
        with self._lock:
            self.record.answers.setdefault(_version_of(push.resource), set()).add(event_id)
            if patient_id is not None:
                at = push.resource.get("effectiveDateTime", "")
                acknowledged = Acknowledged(event_id, patient_id, push.expected, at)
                self.record.acknowledged.append(acknowledged)

    def note_message(self, push: Push, *, is_acknowledged: bool) -> None:
        """Write down what became of a message."""
        if push.message is not None:
            with self._lock:
                sent = Sent(push.message, push.expected, is_acknowledged)
                self.record.messages.append(sent)

    def count(self, what: str) -> None:
        """Count something that happened."""
        with self._lock:
            self.record.counts[what] += 1

    def is_strange(self, answer: httpx.Response) -> None:
        """Count an answer that no sender should get."""
        path = answer.request.url.path.split("/")[2:3]
        self.was_strange(f"{answer.status_code} to {answer.request.method} {path}")

    def was_strange(self, what: str) -> None:
        """Count one in these words."""
        with self._lock:
            self.record.strange[what] += 1


class _Stream:
    """One sender: a story at a time, in its order."""

    def __init__(self, load: Load, client: httpx.Client, ehr: httpx.Client, dice: Random) -> None:
        self._load = load
        self._client = client
        self._ehr = ehr
        self._dice = dice

    def tell(self, story: Story) -> None:
        if story.as_bundle:
            self._push_bundle(story)
        else:
            for push in story.chart:
                self._push(push, story.patient_id)
        for push in story.then:
            self._push(push, story.patient_id)
            if push.withdraws:
                self._mark_in_ehr(story.patient_id)
            if self._dice.random() < _REPEATED_SHARE and (again := self._load.earlier(self._dice)):
                self._push(again, None)

    def _push(self, push: Push, patient_id: str | None) -> None:
        """Push one resource, and now and then once more at once."""
        self._load.rest()
        times = 2 if self._dice.random() < _REPEATED_SHARE else 1
        if push.message is not None:
            self._send(push, push.message, times=times, is_new=patient_id is not None)
            return
        path = f"/fhir/{push.resource['resourceType']}/{push.resource['id']}"
        for turn in range(times):
            event_id = str(self._until_acknowledged("PUT", path, push.resource)["id"])
            is_repeat = turn > 0 or patient_id is None
            self._load.count("repeats" if is_repeat else "pushes")
            self._load.note(push, event_id, None if is_repeat else patient_id)
        self._load.remember(push)

    def _send(self, push: Push, message: Message, *, times: int, is_new: bool) -> None:
        """Send one message, and perhaps once more at once."""
        for turn in range(times):
            is_first = turn == 0 and is_new
            try:
                self._until_taken(message)
            except GaveUp:
                if is_first:
                    self._load.note_message(push, is_acknowledged=False)
                raise
            self._load.count("messages" if is_first else "repeated messages")
            if is_first:
                self._load.note_message(push, is_acknowledged=True)
        self._load.remember(push)

    def _until_taken(self, message: Message) -> None:
        """Send a message until it is acknowledged, as it is: with the same control id."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            try:
                said = exchanged(message, self._load.lab_port)
            except NoAnswer:
                self._load.count("lost acknowledgements")
            else:
                if said.code == "AA":
                    return
                self._load.was_strange(f"{said} to a message")
            time.sleep(0.3)
        raise GaveUp

    def _push_bundle(self, story: Story) -> None:
        self._load.rest()
        entries = [_entry(push.resource) for push in story.chart]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        answer = self._until_acknowledged("POST", "/fhir", bundle)
        for push, entry in zip(story.chart, answer["entry"], strict=True):
            self._load.count("pushes")
            self._load.note(push, str(entry["resource"]["id"]), story.patient_id)
            self._load.remember(push)

    def _until_acknowledged(
        self, method: str, path: str, body: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            try:
                answer = self._client.request(method, path, json=body, headers=_FHIR)
            except httpx.TransportError:
                self._load.count("lost connections")
                time.sleep(0.3)
                continue
            if answer.is_success:
                told: Mapping[str, Any] = answer.json()
                return told
            if answer.status_code in _COME_AGAIN:
                self._load.count("come again")
            else:
                self._load.is_strange(answer)
            time.sleep(0.3)
        raise GaveUp

    def _mark_in_ehr(self, patient_id: str) -> None:
        """Say in the EHR's own records that the withdrawal was acknowledged by now.

        It may stand there more than once: not every EHR lets a client choose an id.
        """
        subject = {"reference": f"Patient/{patient_id}"}
        marker = {"resourceType": MARK, "code": {"text": "withdrawn"}, "subject": subject}
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            try:
                url = f"{self._load._nadi.ehr_base}/fhir/{MARK}"
                if self._ehr.post(url, json=marker).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.3)


_FHIR = {"Content-Type": "application/fhir+json"}


def _entry(resource: Mapping[str, Any]) -> dict[str, Any]:
    place = f"{resource['resourceType']}/{resource['id']}"
    return {"resource": resource, "request": {"method": "PUT", "url": place}}


def _version_of(resource: Mapping[str, Any]) -> str:
    version = resource["meta"]["versionId"]
    return f"{resource['resourceType']}/{resource['id']}/{version}"
