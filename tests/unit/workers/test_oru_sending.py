"""Results as HL7 v2 messages: what a receiver answers, or doesn't, decides what becomes of one."""

import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adapters.fhir_rest.errors import EhrRefused, EhrUnreachable
from adapters.hl7v2.sender import NoAnswer
from adapters.site_oru import OruDestination
from adapters.tls import tls_context
from gateway.core.errors import ConfigurationError
from gateway.core.ladder import LOSES, Left, Rung, Terms
from gateway.core.write_back import StoredReport
from tests.certificates import Authority
from tests.hospital import FakeEhr
from tests.listening import free_port
from tests.receiving import (
    CLOSES,
    DRIPS,
    HANGS,
    NONSENSE,
    OF_ANOTHER,
    OF_NONE,
    RESETS,
    Receiver,
    receiving,
)
from tests.result_models import RISK, made
from tests.unit.adapters.hl7v2.test_oru import PATIENT, TO
from workers.climb import Unfit, WithoutFhir
from workers.climbing import LadderRecipient, ladder_recipient
from workers.ehr_abilities import EhrAbilities
from workers.fates import NotReached, NotTaken, OnCard, OnWorklist, Withheld, Written
from workers.oru_sending import OruRefused, OruSender

REPORT = StoredReport.read(made(RISK, 0.7).to_json())
NAME = REPORT.identifier
WORDS = "Entered in error."
AT = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)


def known(_reference: str) -> dict[str, Any]:
    return PATIENT


def away(_reference: str) -> dict[str, Any]:
    raise EhrUnreachable


def refused(_reference: str) -> dict[str, Any]:
    raise EhrRefused(403)


def sender(
    to: Receiver | int,
    read: Callable[[str], dict[str, Any] | None] | None = known,
    *,
    tls: tuple[str, str | None] | None = None,
    timeout_s: float = 2,
) -> OruSender:
    port = to if isinstance(to, int) else to.port
    destination = OruDestination(
        host="127.0.0.1", port=port, tls=tls, addressed=TO, patients_of="ehr"
    )
    return OruSender(destination, read, timeout_s=timeout_s)


def yes() -> bool:
    return True


@pytest.mark.parametrize("code", ["AA", "CA"])
def test_what_the_receiver_takes_is_written(code: str):
    with receiving(code) as receiver:
        fate = sender(receiver).send(REPORT, yes)

    assert fate == Written(None, 0, answer=code)
    (message,) = receiver.messages
    assert message.first("OBR").text(3) == NAME


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("AE", "AE"),
        ("AR\rERR||MSH^1^9|200^Unsupported^HL70357|E", "AR 200 MSH-9"),
        ("CE\rERR|OBX^1^5^102&Data type error&HL70357", "CE 102 OBX-5"),
        ("CR\rERR||Eva^1^Müller|Eva^Müller^HL70357|E|||Eva Müller is unknown", "CR"),
        ("AE\rERR||PID^1^3|204^Unknown key^HL70357|E|||MR-0077", "AE 204 PID-3"),
    ],
)
def test_a_refusal_ends_it_and_its_codes_are_kept_and_no_word_of_it(answer: str, said: str):
    with receiving(answer) as receiver:
        fate = sender(receiver).send(REPORT, yes)

    assert fate == NotTaken(0, f"The receiver refused the message: {said}.", answer=said)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        (CLOSES, "NoAnswer"),
        (RESETS, "NoAnswer"),
        (NONSENSE, "NoAnswer"),
        (OF_ANOTHER, "NoAnswer"),
        ("XX", "NoAnswer"),
        ("AR\rERR||MSH^1|207^Application internal error^HL70357|E", "ForLater AR 207 MSH"),
        ("AE\rERR||PID^1|206^Application record locked^HL70357|E", "ForLater AE 206 PID"),
    ],
)
def test_where_nobody_knows_the_same_bytes_are_sent_again(how: str, error: str):
    with receiving(how, "AA") as receiver:
        writer = sender(receiver)
        first, second = writer.send(REPORT, yes), writer.send(REPORT, yes)

    assert first == NotReached(error, is_of_system=False)
    assert second == Written(None, 0, answer="AA")
    assert receiver.got[0] == receiver.got[1]
    assert len(receiver.kept) == 1


