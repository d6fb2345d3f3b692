"""An X-ray, a referral note and a lab panel, pushed as FHIR, come back as Observations in the EHR.

The whole of Nadi runs as `nadi up` runs it: consent is asked, everything is audited, the models are
real ONNX graphs in folders of their own. What each image or note must answer is known beforehand.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.notes import NOTE
from tests.people import Person, person
from tests.pictures import CANARY, PNEUMONIA_MNIST, dicom, gradient, png
from tests.running import RunningNadi, push, push_chart, running_nadi, wait_until
from tests.toy_documents import (
    attachment,
    composition,
    document,
    imaging_study,
    media,
    section,
    sha1,
)
from tests.toy_folders import write_models

Json = dict[str, Any]

SITE = """
site: acceptance
systems:
  ehr:
    kind: fhir-rest
    base_url: http://127.0.0.1:${NADI_SANDBOX_PORT:-8090}/fhir
    dicomweb_url: http://127.0.0.1:${NADI_SANDBOX_PORT:-8090}/dicomweb
    auth: {kind: none}
    receive: [push]
routes:
  x-ray:
    source: ehr
    match: Media.modality.coding.where(code='DX')
    consent: {purpose: TREAT, default: deny}
    model: toy-picture@1
    sink: {system: ehr, also: [provenance], refusals: observation}
  study:
    source: ehr
    match: ImagingStudy.where(status='available')
    consent: {purpose: TREAT, default: deny}
    model: toy-picture@1
    sink: {system: ehr, also: [provenance]}
  referral:
    source: ehr
    match: DocumentReference.where(status='current')
    consent: {purpose: TREAT, default: deny}
    model: toy-note@1
    sink: {system: ehr, also: [provenance], refusals: observation}
  letter:
    source: ehr
    match: Composition.where(status='final')
    consent: {purpose: TREAT, default: deny}
    model: toy-note@1
    sink: {system: ehr, also: [provenance]}
  labs:
    source: ehr
    match: Observation.code.coding.where(system='http://loinc.org' and code='2160-0')
    consent: {purpose: TREAT, default: deny}
    model: ckd-risk@1
    sink: {system: ehr, also: [provenance]}
"""
PAIN_IN_NOTE = 1 / 19
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def nadi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNadi]:
    folder = tmp_path_factory.mktemp("acceptance")
    models = write_models(folder / "models", with_reference=["ckd-risk"])
    environment = {"NADI_MODELS_DIR": str(models)}
    with running_nadi(folder / "data", environment=environment) as running:
        site = folder / "site.yaml"
        site.write_text(SITE)
        running.nadi("site", "apply", str(site))
        yield running


@pytest.fixture(scope="module")
def x_rays() -> np.ndarray[Any, Any]:
    """Some children's X-rays of the public set, or made-up pictures where that is not at hand."""
    if PNEUMONIA_MNIST.exists():
        with np.load(PNEUMONIA_MNIST) as images:
            return np.asarray(images["test_images"][:4])
    return np.stack([gradient(28, 28)[:, :: 1 - 2 * (turn % 2)] for turn in range(4)])


def about(someone: Person, resource: Json) -> Json:
    """Give a resource as one of a patient, with an id of its own."""
    name = f"{someone.id}-{resource['id']}"
    moment = {"createdDateTime", "date", "started"} & resource.keys()
    times = dict.fromkeys(moment, someone.at.isoformat())
    return {**resource, **times, "id": name, "subject": {"reference": someone.reference}}


def admitted(nadi: RunningNadi, *, kind: str = "permit") -> Person:
    """Push a patient with a consent."""
    someone = person("document")
    push_chart(nadi, someone.patient, someone.consent(kind))
    return someone


def answered(nadi: RunningNadi, someone: Person, trigger: Json) -> Json:
    """Push a resource and give the one result that came back, with its audit complete."""
    with nadi.client() as client:
        task = push(client, trigger)
    nadi.wait_for_status(task, "delivered")
    (result,) = nadi.results_of(someone.id)
    assert result["status"] == "preliminary"
    assert result["meta"]["security"][0]["code"] == "AIAST"
    steps = _steps(nadi, someone, task)
    assert steps[0] == "receive"
    assert steps.count("consent") == 3
    assert {"infer", "deliver"} <= set(steps)
    return result


