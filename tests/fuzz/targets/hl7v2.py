"""HL7 v2 messages: refused with their place, or made a Bundle that the API takes as a whole."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from adapters.hl7v2.acknowledgement import Outcome, acknowledgements, refused
from adapters.hl7v2.conversion import convert
from adapters.hl7v2.dialect import Dialect
from adapters.hl7v2.identity import Origin, plain_id
from adapters.hl7v2.message import header_alone, parsed, split_batch
from adapters.hl7v2.problems import Hl7Problem
from gateway.core.fhir import parse_bundle
from tests.fuzz.target import Target, shared

_NOW = datetime(2026, 11, 26, tzinfo=UTC)
_DIALECT = Dialect(zone=ZoneInfo("Asia/Kolkata"))
_ORIGIN = Origin(
    feed="lab/mllp", patient_system="urn:mrn", find_patient=plain_id, has_own_patients=True
)


def run(data: bytes) -> None:
    """Answer a message: what is not refused is valid FHIR, and every answer can be read."""
    for each in split_batch(data):
        header = header_alone(each)
        try:
            message = parsed(each)
            made = convert(message, each, _ORIGIN, _DIALECT, _NOW)
        except Hl7Problem as problem:
            answers = acknowledgements(header, refused(problem), _NOW)
        else:
            bundle = parse_bundle(made.bundle)
            assert [issue for entry in bundle.entries for issue in entry.issues] == []
            answers = acknowledgements(message, Outcome(notes=made.notes), _NOW)
        for answer in answers:
            assert parsed(answer).first("MSA") is not None


def seeds() -> list[bytes]:
    """Give messages of every kind, and a batch."""
    found = shared("hl7v2-samples/*.hl7", most=25, largest=8192)
    found += shared("hl7v2-pairs/mapping*.hl7", most=25, largest=8192)
    plain = b"MSH|^~\\&|a|b|||2026||ORU^R01|1|P|2.5\rPID|1||7\rOBX|1|NM|1^2^L||1.5|mg|<2|H|||F\r"
    return [plain, b"BHS|^~\\&\r" + plain + plain + b"BTS|2\r", *found]


TARGET = Target(run, seeds)
