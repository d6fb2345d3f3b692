"""(6.3) Send results as HL7 v2 messages (ORU^R01) over MLLP, and say when one must not be used.

* AA and CA: the receiver has it. AE, AR, CE and CR end it, with their codes on record; but a
  receiver whose record is locked, or that had an error of its own, is asked again.
* No answer, a broken connection, an answer to another message: nobody knows. The same bytes are
  sent again later, under the same control id, by which the receiver tells a repeat.
* A connection for each message, and one deadline for all of its answer.
* The Patient stands in no result: who has a FHIR API is asked for it, of any other it is what was
  received. Without the number that the receiver knows, the result goes a rung down.
"""

import ssl
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from adapters.hl7v2.oru import NotSendable, Oru, result_message, retraction_message
from adapters.hl7v2.sender import (
    Acknowledgement,
    NoAnswer,
    acknowledgement,
    connected,
)
from adapters.site import Site
from adapters.site_oru import OruDestination
from adapters.tls import sender_context
from gateway.core.errors import (
    ConfigurationError,
    GatewayError,
    ProcessingError,
    RateTaken,
    TransientError,
)
from gateway.core.findings import Json
from gateway.core.read_back import subject_of
from gateway.core.write_back import StoredReport
from gateway.store.events import Event
from gateway.store.identity import named_key
from gateway.store.unit_of_work import UnitOfWork
from workers.climb import Unfit
from workers.fates import Fate, NotReached, NotTaken, Withheld, Written, not_reached

#: Reads a resource of the system whose patients they are; None where that has no FHIR API.
ReadPatient = Callable[[str], dict[str, Any] | None]


class OruRefused(ProcessingError):
    """The receiver refuses the message for good."""


class ForLater(TransientError):
    """The receiver can't take the message now."""


class OruSender:
    """One receiver of HL7 v2 results; safe to share among threads."""

    def __init__(
        self,
        to: OruDestination,
        read_patient: ReadPatient | None,
        *,
        timeout_s: float,
        pace: Callable[[], None] = lambda: None,
    ) -> None:
        """Take where results go.

        Args:
            to: The receiver.
            read_patient: Asks for a Patient; None takes the one that was received.
            timeout_s: Longest wait for the connection, and for the answer.
            pace: Called before each message: waits until it may leave.
        """
        self._to = to
        self._read_patient = read_patient
        self._timeout_s = timeout_s
        self._pace = pace

    @property
    def place(self) -> str:
        """Where it listens, for people."""
        return f"{self._to.host}:{self._to.port}"

    def send(self, report: StoredReport, let_go: Callable[[], bool]) -> Fate | Unfit:
        """Send one result.

        Args:
            report: The result.
            let_go: Asked right before it leaves, after all that takes time.
        """
        made = self._made(report)
        if not isinstance(made, Oru):
            return made
        if not let_go():
            return Withheld()
        try:
            said = self._exchanged(made)
        except RateTaken as error:
            return not_reached(error)
        except (TransientError, ConfigurationError) as error:
            is_of_system = self._read_patient is None
            return NotReached(_named(error), is_of_system=is_of_system, says=_said(error))
        if not said.is_taken:
            why = f"The receiver refused the message: {said}."
            return NotTaken(0, why, answer=str(said))
        return Written(None, 0, answer=str(said))

    def _made(self, report: StoredReport) -> Oru | NotReached | Unfit:
        try:
            patient = self._patient(report)
            return result_message(report.opened(), patient, self._to.addressed)
        except TransientError as error:
            return not_reached(error)
        except NotSendable as error:
            return Unfit(error.message)
        except GatewayError as error:
            return NotReached(type(error).__name__, is_of_system=False)

    def take_back(self, report: StoredReport, at: datetime, words: str) -> str:
        """Say that a result must not be used any more; give what was answered.

        Args:
            report: The result.
            at: When that was ordered.
            words: What is said of it.

        Raises:
            TransientError: The receiver, or who has the Patient, is away.
            ProcessingError: It refuses, or the result can't be put into a message.
        """
        patient = self._patient(report)
        made = retraction_message(report.opened(), patient, self._to.addressed, at=at, words=words)
        said = self._exchanged(made)
        if not said.is_taken:
            raise OruRefused(f"The receiver refused the message: {said}.")
        return str(said)

    def reach(self) -> None:
        """Open a connection and close it; no message is sent.

        Raises:
            NoAnswer: There is none.
            ConfigurationError: The TLS files can't be used.
        """
        to = self._to
        with connected(to.host, to.port, timeout_s=self._timeout_s, tls=self._tls()):
            pass

    def _patient(self, report: StoredReport) -> Json:
        if self._read_patient is not None:
            found = self._read_patient(subject_of(orjson.loads(report.result)))
        else:
            found = orjson.loads(report.patient) if report.patient else None
        if found is None:
            raise NotSendable("Nothing is known of the patient but her reference.")
        return found

    def _exchanged(self, made: Oru) -> Acknowledgement:
        """Send a message; give what was answered.

        Raises:
            NoAnswer: None came, or one to something else.
            ForLater: The receiver can't take it now.
            ConfigurationError: The TLS files can't be used.
        """
        to = self._to
        self._pace()
        with connected(to.host, to.port, timeout_s=self._timeout_s, tls=self._tls()) as sender:
            (answer,) = sender.send(made.content)
        said = acknowledgement(answer)
        if not said.code:
            raise NoAnswer("What came is no acknowledgement.")
        # Nothing else was sent on this connection: an empty MSA-2 can mean only this message.
        if said.of and said.of != made.control_id:
            raise NoAnswer("What came answers another message.")
        if said.is_for_later:
            raise ForLater(str(said))
        return said

    def _tls(self) -> ssl.SSLContext | None:
        if self._to.tls is None:
            return None
        authority, certificate = self._to.tls
        return sender_context(Path(authority), Path(certificate) if certificate else None)


def _named(error: GatewayError) -> str:
    """Name what happened, with the codes that were answered."""
    name = type(error).__name__
    if isinstance(error, NoAnswer) and error.obstacle:
        return f"{name} {error.obstacle}"
    return f"{name} {error.message}" if isinstance(error, ForLater) else name


def _said(error: GatewayError) -> str:
    """Say what happened in words, where its name does not."""
    return "" if isinstance(error, ForLater) else error.message


def received_patient(uow: UnitOfWork, site: Site, system: str, event: Event) -> bytes | None:
    """Give the Patient as received, for a receiver of HL7 v2 of patients without a FHIR API.

    Args:
        uow: The database.
        site: The site in force.
        system: Whose receiver it is.
        event: What the result is about.

    Raises:
        Unsealable: The row was changed or the patient's key is gone.
    """
    known = site.system(system)
    owner = site.system(known.oru.patients_of) if known and known.oru else None
    reference = uow.events.patient(event) if owner is not None and owner.address is None else None
    if owner is None or reference is None:
        return None
    kind, _, name = reference.partition("/")
    key = named_key(uow.sealer, owner.name, kind, name)
    found = uow.events.current({key}).get(key)
    return uow.events.content(found) if found else None
