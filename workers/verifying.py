"""(6.3) Read back what was written, and do what the site says where the AI label is not there.

Labels are named in the outcome, never mended in silence. Where only words are left, they have to be
seen beside the value; where not even those are, the value is written as a text that says it, or the
result is marked as entered in error and goes another way, or none.

Source: docs/write-back.md.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from adapters.fhir_rest.answers import WriteOutcome
from gateway import telemetry
from gateway.core.clock import Clock, utc_now
from gateway.core.errors import GatewayError, ProcessingError, TransientError
from gateway.core.findings import Json
from gateway.core.ladder import IfLabelLost
from gateway.core.read_back import AI_LABEL, IDENTIFIER, UNIT, VALUE, Label, label_of, lost_of
from gateway.core.result_carriers import in_words
from gateway.core.retraction import unlabelled
from gateway.core.write_back import AS_OBSERVATION, StoredReport
from workers.ehr_abilities import EhrAbilities
from workers.fates import NotReached, Written, not_reached

#: What is said where it could not be looked at, or not be taken back.
UNREAD = "not read back"
LEFT_THERE = "could not be taken back"
WORDS = "words"
_VALUE_TEXT = "valueString"

log = telemetry.get_logger()


class Chart(Protocol):
    """What is needed of the client of an EHR; `adapters.fhir_rest` has one."""

    def read(self, reference: str) -> dict[str, Any] | None:
        """Read a resource; None when the EHR does not have it."""

    def update(self, reference: str, body: bytes, *, if_match: str | None = None) -> WriteOutcome:
        """Write a resource under its id."""


@dataclass(frozen=True)
class Unlabelled:
    """The EHR did not keep the AI label, and what was written is marked as an error."""


class Verifier:
    """Looks at what one EHR kept; safe to share among threads."""

    def __init__(self, chart: Chart, abilities: EhrAbilities, *, clock: Clock = utc_now) -> None:
        self._chart = chart
        self._abilities = abilities
        self._clock = clock

    def verify(
        self, report: StoredReport, written: Written, policy: IfLabelLost
    ) -> Written | NotReached | Unlabelled:
        """Compare what is in the EHR with what was sent, unless it lately kept another one whole.

        One that was found by its looks has no identifier there: no other speaks for it.

        Args:
            report: As it was sent.
            written: Where it is.
            policy: What is done where the AI label is not there.
        """
        sent = sent_as(report, written)
        is_known = self._abilities.keeps_all(sent["resourceType"], report.digest)
        if is_known and not written.is_by_looks:
            return written
        try:
            kept = self._chart.read(written.location) if written.location else None
        except TransientError as error:
            return not_reached(error)  # it is found again, and then read
        except ProcessingError:
            kept = None
        if kept is None:
            return replace(written, lost=(UNREAD,))
        sent = _closest(sent, report, kept)
        lost = lost_of(sent, kept)
        self._learn(sent["resourceType"], report.digest, lost)
        return self._judged(sent, kept, replace(written, lost=lost, is_read=True), policy)

    def _judged(
        self, sent: Json, kept: Json, written: Written, policy: IfLabelLost
    ) -> Written | NotReached | Unlabelled:
        lost, resource_type = written.lost, str(sent["resourceType"])
        if AI_LABEL not in lost:
            return written
        if policy is IfLabelLost.WORDS and label_of(kept) is Label.WORDS:
            return written
        try:
            if policy is IfLabelLost.WORDS and resource_type == "Observation":
                worded = self._say_in_words(sent, kept, written)
                if worded is not None:
                    return worded
            return self._take_back(kept, written)
        except TransientError as error:
            return not_reached(error)

    def _learn(self, resource_type: str, digest: str, lost: tuple[str, ...]) -> None:
        if lost:
            self._abilities.dropped(resource_type, digest)
        else:
            self._abilities.kept(resource_type, digest)
        if IDENTIFIER in lost:
            self._abilities.stripped(resource_type)
        else:
            self._abilities.kept_identifier(resource_type)
        if VALUE in lost or UNIT in lost:
            log.error("result-value-changed", resource_type=resource_type)

    def _say_in_words(self, sent: Json, kept: Json, written: Written) -> Written | None:
        """Write the value as a text that says who made it; None where that is not kept either."""
        worded = in_words(sent)
        # What is there names Device and patient as this EHR does; only its value is another.
        again = self._updated({**in_words(kept), _VALUE_TEXT: worded[_VALUE_TEXT]}, written)
        if again is None or label_of(again) is Label.LOST:
            return None
        self._abilities.showed_words("Observation")
        lost = (*lost_of(worded, again), "the value as a number")
        return replace(written, lost=lost, changed=(*written.changed, "value as text"))

    def _take_back(self, kept: Json, written: Written) -> Written | Unlabelled:
        """Mark what is there as an error; where that can't be done, say so loudly."""
        self._abilities.lost_label(str(kept["resourceType"]))
        again = self._updated(unlabelled(kept, self._clock()), written)
        if again is not None and again.get("status") == "entered-in-error":
            return Unlabelled()
        log.error("ai-label-lost", resource_type=str(kept["resourceType"]))
        return replace(written, lost=(*written.lost, WORDS, LEFT_THERE))

    def _updated(self, resource: Json, written: Written) -> Json | None:
        """Write a resource anew and give what is there then; None where the EHR refuses.

        Raises:
            TransientError: The EHR is away.
        """
        place = str(written.location)
        try:
            self._chart.update(place, orjson.dumps(resource))
            return self._chart.read(place)
        except TransientError:
            raise
        except GatewayError:
            return None


def _closest(sent: Json, report: StoredReport, kept: Json) -> Json:
    """Give what was sent: an earlier attempt may have written the value as a text, or not yet."""
    forms = [sent, *([orjson.loads(report.before)] if report.before else [])]
    if sent["resourceType"] == "Observation":
        forms.append(in_words(sent))
    return next((form for form in forms if VALUE not in lost_of(form, kept)), sent)


def sent_as(report: StoredReport, written: Written) -> Json:
    """Give the result in the form in which it was sent."""
    is_observation = AS_OBSERVATION in written.changed and report.instead is not None
    sent: Json = orjson.loads(
        report.instead if is_observation and report.instead else report.result
    )
    return sent
