"""`nadi route explain` for images and notes: what is found, what the EHR would be asked for."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.explanation import Explainer, Explanation
from gateway.cli.sample import read_sample
from models.registry import InstalledModel, load_installed
from tests.factories import bundle
from tests.hospital import Hospital, Json, consent_of
from tests.notes import NOTE
from tests.pcf import labels
from tests.pictures import dicom, gradient
from tests.toy_documents import (
    ToyPictureModel,
    attachment,
    binary,
    document,
    imaging_study,
    media,
    report,
    site_of,
)
from tests.toy_folders import write_models

XRAY = dicom(gradient())
POINTER = {"contentType": "application/dicom", "url": "Binary/b1"}
URN = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, InstalledModel]:
    return load_installed(write_models(tmp_path_factory.mktemp("models")))


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path, site=site_of("Media", "toy-picture"), model=ToyPictureModel())
    yield made
    made.close()


def explain(
    tmp_path: Path, model: InstalledModel, sample: Json, kind: str, hospital: Hospital | None = None
) -> Explanation:
    """Explain the one resource of a kind in a sample."""
    site = site_of(kind, model.name)
    file = tmp_path / "sample.json"
    file.write_text(json.dumps(sample))
    store = hospital.store if hospital else None
    explainer = Explainer(site, site.routes[0], model, store)
    read = read_sample(file.read_bytes(), base_url="http://ehr.test/fhir")
    (found,) = [each for each in explainer.explain(read) if each.why_not is None]
    return found


def test_an_image_in_the_resource_is_described_and_answered(
    tmp_path: Path, models: dict[str, InstalledModel]
) -> None:
    inline = media(attachment(XRAY, "application/dicom"))

    found = explain(tmp_path, models["toy-picture"], inline, "Media")

    assert [(each.id, each.note) for each in found.inputs] == [
        ("image", "DICOM, DX, CHEST, 40 x 32 pixels")
    ]
    assert found.result is not None
    assert found.result["valueQuantity"]["value"] == pytest.approx(
        gradient().mean() / 255, abs=2e-3
    )
    assert found.result["effectiveDateTime"] == inline["createdDateTime"]


def test_what_the_sample_brings_along_is_found_by_its_id(
    tmp_path: Path, models: dict[str, InstalledModel]
) -> None:
    sample = bundle(media(POINTER), binary("b1", XRAY, "application/dicom"))

    found = explain(tmp_path, models["toy-picture"], sample, "Media")

    assert found.result is not None
    assert found.inputs[0].sources == ("Media/m1/_history/1", "Binary/b1")


def test_what_the_sample_brings_along_is_found_by_its_urn(
    tmp_path: Path, models: dict[str, InstalledModel]
) -> None:
    note = {"resourceType": "Binary", **attachment(NOTE.encode(), "text/plain")}
    entries = [
        {"resource": document({"contentType": "text/plain", "url": URN})},
        {"fullUrl": URN, "resource": note},
    ]
    sample = {"resourceType": "Bundle", "type": "collection", "entry": entries}

    found = explain(tmp_path, models["toy-note"], sample, "DocumentReference")

    assert [(each.id, each.note) for each in found.inputs] == [("text", f"{len(NOTE)} characters")]
    assert found.result is not None


@pytest.mark.parametrize(
    ("trigger", "asked"),
    [
        (media(POINTER), "Binary/b1"),
        (imaging_study(("DX", "1.7")), "studies/1.2.3/series/1.2.3.1/instances/1.7"),
    ],
)
def test_what_is_not_at_hand_is_said_and_not_asked_for(
    tmp_path: Path, models: dict[str, InstalledModel], trigger: Json, asked: str
) -> None:
    found = explain(tmp_path, models["toy-picture"], trigger, trigger["resourceType"])

    assert found.not_here == (asked,)
    assert found.result is None
    assert found.refusal is None
    assert found.notes == ["The EHR would be asked for it: put it into the sample to see more."]


def test_a_refusal_is_told_with_its_reason(
    tmp_path: Path, models: dict[str, InstalledModel]
) -> None:
    knee = media(attachment(dicom(gradient(), BodyPartExamined="KNEE"), "application/dicom"))

    found = explain(tmp_path, models["toy-picture"], knee, "Media")

    assert found.refusal is not None
    assert found.refusal.reason == "wrong-body-part"
    assert found.result is None


@pytest.mark.parametrize("kind", ["permit", "deny"])
def test_what_is_on_record_is_used_only_with_consent(
    tmp_path: Path, models: dict[str, InstalledModel], hospital: Hospital, kind: str
) -> None:
    hospital.admit_patient("p1", kind)
    hospital.push(binary("b1", XRAY, "application/dicom", of="p1"))

    found = explain(tmp_path, models["toy-picture"], media(POINTER), "Media", hospital)

    assert (found.result is not None) == (kind == "permit")
    assert found.not_here == (() if kind == "permit" else ("Binary/b1",))


def test_a_binary_of_another_patient_is_never_used(
    tmp_path: Path, models: dict[str, InstalledModel], hospital: Hospital
) -> None:
    hospital.admit_patient()
    hospital.push(consent_of("p2"), binary("b1", XRAY, "application/dicom", of="p2"))

    found = explain(tmp_path, models["toy-picture"], media(POINTER), "Media", hospital)

    assert found.not_here == ("Binary/b1",)


@pytest.mark.parametrize(("code", "refused"), [("N", None), ("R", "masked")])
def test_an_image_that_the_consent_hides_is_not_read(
    tmp_path: Path, models: dict[str, InstalledModel], code: str, refused: str | None
) -> None:
    given = consent_of()
    limited = {**given, "provision": {**given["provision"], "securityLabel": labels("N")}}
    about = report(media=[{"link": {"reference": "Media/m1"}}])
    image = media(attachment(XRAY, "application/dicom"))
    sample = bundle(limited, labelled(about, "N"), labelled(image, code))

    found = explain(tmp_path, models["toy-picture"], sample, "DiagnosticReport")

    assert found.consent is not None
    assert found.consent.is_permitted
    assert (found.refusal.reason if found.refusal else None) == refused
    assert (found.result is None) == (refused is not None)


def labelled(content: Json, code: str) -> Json:
    return {**content, "meta": {**content.get("meta", {}), "security": labels(code)}}
