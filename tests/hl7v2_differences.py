"""What the Bundles of the shared pairs say and ours don't, by kind: tables of docs/hl7v2.md.

    python -m tests.hl7v2_differences      # converts every pair, and writes the page anew

Each missing fact is of the first kind that fits. A message that a Bundle was made into may have
lost some of it on the way; whether a fact is in the message is looked up there.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from adapters.hl7v2.conversion import convert
from adapters.hl7v2.dialect import Dialect
from adapters.hl7v2.identity import Origin, plain_id
from adapters.hl7v2.message import parsed
from tests.bad_tables import DOCS, replaced
from tests.conftest import SHARED_DATA
from tests.hl7v2_facts import Fact, facts

Json = Mapping[str, Any]

#: The groups of pairs, by the beginning of their files' names.
GROUPS = {
    "HL7_to_FHIR": "HL7 to FHIR",
    "mappinginventory": "of a mapping inventory",
    "FHIR_to_HL7": "FHIR to HL7 (the message lost part of what the Bundle says)",
}
_IDS = ("identifier.value",)


@dataclass(frozen=True)
class Difference:
    """A fact that is expected and not found, and where it stands.

    Attributes:
        is_absent: It is of an Observation whose code is in no OBX of the message.
        is_sent: Its value stands somewhere in the message, as it is written there.
    """

    type: str
    path: str
    value: str
    is_absent: bool
    is_sent: bool

    @property
    def at(self) -> str:
        """Type and element."""
        return f"{self.type}.{self.path}"


@dataclass(frozen=True)
class Kind:
    """A kind of difference, and why it is one."""

    name: str
    why: str
    holds: Callable[[Difference], bool]


def _at(*places: str) -> Callable[[Difference], bool]:
    return lambda each: each.at in places


KINDS = (
    Kind(
        "a whole Observation whose code is in no OBX",
        "an answer at order entry or a filtered result: not in the message, or as a note of it",
        lambda each: each.is_absent,
    ),
    Kind(
        "Observation.status",
        "OBX-11 is empty: there it is `unknown`, here what OBR-25 says",
        lambda each: each.at == "Observation.status" and each.value == "unknown",
    ),
    Kind(
        "DiagnosticReport.status",
        "OBR-25 says corrected, and so does ours; the Bundle said entered in error",
        _at("DiagnosticReport.status"),
    ),
    Kind(
        "Coding.system",
        "a local table's name as it stands (`L`), or a system for what names none; "
        "here `code_systems` gives one",
        lambda each: each.path.endswith("coding.system"),
    ),
    Kind(
        "Observation.code.text",
        "the message has the name of the code alone (CWE.2), which is its display",
        _at("Observation.code.text"),
    ),
    Kind(
        "an identifier that is not in the message",
        "lost on the way, or made up there",
        lambda each: each.path in _IDS and not each.is_sent,
    ),
    Kind(
        "an identifier that is there once more",
        "there on each of several copies, or of a group or a parent; here once, a specimen's "
        "parent (SPM-3) in `parent`",
        lambda each: each.path in _IDS,
    ),
    Kind(
        "a Specimen made of an OBR that says only when it was taken (OBR-7)",
        "not made: the result says the same",
        _at("Specimen.collection.collectedDateTime"),
    ),
    Kind(
        "a Specimen once more",
        "one that several orders share: there one for each, here one",
        _at("Specimen.type.coding.code", "Specimen.receivedTime"),
    ),
    Kind(
        "MessageHeader.source.name",
        "there with the number of the application, or of who sent before; here MSH-3.1",
        _at("MessageHeader.source.name"),
    ),
    Kind(
        "Observation.note",
        "notes of several NTE: there one text, here one note each",
        _at("Observation.note.text"),
    ),
    Kind(
        "Observation.dataAbsentReason",
        "OBX-5 is empty: there `unknown`, here nothing",
        _at("Observation.dataAbsentReason.coding.code"),
    ),
    Kind(
        "Observation.value: form",
        "there a time without colons (no FHIR time), or other joints between components; "
        "here `\\.br\\` is a line break",
        _at("Observation.valueString", "Observation.valueTime"),
    ),
    Kind(
        "Observation.valueQuantity.unit",
        "there the code of the unit (OBX-6.1), here its name (OBX-6.2)",
        _at("Observation.valueQuantity.unit"),
    ),
    Kind(
        "a time",
        "a day with a time of day in the message, a fraction of a second that is not in it, "
        "or a year as an instant",
        _at("DiagnosticReport.issued", "Observation.valueDateTime"),
    ),
    Kind(
        "a name that was cut short on the way",
        "here what the message has",
        _at("Patient.name.family", "Patient.name.given"),
    ),
    Kind(
        "one of a kind",
        "an order without a code; a contact's relationship and a name's use that are not sent",
        _at(
            "ServiceRequest.code.coding.code",
            "Patient.contact.relationship.coding.code",
            "Patient.name.use",
        ),
    ),
)


@dataclass(frozen=True)
class Compared:
    """A group of pairs, compared.

    Attributes:
        pairs: How many.
        expected: Facts of their Bundles.
        whole: How many of our Bundles have every fact.
        missing: Facts that are not in ours, by kind.
    """

    pairs: int
    expected: int
    whole: int
    missing: Counter[str]

    @property
    def found(self) -> int:
        """Facts that are in ours."""
        return self.expected - self.missing.total()


def compared(group: str, ours: Mapping[bytes, Json]) -> Compared:
    """Compare a group of pairs.

    Args:
        group: How the names of its files begin.
        ours: Bundle of each message.

    Raises:
        AssertionError: A difference is of no kind.
    """
    expected, whole, missing, files = 0, 0, Counter[str](), _files(group)
    for file in files:
        message, wanted = file.read_bytes(), json.loads(file.with_suffix(".fhir").read_text())
        expected += facts(wanted).total()
        found = Counter(_kind(each) for each in _differences(wanted, ours[message], message))
        whole += not found
        missing += found
    return Compared(len(files), expected, whole, missing)


def _files(group: str) -> list[Path]:
    return sorted((SHARED_DATA / "hl7v2-pairs").glob(f"{group}*.hl7"))


def _kind(difference: Difference) -> str:
    names = (kind.name for kind in KINDS if kind.holds(difference))
    name = next(names, None)
    assert name is not None, f"{difference.at} is of no kind"
    return name


def _differences(wanted: Json, ours: Json, message: bytes) -> Iterator[Difference]:
    """Give what is missing; what is of a resource that is not in the message first."""
    missing, text = facts(wanted) - facts(ours), message.decode("utf-8", "replace")
    asked = _codes_of_results(text)
    resources = [entry["resource"] for entry in wanted.get("entry", ())]
    for is_absent in (True, False):
        for resource in resources:
            if _is_absent(resource, asked) is is_absent:
                for fact in _taken(resource, missing):
                    yield Difference(*fact, is_absent, fact[2] in text)


def _taken(resource: Json, missing: Counter[Fact]) -> Iterator[Fact]:
    """Give the missing facts of one resource, each taken off what is missing."""
    for fact, count in facts({"entry": [{"resource": resource}]}).items():
        own = min(count, missing[fact])
        missing[fact] -= own
        yield from [fact] * own


def _codes_of_results(text: str) -> set[str]:
    lines = [line.split("|") for line in re.split(r"[\r\n]+", text) if line.startswith("OBX|")]
    return {part for line in lines if len(line) > 3 for part in line[3].split("^") if part}


def _is_absent(resource: Json, asked: set[str]) -> bool:
    if resource["resourceType"] != "Observation":
        return False
    codings = resource.get("code", {}).get("coding", ())
    codes = {each["code"] for each in codings if "code" in each}
    return bool(codes) and codes.isdisjoint(asked)


def summary(found: Mapping[str, Compared]) -> str:
    """Write the table of how much is found."""
    lines = ["| pairs | facts expected | found | Bundles with every fact |", "|---|---|---|---|"]
    for group, name in GROUPS.items():
        each = found[group]
        share = f"{each.found:,} ({each.found / each.expected:.1%})"
        lines.append(f"| {each.pairs} {name} | {each.expected:,} | {share} | {each.whole} |")
    return "\n".join(lines) + "\n"


def table(found: Mapping[str, Compared]) -> str:
    """Write the table of all differences, by kind."""
    columns = [found[group] for group in GROUPS]
    heads = ["HL7 to FHIR", "inventory", "FHIR to HL7"]
    lines = [f"| not found | {' | '.join(heads)} | why |", "|---|---|---|---|---|"]
    for kind in KINDS:
        counts = [each.missing[kind.name] for each in columns]
        lines.append(f"| {kind.name} | {_cells(counts)} | {kind.why} |")
    lines.append(f"| all | {_cells([each.missing.total() for each in columns])} | |")
    return "\n".join(lines) + "\n"


def _cells(counts: Sequence[int]) -> str:
    return " | ".join(str(count) if count else "" for count in counts)


def _converted(message: bytes) -> Json:
    dialect = Dialect(zone=ZoneInfo("UTC"), authorities={}, code_systems={}, local_codes={})
    mrn = "https://hospital.example/mrn"
    origin = Origin(
        feed="lab/mllp", patient_system=mrn, find_patient=plain_id, has_own_patients=True
    )
    made = convert(parsed(message), message, origin, dialect, datetime.now(UTC))
    bundle: Json = json.loads(made.bundle)
    return bundle


if __name__ == "__main__":
    ours = {file.read_bytes(): _converted(file.read_bytes()) for file in _files("")}
    found = {group: compared(group, ours) for group in GROUPS}
    page = DOCS / "hl7v2.md"
    for each in (summary(found), table(found)):
        sys.stdout.write(f"{each}\n")
        page.write_text(replaced(page.read_text(), each))
