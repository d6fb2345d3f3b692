"""`nadi dicom send`, C-ECHO by the doctor, and `nadi route explain` with a DICOM file."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import uid
from typer.testing import CliRunner

from adapters.dicom.header import NotUnderstood
from adapters.dicom.sender import Answer, Target, send
from adapters.dicom.server import DicomServer, Stored, Terms
from adapters.site import load_site
from gateway.cli.doctor_dicom import echoes
from gateway.cli.main import app
from tests.dicom import PATIENT, film
from tests.factories import SITE
from tests.pictures import CANARY, dicom_file

FED = SITE.replace(
    "routes:",
    """\
  pacs:
    kind: dicom
    patients: {of: ehr, identifier: "https://hospital.example/mrn", find: id}
    receive:
      - dicom: {port: 11112, callers: [NADI-SEND], max_bytes: 100000}
routes:
  study:
    source: ehr
    match: ImagingStudy.where(status='available')
    consent: {purpose: TREAT, default: permit}
    model: chest-xray-pneumonia@1
    sink: {system: ehr}""",
)


@contextmanager
def served(taken: list[Stored], *, title: str = "NADI", refuses: bool = False) -> Iterator[int]:
    def keep(stored: Stored) -> None:
        if refuses:
            raise NotUnderstood(0xC002, "PatientID is empty.")
        taken.append(stored)

    terms = Terms(
        title=title,
        callers=("NADI-SEND",),
        allow=(),
        max_bytes=1 << 20,
        max_connections=4,
        idle_s=10,
    )
    server = DicomServer(terms, keep, lambda _outcome, _peer: None)
    try:
        yield server.start("127.0.0.1", 0)
    finally:
        server.stop()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "film.dcm"
    path.write_bytes(dicom_file(film()))
    return path


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    return done.output


def test_files_are_sent_and_how_they_are_answered_is_shown(file: Path):
    taken: list[Stored] = []
    with served(taken) as port:
        rows = json.loads(run("dicom", "send", file, file, "--port", port, "--json"))

    assert [(row["status"], row["says"]) for row in rows] == [("0000", "stored")] * 2
    assert [each.syntax for each in taken] == [uid.ExplicitVRLittleEndian] * 2


def test_what_is_refused_is_shown_with_its_comment_and_ends_with_1(file: Path):
    with served([], refuses=True) as port:
        shown = run("dicom", "send", file, "--port", port, code=1)

    assert "C002" in shown
    assert "PatientID is empty." in shown


def test_a_transfer_syntax_that_is_not_taken_there_is_told(tmp_path: Path):
    path = tmp_path / "film.dcm"
    image = film()
    path.write_bytes(dicom_file(image).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"))
    with served([]) as port:
        shown = run("dicom", "send", path, "--port", port, "--json", code=1)

    assert "is not taken there" in shown


def test_who_is_rejected_is_told_why(file: Path):
    with served([], title="OTHER") as port:
        shown = run("dicom", "send", file, "--port", port, code=1)

    assert "it has another AE title" in " ".join(shown.split())


def test_what_is_no_dicom_file_is_not_sent(tmp_path: Path):
    path = tmp_path / "note.txt"
    path.write_text("hello")

    # Nobody listens at this port, and nobody is asked.
    shown = " ".join(run("dicom", "send", path, "--port", 1, code=1).split())

    assert str(path) in shown
    assert "it is no DICOM file (part 10), and was not sent" in shown


def test_what_can_not_be_sent_holds_up_no_other_file(file: Path, tmp_path: Path):
    whole = file.read_bytes()
    header = whole.index(b"\x08\x00\x16\x00UI")
    no_dicom = {
        "note.txt": b"hello",
        "empty.dcm": b"",
        "no-meta.dcm": bytes(128) + b"DICM",
        "no-syntax.dcm": whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.x\0", 1),
    }
    damaged = {
        "cut-in-meta.dcm": whole[: header - 40],
        "meta-alone.dcm": whole[:header],
        "no-instance.dcm": whole[: header + 36],
        "no-element.dcm": whole[:header] + b"\x08\x00\x16\x00?!" + whole[header + 6 :],
    }
    not_taken = {"other.dcm": whole.replace(b"1.2.840.10008.5.1.4.1", b"1.2.840.10008.5.1.4.9")}
    bad = no_dicom | damaged | not_taken
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    paths = [file, *(tmp_path / name for name in bad), file]
    taken: list[Stored] = []

    with served(taken) as port:
        rows = json.loads(run("dicom", "send", *paths, "--port", port, "--json", code=1))

    assert [row["file"] for row in rows] == [str(path) for path in paths]
    assert [row["is_taken"] for row in rows] == [True, *[False] * len(bad), True]
    assert len(taken) == 2
    says = [row["says"] for row in rows]
    assert says == [
        "stored",
        *["it is no DICOM file (part 10), and was not sent"] * len(no_dicom),
        *["it is damaged, and was not sent"] * len(damaged),
        "its kind of image or transfer syntax is not taken there",
        "stored",
    ]


def test_a_file_that_may_not_be_read_is_told_and_the_others_are_sent(file: Path, tmp_path: Path):
    gone = tmp_path / "gone.dcm"
    target = Target(host="127.0.0.1", port=1, called="NADI", calling="NADI-SEND")
    taken: list[Stored] = []

    with served(taken) as port:
        answers = list(send(replace(target, port=port), [gone, file]))

    assert answers == [
        Answer(None, "it can't be read, and was not sent: No such file or directory"),
        Answer(0, "stored"),
    ]


def test_the_doctor_asks_each_port_by_c_echo():
    with served([]) as port:
        site = load_site(FED.replace("11112", str(port)))
        ((name, is_well, says),) = echoes(site)
    ((_, is_away_well, why),) = echoes(site)

    assert (name, is_well, says) == ("pacs/dicom", True, f"NADI answers C-ECHO at 127.0.0.1:{port}")
    assert not is_away_well
    assert "refuses the connection: does it run" in why


def test_a_dry_run_says_what_a_route_makes_of_a_file(file: Path, tmp_path: Path):
    site = tmp_path / "site.yaml"
    site.write_text(FED)

    told = run(
        "route", "explain", "--route", "study", "--sample", file, "--site", site,
        "--data-dir", tmp_path / "none", "--json",
    )  # fmt: skip

    patient, study = json.loads(told)["resources"]
    assert (patient["resource"], study["patient"]) == (f"Patient/{PATIENT}",) * 2
    assert study["consent"]["permitted"]
    assert study["refusal"]["reason"] == "outside-intended-use"
    assert CANARY not in told


def test_a_dry_run_refuses_a_file_as_the_port_would(tmp_path: Path):
    site, path = tmp_path / "site.yaml", tmp_path / "film.dcm"
    site.write_text(FED)
    path.write_bytes(dicom_file(film(PatientID="")))

    told = run(
        "route", "explain", "--route", "study", "--sample", path, "--site", site,
        "--data-dir", tmp_path / "none", code=1,
    )  # fmt: skip

    assert "PatientID (0010,0020) is empty" in " ".join(told.split())
