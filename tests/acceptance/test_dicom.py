"""A CT and a film, sent by C-STORE to a real Orthanc and by it to Nadi, come back as Observations.

The other way too: an ImagingStudy names the images, and they are fetched from Orthanc by DICOMweb.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.dicom import FILM, SLICE, ct_slice, film, send, study_uid
from tests.orthanc import IS_HERE, MISSING, Orthanc, orthanc
from tests.people import Person, person
from tests.pictures import PNEUMONIA_MNIST, Pixels, gradient
from tests.running import RunningNadi, free_ports, push, push_chart, running_nadi, wait_until
from tests.toy_documents import DCM, imaging_study
from tests.toy_folders import write_models

Json = dict[str, Any]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not IS_HERE, reason=MISSING),
]

SITE = """
site: acceptance
systems:
  ehr:
    kind: fhir-rest
    base_url: http://127.0.0.1:${NADI_SANDBOX_PORT:-8090}/fhir
    dicomweb_url: DICOMWEB
    receive: [push]
  pacs:
    kind: dicom
    patients: {of: ehr, identifier: "https://hospital.example/mrn"}
    receive:
      - dicom: {port: 11112, callers: [ORTHANC, SCANNER], quiet_s: 1, slices: middle}
routes:
  film:
    source: ehr
    match: ImagingStudy.where(modality.where(code='DX').exists())
    consent: {purpose: TREAT, default: deny}
    model: toy-picture@1
    sink: {system: ehr, also: [provenance], refusals: observation}
  slice:
    source: ehr
    match: ImagingStudy.where(modality.where(code='CT').exists())
    consent: {purpose: TREAT, default: deny}
    model: toy-slice@1
    sink: {system: ehr, also: [provenance], refusals: observation}
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as started:
        yield started


@pytest.fixture(scope="module")
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def nadi(
    tmp_path_factory: pytest.TempPathFactory, archive: Orthanc, port: int
) -> Iterator[RunningNadi]:
    folder = tmp_path_factory.mktemp("dicom")
    models = models_in(folder / "models")
    with running_nadi(folder / "data", environment={"NADI_MODELS_DIR": str(models)}) as running:
        site = folder / "site.yaml"
        site.write_text(SITE.replace("11112", str(port)).replace("DICOMWEB", archive.dicomweb))
        running.nadi("site", "apply", str(site))
        wait_until(lambda: is_listening(running), within_s=60, what="the port listens")
        yield running


def models_in(folder: Path) -> Path:
    """Write a toy that reads films of the real size, and the same for CT slices."""
    write_models(folder)
    manifest = folder / "toy-picture" / "manifest.toml"
    text = manifest.read_text("utf-8").replace("1_000_000", "9_000_000")
    manifest.write_text(text.replace("2_000_000", "20_000_000"), "utf-8")
    shutil.copytree(folder / "toy-picture", folder / "toy-slice")
    slices = text.replace("toy-picture", "toy-slice").replace('["DX", "CR"]', '["CT"]')
    (folder / "toy-slice" / "manifest.toml").write_text(slices, "utf-8")
    return folder


def is_listening(nadi: RunningNadi) -> bool:
    found = nadi.rows("select value from listener_state where listener = 'pacs/dicom'")
    return any('"up"' in row["value"] for row in found)


def admitted(nadi: RunningNadi) -> Person:
    """Let the EHR have a patient with a number, and push her and her consent."""
    someone = person("dicom")
    number = {"system": "https://hospital.example/mrn", "value": f"MR-{someone.id}"}
    patient = {**someone.patient, "identifier": [number]}
    nadi.store_in_ehr(patient)
    push_chart(nadi, patient, someone.consent())
    return someone


def results(nadi: RunningNadi, someone: Person, count: int) -> list[Json]:
    wait_until(
        lambda: len(nadi.results_of(someone.id)) >= count, within_s=60, what="results are there"
    )
    nadi.settle()
    found = nadi.results_of(someone.id)
    assert len(found) == count
    return found


def values(found: list[Json]) -> list[float]:
    return sorted(each["valueQuantity"]["value"] for each in found)