@pytest.mark.parametrize("how", [HANGS, DRIPS])
def test_an_answer_that_takes_too_long_is_none_however_it_drips(how: str):
    with receiving(how) as receiver:
        fate = sender(receiver, timeout_s=0.3).send(REPORT, yes)

    assert fate == NotReached("NoAnswer", is_of_system=False)


def test_an_acknowledgement_that_names_no_message_is_of_the_only_one_that_was_sent():
    with receiving(OF_NONE) as receiver:
        assert sender(receiver).send(REPORT, yes) == Written(None, 0, answer="AA")


def test_a_receiver_that_is_away_is_the_whole_system_where_it_has_no_fhir_api():
    nobody = free_port()
    received = replace(REPORT, patient=b'{"identifier": [{"system": "%s", "value": "7"}]}')
    received = replace(received, patient=received.patient.replace(b"%s", TO.numbers.encode()))

    refused = "NoConnection connection-refused"
    assert sender(nobody, None).send(received, yes) == NotReached(refused, is_of_system=True)
    assert sender(nobody).send(REPORT, yes) == NotReached(refused, is_of_system=False)


def test_nothing_leaves_where_it_may_not_any_more_and_the_patient_was_asked_for_before():
    asked: list[str] = []

    def read(reference: str) -> dict[str, Any]:
        asked.append(reference)
        return PATIENT

    with receiving() as receiver:
        fate = sender(receiver, read).send(REPORT, lambda: asked.clear() or False)

    assert fate == Withheld()
    assert (asked, receiver.got) == ([], [])


@pytest.mark.parametrize(
    ("read", "fate"),
    [
        (away, NotReached("EhrUnreachable")),
        (refused, NotReached("EhrRefused", is_of_system=False)),
        (lambda _: None, Unfit("Nothing is known of the patient but her reference.")),
        (lambda _: {"name": []}, Unfit(f"The Patient has no identifier of {TO.numbers}.")),
        (None, Unfit("Nothing is known of the patient but her reference.")),
    ],
    ids=["away", "refused", "gone", "without a number", "never received"],
)
def test_without_the_patient_nothing_is_sent(read: Any, fate: object):
    with receiving() as receiver:
        assert sender(receiver, read).send(REPORT, yes) == fate

    assert receiver.got == []


def test_it_goes_by_tls_to_whom_the_authority_signed_and_to_nobody_else(tmp_path: Path):
    authority, other = Authority(tmp_path, "ca"), Authority(tmp_path, "other")
    file, ours = str(authority.issue("lis")), str(authority.issue("nadi"))
    context = tls_context(file, file, str(authority.file))

    with receiving(tls=context) as receiver:
        taken = sender(receiver, tls=(str(authority.file), ours)).send(REPORT, yes)
        bare = sender(receiver, tls=(str(authority.file), None)).send(REPORT, yes)
        stranger = sender(receiver, tls=(str(other.file), ours)).send(REPORT, yes)
        clear = sender(receiver, timeout_s=0.3).send(REPORT, yes)

    assert taken == Written(None, 0, answer="AA")
    assert stranger == NotReached("NoConnection certificate-untrusted", is_of_system=False)
    assert bare == NotReached("NoAnswer our-certificate-missing", is_of_system=False)
    assert clear == NotReached("NoAnswer", is_of_system=False)
    assert "wants a certificate of ours" in bare.says
    assert len(receiver.got) == 1
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_tls_files_that_are_missing_are_a_matter_of_configuration(tmp_path: Path):
    with receiving() as receiver:
        writer = sender(receiver, tls=(str(tmp_path / "ca.pem"), None))

        assert writer.send(REPORT, yes) == NotReached("ConfigurationError", is_of_system=False)
        with pytest.raises(ConfigurationError, match=r"can't be used: ca.pem can't be read"):
            writer.reach()


