"""The key `oru` of a system: where results go as HL7 v2, and what a site file may not say of it."""

import pytest

from adapters.hl7v2.addressed import Addressed
from adapters.site import SiteInvalid, load_site
from gateway.core.ladder import Rung

MRN = "https://hospital.example/mrn"
SITE = """
site: district-hospital
systems:
  ehr:
    kind: fhir-rest
    base_url: https://ehr.hospital.example/fhir
  other:
    kind: fhir-rest
    base_url: https://other.hospital.example/fhir
  lis:
    kind: hl7v2
    {patients}
    {oru}
    write_back: {{never: [worklist]}}
routes:
  ckd:
    source: {source}
    match: Observation
    consent: {{purpose: TREAT}}
    model: ckd-risk@1
    sink: {{system: lis}}
"""
PATIENTS = f'patients: {{of: ehr, identifier: "{MRN}"}}'
ORU = "oru: {host: lis.hospital.example, port: 2576, application: LIS, facility: HOSP"


def site(*, more: str = "", patients: str = PATIENTS, oru: str = ORU, source: str = "ehr"):
    written = f"{oru}{more}}}" if oru else "title: LIS"
    return load_site(SITE.format(patients=patients, oru=written, source=source))


def problems(**changed: str) -> list[str]:
    with pytest.raises(SiteInvalid) as found:
        site(**changed)
    return [f"{each.path}: {each.message}" for each in found.value.problems]


def test_a_receiver_is_known_by_its_place_and_what_stands_in_the_header():
    found = site(more=", tls: {authority: ca.pem}").systems["lis"]

    assert found.oru is not None
    assert (found.oru.host, found.oru.port) == ("lis.hospital.example", 2576)
    assert (found.oru.tls, found.oru.patients_of) == (("ca.pem", None), "ehr")
    assert found.oru.addressed == Addressed(
        application="LIS",
        facility="HOSP",
        as_application="NADI",
        as_facility="district-hospital",
        processing_id="P",
        charset="UNICODE UTF-8",
        numbers=MRN,
    )
    assert found.terms.never == {Rung.WORKLIST}


def test_who_gets_results_about_the_ehrs_patients_has_none_of_its_own():
    assert site().of_patients == ("ehr", "other")


def test_what_is_wrong_with_a_receiver_is_said_where_it_stands():
    assert problems(more=", prot: 1") == ["systems.lis.oru.prot: unknown key; did you mean 'port'?"]
    assert problems(more=', authority: "Müller"') == [
        "systems.lis.oru.authority: must be plain ASCII, without blanks at its ends"
    ]
    (charset,) = problems(more=", charset: UTF-16")
    assert charset.startswith("systems.lis.oru.charset: must be 'UNICODE UTF-8', 'ASCII'")
    (host,) = problems(oru="oru: {host: 'lis:2576', port: 1, application: A, facility: B")
    assert host == "systems.lis.oru.host: must be the name or the address of a host, without a port"


def test_a_receiver_needs_a_number_by_which_it_knows_patients():
    (said,) = problems(patients="title: LIS", source="ehr")[:1]

    assert said.startswith("systems.lis.oru: needs `patients`: the URI of the number")


def test_a_receiver_gets_no_results_about_patients_whom_it_does_not_know():
    assert problems(source="other") == [
        "routes.ckd.sink.system: 'lis' knows the patients of 'ehr', not those of 'other'"
    ]