def a_real_film() -> Pixels:
    """Give a child's film of the public set as large as a detector makes it, else a ramp."""
    if not PNEUMONIA_MNIST.exists():
        return gradient(*FILM, top=4095)
    with np.load(PNEUMONIA_MNIST) as images:
        small = np.asarray(images["test_images"][0], dtype=np.uint16) * 16
    return np.kron(small, np.ones((90, 108), dtype=np.uint16))


def test_a_ct_and_a_film_that_orthanc_forwards_come_back_as_observations(
    nadi: RunningNadi, archive: Orthanc, port: int
) -> None:
    someone = admitted(nadi)
    number, pixels = f"MR-{someone.id}", a_real_film()
    x_ray = film("forwarded", pixels=pixels, PatientID=number)
    slices = [ct_slice("scan", number=each, size=SLICE, PatientID=number) for each in range(1, 6)]

    answers = send(archive.dicom, x_ray, *slices, called="ORTHANC")
    assert [each.Status for each in answers] == [0] * 6
    archive.forward(port)

    found = results(nadi, someone, 2)
    middle = slices[2].pixel_array
    expected = [float(pixels.mean() / 4095), float((middle.mean() + 32768) / 65535)]
    assert values(found) == pytest.approx(sorted(expected), abs=2e-3)
    assert {each["meta"]["security"][0]["code"] for each in found} == {"AIAST"}

    archive.forward(port)
    results(nadi, someone, 2)


@pytest.mark.parametrize("is_named", [True, False], ids=["named", "listed"])
def test_a_film_of_an_imaging_study_is_found_in_orthanc_and_fetched(
    nadi: RunningNadi, archive: Orthanc, is_named: bool
) -> None:
    someone = admitted(nadi)
    sent = film(f"fetched-{is_named}", PatientID=f"MR-{someone.id}")
    send(archive.dicom, sent, called="ORTHANC")
    names = [("DX", sent.SOPInstanceUID)] if is_named else []
    study = imaging_study(*names, study=sent.StudyInstanceUID)
    for series in study.get("series", ()):
        series["uid"] = sent.SeriesInstanceUID
    told = {
        "modality": [{"system": DCM, "code": "DX"}],
        "subject": {"reference": someone.reference},
    }
    named = {**study, **told, "id": someone.id, "started": someone.at.isoformat()}

    with nadi.client() as client:
        push(client, named)

    (result,) = results(nadi, someone, 1)
    assert result["valueQuantity"]["value"] == pytest.approx(
        float(sent.pixel_array.mean() / 4095), abs=2e-3
    )


def test_a_film_that_came_before_the_listener_was_killed_is_handed_over_once(
    nadi: RunningNadi, port: int
) -> None:
    someone = admitted(nadi)
    (answer,) = send(port, film("killed", PatientID=f"MR-{someone.id}"))
    assert answer.Status == 0

    nadi.kill("dicom")

    (result,) = results(nadi, someone, 1)
    (study,) = nadi.rows(
        "select count(*) as n from jobs where route = 'film' and event_id = "
        "(select max(event_id) from jobs)"
    )
    assert study["n"] == 1
    assert result["status"] == "preliminary"


def test_the_doctor_hears_the_port_answer(nadi: RunningNadi, port: int) -> None:
    told = " ".join(nadi.nadi("doctor", check=False).stdout.split())

    assert f"C-ECHO pacs/dicom NADI answers C-ECHO at 127.0.0.1:{port}" in told


@pytest.mark.sqlite
def test_nothing_of_an_image_lies_in_the_clear(nadi: RunningNadi) -> None:
    marks = [b"Canary^Picture", study_uid("killed").encode(), b"DICM"]
    spool = [path for path in (nadi.folder / "dicom").rglob("*") if path.is_file()]
    logs = list((nadi.folder / "logs").glob("*.log"))

    assert spool
    assert logs
    for path in [*spool, *logs, nadi.folder / "nadi.db"]:
        content = path.read_bytes()
        assert [mark for mark in marks if mark in content] == [], path