def test_reaching_opens_a_connection_and_sends_nothing():
    with receiving() as receiver:
        sender(receiver).reach()

    assert receiver.got == []
    with pytest.raises(NoAnswer, match="refuses the connection: does it run"):
        sender(free_port()).reach()


def test_what_is_taken_back_is_told_and_a_refusal_of_that_is_an_error():
    with receiving("AA", "AA", "AE", CLOSES) as receiver:
        writer = sender(receiver)
        told = [writer.take_back(REPORT, AT, WORDS) for _ in range(2)]
        with pytest.raises(OruRefused):
            writer.take_back(REPORT, AT, WORDS)
        with pytest.raises(NoAnswer):
            writer.take_back(REPORT, AT, WORDS)

    assert told == ["AA", "AA"]
    assert len(receiver.kept) == 1
    assert receiver.messages[0].first("OBX").text(11) == "W"


# -- on the ladder ---------------------------------------------------------------------------


def poor_ehr(receiver: Receiver) -> LadderRecipient:
    ehr = FakeEhr()
    ehr.types = ("Patient",)
    senders = {Rung.HL7V2_ORU: sender(receiver)}
    return ladder_recipient(ehr, EhrAbilities(ehr), senders=senders)


def test_an_ehr_that_takes_no_resource_gets_the_message_and_what_is_lost_is_told():
    with receiving() as receiver:
        fates = poor_ehr(receiver).write([REPORT], repeated=frozenset())

    fate = fates[NAME]
    assert isinstance(fate, Written)
    assert (fate.rung, fate.answer) == (Rung.HL7V2_ORU, "AA")
    assert fate.lost == (LOSES[Rung.HL7V2_ORU],)
    assert fate.left[0].rung is Rung.OBSERVATION
    assert len(fate.left) == 6


def test_a_system_without_a_fhir_api_gets_each_result_by_message():
    other = replace(REPORT, terms=Terms(never=frozenset({Rung.HL7V2_ORU})))
    with receiving() as receiver:
        recipient = WithoutFhir({Rung.HL7V2_ORU: sender(receiver)})
        sent = recipient.write([REPORT], repeated=frozenset({NAME}))[NAME]
        kept = recipient.write([other], repeated=frozenset())[NAME]

    assert isinstance(sent, Written)
    assert sent.left[0] == Left(Rung.OBSERVATION, "The system has no FHIR API.")
    assert isinstance(kept, OnWorklist)
    assert len(receiver.got) == 1


def test_a_patient_whom_the_receiver_does_not_know_leaves_the_result_on_the_worklist():
    with receiving() as receiver:
        recipient = WithoutFhir({Rung.HL7V2_ORU: sender(receiver, lambda _: {})})
        fate = recipient.write([REPORT], repeated=frozenset())[NAME]

    assert isinstance(fate, OnWorklist)
    assert fate.left[-1] == Left(Rung.HL7V2_ORU, f"The Patient has no identifier of {TO.numbers}.")


def test_a_result_that_is_shown_as_a_card_needs_no_worklist_unless_the_site_forbids_the_card():
    shown = replace(REPORT, has_card=True)
    hidden = replace(shown, terms=Terms(never=frozenset({Rung.CDS_CARD})))
    recipient = WithoutFhir({})

    card = recipient.write([shown], repeated=frozenset())[NAME]
    worklist = recipient.write([hidden], repeated=frozenset())[NAME]

    assert isinstance(card, OnCard)
    assert [each.rung for each in card.left][-1] is Rung.HL7V2_ORU
    assert isinstance(worklist, OnWorklist)