def _steps(nadi: RunningNadi, someone: Person, task: str) -> list[str]:
    (job,) = nadi.jobs_of(task)
    query = "select event from audit_events where job_id = :id or event_id = :event order by seq"
    found = [row["event"] for row in nadi.rows(query, id=job["id"], event=task)]
    assert job["patient_key"]
    assert someone.id not in str(job)
    return found


def mean(pixels: np.ndarray[Any, Any]) -> float:
    return float(pixels.mean() / 255)


def test_an_x_ray_inside_a_media_comes_back_as_an_observation(
    nadi: RunningNadi, x_rays: np.ndarray[Any, Any]
) -> None:
    someone = admitted(nadi)
    content = dicom(x_rays[0])
    inline = attachment(
        content,
        "application/dicom",
        hash=sha1(content),
        size=len(content),
        title="attachment title",
    )
    trigger = about(someone, media(inline))

    result = answered(nadi, someone, trigger)

    assert result["valueQuantity"]["value"] == pytest.approx(mean(x_rays[0]), abs=1e-5)
    assert result["effectiveDateTime"] == trigger["createdDateTime"]
    assert result["derivedFrom"] == [{"reference": f"Media/{trigger['id']}/_history/1"}]
    assert "Chest X-ray" in result["text"]["div"]


def test_an_x_ray_of_an_imaging_study_is_fetched_from_the_archive(
    nadi: RunningNadi, x_rays: np.ndarray[Any, Any]
) -> None:
    someone = admitted(nadi)
    uid = "1.2.826.0.1.3680043.8.498.7"
    study = "1.2.826.0.1.3680043.8.498"
    content = dicom(255 - x_rays[1], photometric="MONOCHROME1", SOPInstanceUID=uid)
    place = f"studies/{study}/series/{study}.1/instances/{uid}"
    httpx.put(f"{nadi.ehr_base}/dicomweb/{place}", content=content).raise_for_status()

    result = answered(nadi, someone, about(someone, imaging_study(("DX", uid), study=study)))

    assert result["valueQuantity"]["value"] == pytest.approx(mean(x_rays[1]), abs=1e-5)
    assert result["derivedFrom"][0]["reference"].startswith(f"ImagingStudy/{someone.id}")


def test_an_x_ray_that_a_media_points_at_is_fetched_from_the_ehr(
    nadi: RunningNadi, x_rays: np.ndarray[Any, Any]
) -> None:
    someone = admitted(nadi)
    url = f"{nadi.ehr_base}/fhir/Binary/{someone.id}"
    headers = {"Content-Type": "application/dicom", "X-Security-Context": someone.reference}
    httpx.put(url, content=dicom(x_rays[2]), headers=headers).raise_for_status()

    result = answered(
        nadi, someone, about(someone, media({"contentType": "application/dicom", "url": url}))
    )

    assert result["valueQuantity"]["value"] == pytest.approx(mean(x_rays[2]), abs=1e-5)
    (provenance,) = nadi.ehr_search(f"Provenance?target=Observation/{result['id']}")
    sources = [each["what"].get("reference") for each in provenance["entity"]]
    assert f"Binary/{someone.id}" in sources


def test_a_referral_note_comes_back_as_an_observation(nadi: RunningNadi) -> None:
    someone = admitted(nadi)
    trigger = about(someone, document(attachment(NOTE.encode(), "text/plain; charset=utf-8")))

    result = answered(nadi, someone, trigger)

    assert result["valueQuantity"]["value"] == pytest.approx(PAIN_IN_NOTE, abs=1e-5)
    assert "Referral note" in result["text"]["div"]
    assert NOTE[:20] not in result["text"]["div"]


def test_a_note_whose_binary_came_before_is_found_without_the_ehr(nadi: RunningNadi) -> None:
    someone = admitted(nadi)
    binary = {"resourceType": "Binary", "id": someone.id}
    binary |= attachment(f"<p>{NOTE}</p>".encode(), "text/html")
    push_chart(nadi, {**binary, "securityContext": {"reference": someone.reference}})
    pointer = {"contentType": "text/html", "url": f"Binary/{someone.id}"}

    result = answered(nadi, someone, about(someone, document(pointer)))

    assert result["valueQuantity"]["value"] == pytest.approx(PAIN_IN_NOTE, abs=1e-5)


