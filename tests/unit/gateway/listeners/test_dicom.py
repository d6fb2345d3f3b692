"""Images by C-STORE, over real sockets, become ImagingStudies; what is not taken is told why."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import uid

from adapters.dicom.spool import Handed, Spool
from adapters.hl7v2.identity import plain_id
from gateway.listeners.desk import Desk
from gateway.listeners.dicom import DicomListener, SpoolSeals
from gateway.settings import Settings
from gateway.store.audit_log import AuditFilter
from tests.certificates import Authority
from tests.conftest import Api
from tests.dicom import PATIENT, associate, ct_slice, film, send, stored
from tests.factories import SITE
from tests.listening import Feed, desk_of, listening

ARCHIVE = """\
  pacs:
    kind: dicom
    patients: {of: ehr, identifier: "https://hospital.example/mrn", find: id}
    receive:
      - dicom: {port: 2575, callers: [SCANNER], quiet_s: 0.5, idle_s: 2, max_bytes: 100000,
                max_pixels: 100000MORE}
routes:"""
STORED = 0x0000


def site(more: str = "") -> str:
    return SITE.replace("routes:", ARCHIVE.replace("MORE", more))


def make_in(folder: Path) -> Callable[[Desk], DicomListener]:
    def make(desk: Desk) -> DicomListener:
        spool = Spool(folder, SpoolSeals(desk.store.sealer, desk.feed.name))
        settings = Settings(data_dir=folder, min_disk_free_bytes=0)
        return DicomListener(desk, plain_id, spool, settings)

    return make


@pytest.fixture
def api(api: Api) -> Api:
    with api.store.write() as uow:
        uow.sites.apply(site(), "test")
    return api


@pytest.fixture
def pacs(api: Api, tmp_path: Path) -> Iterator[Feed]:
    with listening(api, site(), "pacs/dicom", make=make_in(tmp_path / "spool")) as feed:
        yield feed


def studies(feed: Feed, count: int = 1) -> list[dict]:
    """Wait for the ImagingStudies that were handed over; give them, the first first."""
    until = time.monotonic() + 10
    while len(found := [e for e in feed.events() if e["resourceType"] == "ImagingStudy"]) < count:
        assert time.monotonic() < until, "no study was handed over"
        time.sleep(0.05)
    return found


def statuses(answers: list) -> list[int]:
    return [answer.Status for answer in answers]


def test_a_film_becomes_an_imaging_study_of_the_ehrs_patient_with_the_film_in_it(pacs: Feed):
    sent = film()

    assert statuses(send(pacs.port, sent)) == [STORED]

    (study,) = studies(pacs)
    assert study["subject"] == {"reference": f"Patient/{PATIENT}"}
    assert study["identifier"][0]["value"] == f"urn:oid:{sent.StudyInstanceUID}"
    assert study["started"] == "2026-11-26T07:15:00+00:00"
    (series,) = study["series"]
    assert series["modality"]["code"] == "DX"
    assert series["bodySite"]["code"] == "816094009"
    assert [each["uid"] for each in series["instance"]] == [sent.SOPInstanceUID]
    (image,) = study["contained"]
    assert image["contentType"] == "application/dicom"


def test_a_study_is_handed_over_once_when_it_is_quiet_and_repeats_change_nothing(pacs: Feed):
    slices = [ct_slice(number=number) for number in (1, 2, 3)]

    assert statuses(send(pacs.port, *slices, slices[0])) == [STORED] * 4
    (study,) = studies(pacs)
    assert statuses(send(pacs.port, *slices)) == [STORED] * 3
    time.sleep(1.5)

    assert studies(pacs) == [study]
    assert study["numberOfInstances"] == 3


def test_a_late_image_makes_a_newer_version_of_the_whole_study(pacs: Feed):
    send(pacs.port, ct_slice(number=1))
    (first,) = studies(pacs)

    send(pacs.port, ct_slice(number=2))
    first, second = studies(pacs, 2)

    assert second["id"] == first["id"]
    assert (first["meta"]["versionId"][:2], second["meta"]["versionId"][:2]) == ("1-", "2-")
    assert (first["numberOfInstances"], second["numberOfInstances"]) == (1, 2)


def test_the_same_study_uid_of_two_patients_makes_two_studies(pacs: Feed):
    send(pacs.port, film(), film(number=2, PatientID="MR-0043"))

    found = studies(pacs, 2)

    assert len({study["id"] for study in found}) == 2
    assert {study["subject"]["reference"] for study in found} == {
        "Patient/MR-0042",
        "Patient/MR-0043",
    }


def test_what_is_refused_is_on_record_without_anything_of_the_patient_or_a_stranger(
    api: Api, tmp_path: Path
):
    make = make_in(tmp_path / "spool")
    with listening(api, site(), "pacs/dicom", make=make) as feed:
        send(feed.port, ct_slice(size=(300, 300)), film(PatientID=""))
        associate(feed.port, caller="MRS-CANARY")

    with api.store.read() as uow:
        rows = uow.audit_log.search(AuditFilter(events=("image-refuse", "sender-refuse")))
    bodies = b"".join(row.body for row in rows)
    assert sorted(row.event for row in rows) == ["image-refuse", "image-refuse", "sender-refuse"]
    assert {row.patient_key for row in rows} == {None}
    assert b'"SCANNER"' in bodies
    assert b"127.0.0.1" in bodies
    assert PATIENT.encode() not in bodies
    assert b"CANARY" not in bodies


def test_an_echo_is_answered(pacs: Feed):
    association = associate(pacs.port, syntaxes=[uid.JPEGLSLossless])

    assert association.send_c_echo().Status == STORED
    association.release()


def test_nothing_of_a_patient_lies_on_the_disk_in_the_clear(pacs: Feed, tmp_path: Path):
    sent = film()
    send(pacs.port, sent)
    studies(pacs)

    files = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]

    assert len(files) == 3
    marks = [PATIENT, "Canary", sent.StudyInstanceUID, sent.SOPInstanceUID]
    for path in files:
        content = path.read_bytes()
        assert not any(mark.encode() in content or mark in str(path) for mark in marks)


class Killed(BaseException):
    """Everything ended, as in a power cut."""


class CutOff(Spool):
    """A spool whose process ends after the gateway took a study, before that is noted."""

    def end(self, study: str, handed: Handed, patient: str) -> None:  # noqa: ARG002
        raise Killed


def test_a_study_whose_hand_over_was_cut_off_is_handed_over_again_and_taken_for_a_repeat(
    api: Api, tmp_path: Path
):
    desk, folder = desk_of(api, site(), "pacs/dicom"), tmp_path / "spool"
    seals, settings = SpoolSeals(api.store.sealer, "pacs/dicom"), Settings(min_disk_free_bytes=0)
    cut_off = DicomListener(desk, plain_id, CutOff(folder, seals), settings)
    cut_off.keep(stored(film()))
    time.sleep(0.6)
    with pytest.raises(Killed):
        cut_off.turn(threading.Event())

    again = DicomListener(desk, plain_id, Spool(folder, seals), settings)
    again.turn(threading.Event())
    again.turn(threading.Event())

    with api.store.read() as uow:
        events = uow.connection.exec_driver_sql("select id from events").all()
    assert len(events) == 1
    assert Spool(folder, seals).due(0, 10**15) == []


def test_the_middle_slice_is_chosen_where_the_site_says_so(api: Api, tmp_path: Path):
    wanted = site(", slices: middle")
    with listening(api, wanted, "pacs/dicom", make=make_in(tmp_path / "spool")) as feed:
        slices = [ct_slice(number=number) for number in range(1, 8)]
        scout = ct_slice("ct", number=9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        send(feed.port, *slices, scout)

        (study,) = studies(feed)

    assert study["numberOfInstances"] == 8
    assert len(study["contained"]) == 1


def test_more_images_than_are_looked_at_are_named_and_do_not_go_along(pacs: Feed):
    send(pacs.port, *(ct_slice(number=number) for number in range(1, 7)))

    (study,) = studies(pacs)

    assert study["numberOfInstances"] == 6
    assert "contained" not in study


def test_an_association_over_tls_needs_a_certificate_that_we_know(api: Api, tmp_path: Path):
    ours, strange = Authority(tmp_path), Authority(tmp_path, "strange")
    mine, theirs, other = ours.issue("nadi"), ours.issue("scanner"), strange.issue("other")
    wanted = site(f", tls: {{certificate: {mine}, key: {mine}, clients: {ours.file}}}")
    with listening(api, wanted, "pacs/dicom", make=make_in(tmp_path / "spool")) as feed:
        idle = socket.create_connection(("127.0.0.1", feed.port))
        known, unknown = (client(ours, each) for each in (theirs, other))
        assert statuses(send(feed.port, film(), tls=(known, "127.0.0.1"))) == [STORED]
        assert not associate(feed.port, tls=(unknown, "127.0.0.1")).is_established
        assert not associate(feed.port).is_established
        idle.close()


def client(authority: Authority, own: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    context.load_cert_chain(own)
    return context
