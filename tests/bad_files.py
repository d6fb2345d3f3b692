"""What is put into a drop folder and can't be taken: a table of docs/drop-folder.md."""

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from tests.factories import Json, bundle, creatinine, raw

MOST = 4096
_ODD = {**creatinine(2), "status": "ZZCANARY"}


@dataclass(frozen=True)
class BadFile:
    """One case.

    Attributes:
        what: For the table; unique.
        content: Of the file.
        code: FHIR issue code of the outcome.
        says: What its first issue says.
        place: Of the first issue, as a FHIRPath.
        taken: How many resources are stored all the same.
    """

    what: str
    content: bytes
    code: str
    says: str
    place: str = ""
    taken: int = 0
    name: str = "a.json"


def document(*resources: Json) -> bytes:
    """Write a document about p1."""
    composition = {
        "resourceType": "Composition",
        "id": "c1",
        "status": "final",
        "type": {"text": "Discharge summary"},
        "subject": {"reference": "Patient/p1"},
        "date": "2026-11-01T10:00:00Z",
        "author": [{"display": "Dr. Rao"}],
        "title": "Discharge summary",
    }
    return orjson.dumps(
        {
            "resourceType": "Bundle",
            "type": "document",
            "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:uuid:1"},
            "timestamp": "2026-11-01T10:00:00Z",
            "entry": [{"resource": each} for each in (composition, *resources)],
        }
    )


def cases() -> Iterator[BadFile]:
    """Give every case."""
    yield from _wholes()
    yield from _parts()
    yield from _shapes()


def _wholes() -> Iterator[BadFile]:
    says = "The code is not one of the required value set 'observation-status'."
    yield BadFile(
        "a document with one bad entry",
        document(_ODD),
        "code-invalid",
        says,
        "Bundle.entry[1].resource.status",
    )
    yield BadFile(
        "a transaction with one bad entry",
        raw(bundle(creatinine(1), _ODD, kind="transaction")),
        "code-invalid",
        says,
        "Bundle.entry[1].resource.status",
    )


def _parts() -> Iterator[BadFile]:
    yield BadFile(
        "a collection with one bad resource",
        raw(bundle(creatinine(1), _ODD)),
        "code-invalid",
        "The code is not one of the required value set 'observation-status'.",
        "Bundle.entry[1].resource.status",
        taken=1,
    )
    yield BadFile(
        "NDJSON with a line that is no JSON",
        raw(creatinine(1)) + b"\nZZCANARY\n",
        "structure",
        "line 2: This is not JSON in UTF-8.",
        taken=1,
        name="a.ndjson",
    )


def _shapes() -> Iterator[BadFile]:
    no_json = "This is not JSON in UTF-8."
    yield BadFile("an empty file", b"", "structure", no_json)
    yield BadFile("no JSON", b"ZZCANARY", "structure", no_json)
    no_fhir = "A FHIR resource is a JSON object with a resourceType."
    yield BadFile("JSON that is no FHIR", b"[1]", "structure", no_fhir)
    nothing = b'{"resourceType": "Bundle", "type": "collection"}'
    yield BadFile("a Bundle without entries", nothing, "structure", "The file holds no resource.")
    large = f"The file has more than {MOST} bytes: split it, or raise max_bytes."
    yield BadFile("larger than `max_bytes`", b"x" * 5000, "too-long", large)


def table() -> str:
    """Write the table."""
    lines = ["| in `failed/` | is taken | the outcome says |", "|---|---|---|"]
    for case in cases():
        taken = f"{case.taken} of it" if case.taken else "nothing"
        where = f", `{case.place}`" if case.place else ""
        lines.append(f"| {case.what} | {taken} | `{case.code}`{where}: {case.says} |")
    return "\n".join(lines) + "\n"