def test_the_sections_of_a_letter_come_back_as_an_observation(nadi: RunningNadi) -> None:
    someone = admitted(nadi)
    letter = composition(section(f"<p>{NOTE[:33]}</p>", inside=(section(f"<p>{NOTE[33:]}</p>"),)))

    result = answered(nadi, someone, about(someone, letter))

    assert result["valueQuantity"]["value"] == pytest.approx(PAIN_IN_NOTE, abs=1e-5)


def test_a_lab_panel_comes_back_as_an_observation(nadi: RunningNadi) -> None:
    someone = person("panel")
    push_chart(nadi, *someone.chart(someone.consent()))

    result = answered(nadi, someone, someone.creatinine())

    assert 0 <= result["valueQuantity"]["value"] <= 1
    assert len(result["derivedFrom"]) == 10


def test_without_consent_no_image_is_looked_at(nadi: RunningNadi) -> None:
    someone = admitted(nadi, kind="deny")
    before = nadi.rows("select count(*) as n from audit_events where event = 'fetch'")[0]["n"]
    trigger = about(someone, media({"contentType": "application/dicom", "url": "Binary/none"}))

    with nadi.client() as client:
        task = push(client, trigger)
    nadi.wait_for_status(task, "consent-denied")

    assert nadi.results_of(someone.id) == []
    after = nadi.rows("select count(*) as n from audit_events where event = 'fetch'")[0]["n"]
    assert after == before


@pytest.mark.parametrize(
    ("trigger", "status"),
    [
        (media(attachment(png(gradient()[:1, :1]), "image/png")), "image-blank"),
        (
            media(attachment(dicom(gradient(), Modality="MR"), "application/dicom")),
            "wrong-modality",
        ),
        (
            media(attachment(dicom(gradient(), BodyPartExamined="KNEE"), "application/dicom")),
            "wrong-body-part",
        ),
        (media(attachment(dicom(gradient())[:500], "application/dicom")), "image-unreadable"),
        (document(attachment(b" \n ", "text/plain")), "text-missing"),
        (document(attachment("सीने में दर्द, दो दिन से".encode(), "text/plain")), "text-foreign"),
    ],
    ids=["1x1", "mr", "knee", "cut", "empty", "foreign"],
)
def test_what_the_model_was_not_made_for_is_refused_with_a_reason_in_the_chart(
    nadi: RunningNadi, trigger: Json, status: str
) -> None:
    someone = admitted(nadi)

    with nadi.client() as client:
        task = push(client, about(someone, trigger))
    nadi.wait_for_status(task, status)
    wait_until(lambda: bool(nadi.results_of(someone.id)), within_s=60, what="the refusal is told")

    (told,) = nadi.results_of(someone.id)
    assert "valueQuantity" not in told
    assert told["dataAbsentReason"]["text"] == nadi.jobs_of(task)[0]["reason"]


def test_a_dry_run_tells_what_it_found_and_nothing_of_what_is_on_it(
    nadi: RunningNadi, tmp_path: Path
) -> None:
    someone = admitted(nadi)
    sample = tmp_path / "sample.json"
    trigger = about(someone, media(attachment(dicom(gradient()), "application/dicom")))
    sample.write_bytes(httpx.Request("POST", "http://x", json=trigger).read())

    told = nadi.nadi("route", "explain", "--route", "x-ray", "--sample", str(sample)).stdout

    assert "DICOM, DX, CHEST, 40 x 32 pixels" in told
    assert CANARY not in told
    assert '"valueQuantity"' in told


@pytest.mark.sqlite
def test_nothing_of_an_image_or_a_note_is_in_the_clear_and_the_log_is_whole(
    nadi: RunningNadi,
) -> None:
    nadi.wait_until_integrated()
    words = NOTE[10:40].encode()
    marks = (CANARY.encode(), words, base64.b64encode(NOTE.encode())[:40], b"attachment title")
    files = [path for path in nadi.folder.rglob("*") if path.is_file()]

    # The journal is the stand-in EHR's own memory.
    for path in [*(each for each in files if each.name != "sandbox-ehr.journal"), nadi.log]:
        content = path.read_bytes()
        assert [mark for mark in marks if mark in content] == [], path
    assert {"nadi.db", "infer.log"} <= {path.name for path in files}
    assert nadi.nadi("audit", "verify", check=False).returncode == 0
    assert nadi.duplicates() == 0
