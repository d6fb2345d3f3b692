"""Segments of documents, appointments and immunizations: TXA, SCH and its resources, RXA, RXR."""

from collections.abc import Callable

from adapters.hl7v2.identity import resource_id
from adapters.hl7v2.message import Segment
from adapters.hl7v2.problems import Code
from adapters.hl7v2.tables import code_map
from adapters.hl7v2.work import Work


def _txa(work: Work, segment: Segment) -> None:
    number = segment.text(12)
    work.document = work.about(work.begin("DocumentReference", segment, *filter(None, [number])))
    if work.event == "T11":
        work.document.content["status"] = "entered-in-error"
    parent = segment.text(13)
    if parent:
        target = resource_id(work.origin, "DocumentReference", work.subject_reference, parent)
        relation = {"code": "appends" if work.event in {"T05", "T06"} else "replaces"}
        relation["target"] = {"reference": f"DocumentReference/{target}"}  # type: ignore[assignment]
        work.document.content["relatesTo"] = [relation]


def _sch(work: Work, segment: Segment) -> None:
    number = segment.text(2) or segment.text(1)
    made = work.begin("Appointment", segment, *filter(None, [number]))
    made.content["status"] = code_map("appointment-status").get(work.event, "proposed")
    work.appointment = made


def _resource_of_appointment(work: Work, segment: Segment) -> None:
    if work.appointment is not None:
        work.fill(work.appointment, segment)


def _rxa(work: Work, segment: Segment) -> None:
    work.observation = work.order = None
    work.immunization = None
    if not segment.text(5) or work.subject is None:
        says = "An RXA without a vaccine (RXA-5) or a patient was left out."
        work.notes.add(Code.REQUIRED_MISSING, segment.at(5), says)
        return
    key = (segment.text(5), segment.text(3))
    work.immunization = work.about(work.begin("Immunization", segment, *key), "patient")
    if segment.text(21) == "D":
        work.immunization.content["status"] = "entered-in-error"


def _rxr(work: Work, segment: Segment) -> None:
    if work.immunization is not None:
        work.fill(work.immunization, segment)


READERS: dict[str, Callable[[Work, Segment], None]] = {
    "TXA": _txa,
    "SCH": _sch,
    "AIS": _resource_of_appointment,
    "AIP": _resource_of_appointment,
    "AIL": _resource_of_appointment,
    "AIG": _resource_of_appointment,
    "RXA": _rxa,
    "RXR": _rxr,
}
