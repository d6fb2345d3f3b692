"""Segments of orders and results: ORC, OBR, TQ1, OBX, SPM, NTE."""

from collections.abc import Callable

from adapters.hl7v2.datatypes import Json, Reading
from adapters.hl7v2.dialect import Notes
from adapters.hl7v2.mapping import fill
from adapters.hl7v2.message import Segment
from adapters.hl7v2.tables import code_map
from adapters.hl7v2.values import attachments, put_range, put_value
from adapters.hl7v2.work import Made, Work

_RESULTS = frozenset({"ORU", "OUL"})


def _orc(work: Work, segment: Segment) -> None:
    work.order_segment, work.order, work.report, work.observation = segment, None, None, None


def _obr(work: Work, segment: Segment) -> None:
    number = _order_number(work, segment)
    code = segment.text(4) or segment.text(4, 4) or segment.text(4, 2)
    # Without a number nothing but this message names it; one that stands there twice is two.
    key = (number, code) if number else ()
    nth = work.occurrence("order", *key) if key else ""
    key = (*key, nth) if nth else key
    work.order = _order(work, segment, key)
    work.observation, work.report = None, None
    if work.message.kind in _RESULTS:
        report = work.about(work.begin("DiagnosticReport", segment, *key))
        report.content["basedOn"] = [work.order.reference]
        if work.order_segment is not None:
            work.fill(report, work.order_segment)
        if work.visit:
            report.content["encounter"] = work.visit
        work.report = report
        if work.message.kind == "OUL" and work.specimen is not None:
            _join_specimen(work, work.specimen)
    _specimen_of_order(work, segment)
    work.observation_time = _order_time(work, segment)


def _order_number(work: Work, segment: Segment) -> str:
    orc = work.order_segment
    for at in (3, 2):
        number = segment.text(at) or (orc.text(at) if orc is not None else "")
        if number:
            return number
    return ""


def _order(work: Work, segment: Segment, key: tuple[str, ...]) -> Made:
    made = work.about(work.begin("ServiceRequest", segment, *key))
    orc = work.order_segment
    if orc is not None:
        work.fill(made, orc)
        by_state = code_map("order-status").get(orc.text(5))
        made.content["status"] = by_state or code_map("order-control").get(orc.text(1), "unknown")
    if work.visit:
        made.content["encounter"] = work.visit
    return made


def _order_time(work: Work, segment: Segment) -> Json:
    scratch: Json = {"resourceType": "DiagnosticReport"}
    fill(scratch, "DiagnosticReport", segment, work.dialect, Notes())
    moment = scratch.get("effectiveDateTime")
    return {"effectiveDateTime": moment} if moment else {}


def _tq1(work: Work, segment: Segment) -> None:
    if work.order is not None:
        work.fill(work.order, segment)


def _obx(work: Work, segment: Segment) -> None:
    reading = work.reading(segment.at(5))
    if work.document is not None:
        _of_document(work.document, segment, reading)
        return
    made = work.about(work.begin("Observation", segment, *_observation_key(work, segment)))
    content = made.content
    put_value(content, segment, reading)
    put_range(content, segment)
    for name, value in work.observation_time.items():
        content.setdefault(name, value)
    if work.visit:
        content["encounter"] = work.visit
    if segment.text(11) == "N":
        content["dataAbsentReason"] = _NOT_ASKED
    work.observation = made
    _join(work, made, attachments(segment, reading))


def _of_document(document: Made, segment: Segment, reading: Reading) -> None:
    contents = document.content.setdefault("content", [])
    files = attachments(segment, reading)
    contents += [{"attachment": each} for each in files]
    text = "\n".join(value.text() for value in segment.values(5) if value.text())
    if text and not files and segment.text(2) not in {"ED", "RP"}:
        document.content.setdefault("_text", []).append(text)


_NOT_ASKED = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
            "code": "not-asked",
        }
    ]
}


def _observation_key(work: Work, segment: Segment) -> tuple[str, ...]:
    """Name a result by its report, else by its patient and time; by nothing but this message else.

    Several of one code in one report are told apart by their sub-id (OBX-4), else by their order.
    """
    code = segment.text(3) or segment.text(3, 4) or segment.text(3, 2)
    owner = work.report or work.order or work.immunization
    if owner is not None:
        whose = owner.content["id"]
    elif work.subject and segment.text(14):
        whose = segment.text(14)
    else:
        return ()
    key = ("Observation", whose, code, segment.text(4))
    nth = work.occurrence("nth", *key)
    return (*key[1:], nth) if nth else key[1:]


def _join(work: Work, made: Made, files: list[Json]) -> None:
    """Let the report, the order or the immunization know of its observation."""
    if work.report is not None:
        content = work.report.content
        content.setdefault("result", []).append(made.reference)
        if files:
            content.setdefault("presentedForm", []).extend(files)
        if "status" not in made.content and "status" in content:
            made.content["status"] = _STATUS_BY_REPORT.get(content["status"], "unknown")
    elif work.order is not None:
        work.order.content.setdefault("supportingInfo", []).append(made.reference)
    elif work.immunization is not None:
        made.content["partOf"] = [work.immunization.reference]


#: Where OBX-11 is empty, what the whole report says (OBR-25) holds for its parts.
_STATUS_BY_REPORT = {
    "final": "final",
    "corrected": "corrected",
    "preliminary": "preliminary",
    "partial": "preliminary",
    "registered": "registered",
    "cancelled": "cancelled",
}


def _spm(work: Work, segment: Segment) -> None:
    number = segment.text(2, 2) or segment.text(2)
    owner = work.order.content["id"] if work.order is not None else ""
    key = (number or owner, segment.text(1)) if number or owner else ()
    work.specimen = work.about(work.begin("Specimen", segment, *key))
    if work.message.kind != "OUL":
        _join_specimen(work, work.specimen)


def _specimen_of_order(work: Work, segment: Segment) -> None:
    """Make a Specimen of what an OBR says of one, where no SPM does (before version 2.5)."""
    is_told = segment.text(14) or segment.values(15)
    if not is_told or work.order is None or work.message.first("SPM") is not None:
        return
    key = (str(work.order.content["id"]), "")
    work.specimen = work.about(work.begin("Specimen", segment, *key))
    _join_specimen(work, work.specimen)


def _join_specimen(work: Work, specimen: Made) -> None:
    for owner in (work.report, work.order):
        if owner is not None:
            listed = owner.content.setdefault("specimen", [])
            if specimen.reference not in listed:
                listed.append(specimen.reference)


def _nte(work: Work, segment: Segment) -> None:
    owner = work.observation or work.order
    text = "\n".join(value.text() for value in segment.values(3) if value.text())
    if owner is not None and text:
        owner.content.setdefault("note", []).append({"text": text})


READERS: dict[str, Callable[[Work, Segment], None]] = {
    "ORC": _orc,
    "OBR": _obr,
    "TQ1": _tq1,
    "OBX": _obx,
    "SPM": _spm,
    "NTE": _nte,
}
