"""The log as a file for others: in lines of JSON, as a table, or as a FHIR Bundle.

Every entry carries its place in the log and its proof; a signed note beside the file (`FILE.note`)
says how many entries it has and what its SHA-256 is. In JSON and FHIR the bytes of each AuditEvent
stand as they are in the log.

Source: C2SP signed-note; RFC 9162 section 2.1.3; RFC 4180; FHIR R4 Bundle.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from enum import StrEnum

import orjson

from gateway.core.audit import read_record
from gateway.core.ledger import leaf_hash
from gateway.core.receipt import ProvenEvent

FORMAT = "nadi-audit-export-1"
_EXTENSION = "https://nadi.health/fhir/StructureDefinition/"
_COLUMNS = (
    "leaf_index",
    "recorded",
    "event",
    "action",
    "outcome",
    "reason",
    "agents",
    "patient_key",
    "job",
    "id",
    "leaf_hash",
    "inclusion_proof",
)
#: What a spreadsheet takes for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ExportFormat(StrEnum):
    """How an export is written."""

    NDJSON = "ndjson"
    CSV = "csv"
    FHIR_BUNDLE = "fhir-bundle"


def export(
    form: ExportFormat, events: Iterable[ProvenEvent], *, checkpoint: str, verifier_key: str
) -> Iterator[bytes]:
    """Give the pieces of the file, one entry at a time.

    Args:
        form: How it is written.
        events: What is exported, in the order of the log.
        checkpoint: Signed note that all proofs lead to.
        verifier_key: Name and public key of the log.
    """
    if form is ExportFormat.CSV:
        return _csv(events)
    head = {"checkpoint": checkpoint, "verifier_key": verifier_key}
    return _ndjson(events, head) if form is ExportFormat.NDJSON else _bundle(events, head)


def note_text(count: int, sha256: str) -> str:
    """Give the text of the note beside an export, to be signed."""
    return f"{FORMAT}\n{count}\n{sha256}\n"


def _ndjson(events: Iterable[ProvenEvent], head: dict[str, str]) -> Iterator[bytes]:
    yield orjson.dumps({"format": FORMAT, **head}) + b"\n"
    for event in events:
        line = {
            "leaf_index": event.leaf_index,
            "event": event.body.decode(),
            "inclusion_proof": [node.hex() for node in event.proof],
        }
        yield orjson.dumps(line) + b"\n"


def _bundle(events: Iterable[ProvenEvent], head: dict[str, str]) -> Iterator[bytes]:
    extensions = [
        {"url": f"{_EXTENSION}audit-checkpoint", "valueString": head["checkpoint"].strip()},
        {"url": f"{_EXTENSION}audit-verifier-key", "valueString": head["verifier_key"]},
    ]
    meta = orjson.dumps({"extension": extensions})
    yield b'{"resourceType":"Bundle","meta":' + meta + b',"type":"collection"'
    number = -1
    for number, event in enumerate(events):
        proof = " ".join((str(event.leaf_index), *(node.hex() for node in event.proof)))
        shown = [{"url": f"{_EXTENSION}audit-inclusion-proof", "valueString": proof}]
        name = orjson.dumps(f"urn:uuid:{read_record(event.body).id}")
        yield b",\n" if number else b',"entry":[\n'
        yield b'{"extension":' + orjson.dumps(shown) + b',"fullUrl":' + name
        yield b',"resource":' + event.body + b"}"
    # An empty array would be no FHIR.
    yield b"\n]}\n" if number >= 0 else b"}\n"


def _csv(events: Iterable[ProvenEvent]) -> Iterator[bytes]:
    yield _line(_COLUMNS)
    for event in events:
        record, body = read_record(event.body), orjson.loads(event.body)
        agents = [agent["who"].get("display", "") for agent in body["agent"]]
        yield _line(
            (
                str(event.leaf_index),
                body["recorded"],
                record.event,
                record.action,
                record.outcome,
                body.get("outcomeDesc", ""),
                ", ".join(agents),
                record.patient_key or "",
                record.job_id or "",
                record.id,
                leaf_hash(event.body).hex(),
                " ".join(node.hex() for node in event.proof),
            )
        )


def _line(values: Iterable[str]) -> bytes:
    """Write one row; a value that a spreadsheet would compute is kept from that by a quote."""
    line = io.StringIO()
    safe = [f"'{value}" if value.startswith(_FORMULA) else value for value in values]
    csv.writer(line).writerow(safe)
    return line.getvalue().encode()
