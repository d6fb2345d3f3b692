"""(4.3) What the patients' charts still have to tell: missing inputs, asked for in one search.

What was pushed to us is used first. Only for inputs without a fresh value the EHR is asked, for
several patients of a micro-batch at once, newest first and no further back than the model looks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from models.manifest import CodeRef

Json = dict[str, Any]

#: Patients of one search: few enough that the newest results of each are among the pages read.
_PATIENTS_PER_SEARCH = 10
_PAGE = "500"
_MAX_PAGES = 10


class Searchable(Protocol):
    """What is needed of the client of an EHR; `adapters.fhir_rest` has one."""

    def search(
        self, resource_type: str, params: Sequence[tuple[str, str]], *, max_pages: int = 5
    ) -> list[Json]:
        """Search one type."""


@dataclass(frozen=True)
class Gap:
    """What is not known of one patient.

    Attributes:
        patient: `Patient/<id>`.
        codes: Codes of the Observations to ask for; none when only the Patient is missing.
        since: How far back they can matter.
        needs_patient: Whether the Patient resource is missing.
    """

    patient: str
    codes: tuple[CodeRef, ...]
    since: datetime
    needs_patient: bool


def search_chart(ehr: Searchable, gaps: Sequence[Gap]) -> dict[str, list[Json]]:
    """Ask an EHR for what is missing; give the resources by patient.

    Raises:
        TransientError: The EHR is away.
        ProcessingError: It refuses such a search.
    """
    found: dict[str, list[Json]] = {gap.patient: [] for gap in gaps}
    for chunk in _chunks([gap for gap in gaps if gap.needs_patient]):
        ids = ",".join(gap.patient.removeprefix("Patient/") for gap in chunk)
        for resource in ehr.search("Patient", [("_id", ids)], max_pages=1):
            _file(found, f"Patient/{resource.get('id')}", resource)
    for chunk in _chunks([gap for gap in gaps if gap.codes]):
        for resource in ehr.search("Observation", _query(chunk), max_pages=_MAX_PAGES):
            _file(found, _subject(resource), resource)
    return found


def described(gap: Gap, patient_key: str) -> str:
    """Give the search about one patient as the audit log shows it: without the patient's id."""
    if not gap.codes:
        return f"Patient?_id={patient_key}"
    return f"Observation?patient={patient_key}&code={_codes([gap])}&date={_since([gap])}"


def _query(gaps: Sequence[Gap]) -> list[tuple[str, str]]:
    return [
        ("patient", ",".join(dict.fromkeys(gap.patient for gap in gaps))),
        ("code", _codes(gaps)),
        ("date", _since(gaps)),
        ("_sort", "-date"),
        ("_count", _PAGE),
    ]


def _codes(gaps: Iterable[Gap]) -> str:
    keys = dict.fromkeys(code.key for gap in gaps for code in gap.codes)
    return ",".join(f"{_escaped(system)}|{_escaped(code)}" for system, code in keys)


def _escaped(text: str) -> str:
    """Escape what has a meaning in a search value (FHIR R4 search, section 3.1.1.3)."""
    for character in "\\$,|":
        text = text.replace(character, f"\\{character}")
    return text


def _since(gaps: Iterable[Gap]) -> str:
    earliest = min(gap.since for gap in gaps)
    return f"ge{earliest.astimezone(UTC).date().isoformat()}"


def _subject(resource: Mapping[str, Any]) -> str:
    reference = str((resource.get("subject") or {}).get("reference", ""))
    _, is_patient, rest = reference.rpartition("Patient/")
    return f"Patient/{rest.split('/', maxsplit=1)[0]}" if is_patient else ""


def _file(found: dict[str, list[Json]], patient: str, resource: Json) -> None:
    # An EHR that ignores a parameter answers with other patients too: those are dropped here.
    if patient in found:
        found[patient].append(resource)


def _chunks(gaps: Sequence[Gap]) -> Iterator[Sequence[Gap]]:
    for start in range(0, len(gaps), _PATIENTS_PER_SEARCH):
        yield gaps[start : start + _PATIENTS_PER_SEARCH]
