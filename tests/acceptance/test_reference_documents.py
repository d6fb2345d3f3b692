"""The reference models of images and notes through the whole of Nadi, as `nadi up` runs them.

What comes back in the stand-in EHR is what the model says when it is run directly on the pixels and
words; a patient or image that it was not made for is refused. Public images and texts; made-up
patients.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.images import decode, to_tensors
from models.registry import InstalledModel, load_installed
from models.runtime import Runtime
from models.tensors import stack
from models.texts import TextEncoder
from tests.people import Person, person
from tests.pictures import PNEUMONIA_MNIST, dicom, png
from tests.running import RunningNadi, push, push_chart, running_nadi
from tests.toy_documents import attachment, document, media
from workers.features import Features, extract

Json = dict[str, Any]

X_RAY, NOTE, LABS = "chest-xray-pneumonia", "note-specialty", "ckd-risk"
SITE = """
site: acceptance
systems:
  ehr:
    kind: fhir-rest
    base_url: http://127.0.0.1:${NADI_SANDBOX_PORT:-8090}/fhir
    receive: [push]
routes:
  x-ray:
    source: ehr
    match: Media.modality.coding.where(code='DX')
    consent: {purpose: TREAT, default: deny}
    model: chest-xray-pneumonia@1
    sink: {system: ehr, also: [provenance]}
  referral:
    source: ehr
    match: DocumentReference.where(status='current')
    consent: {purpose: TREAT, default: deny}
    model: note-specialty@1
    sink: {system: ehr, also: [provenance]}
  labs:
    source: ehr
    match: Observation.code.coding.where(system='http://loinc.org' and code='2160-0')
    consent: {purpose: TREAT, default: deny}
    model: ckd-risk@1
    sink: {system: ehr, also: [provenance]}
"""
REFERRALS = (
    "Chest pain on exertion, positive treadmill test; please consider cardiac catheterization.",
    "Referred for knee pain after a fall: MRI shows a torn meniscus; arthroscopy is advised.",
    "Burning on urination, hematuria and a ureteral stone on ultrasound; cystoscopy requested.",
)
INSTALLED = load_installed()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not {X_RAY, NOTE, LABS} <= INSTALLED.keys(),
        reason="the reference models are not in this tree",
    ),
]


@pytest.fixture(scope="module")
def nadi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNadi]:
    folder = tmp_path_factory.mktemp("reference")
    with running_nadi(folder / "data") as running:
        site = folder / "site.yaml"
        site.write_text(SITE)
        running.nadi("site", "apply", str(site))
        yield running


@pytest.fixture(scope="module")
def films() -> np.ndarray[Any, Any]:
    if not Path(PNEUMONIA_MNIST).exists():
        pytest.skip("the public X-rays are not at hand")
    with np.load(PNEUMONIA_MNIST) as images:
        return np.asarray(images["test_images"][:6])


def admitted(nadi: RunningNadi, *, birth_year: int, kind: str = "permit") -> Person:
    someone = person("film")
    born = {**someone.patient, "birthDate": f"{birth_year}-06-01"}
    push_chart(nadi, born, someone.consent(kind))
    return someone


def delivered(nadi: RunningNadi, someone: Person, trigger: Json) -> Json:
    """Push a resource and give the one result that came back, with its audit complete."""
    with nadi.client() as client:
        task = push(client, about(someone, trigger))
    nadi.wait_for_status(task, "delivered")
    (result,) = nadi.results_of(someone.id)
    assert result["status"] == "preliminary"
    assert "Contraindications: " in result["text"]["div"]
    steps = _steps(nadi, task)
    assert steps[0] == "receive"
    assert steps.count("consent") == 3
    assert {"infer", "deliver"} <= set(steps)
    return result


def _steps(nadi: RunningNadi, task: str) -> list[str]:
    (job,) = nadi.jobs_of(task)
    query = "select event from audit_events where job_id = :id or event_id = :event order by seq"
    return [row["event"] for row in nadi.rows(query, id=job["id"], event=task)]


def about(someone: Person, resource: Json) -> Json:
    when = "date" if "date" in resource else "createdDateTime"
    name = f"{someone.id}-{resource['id']}"
    subject = {"reference": someone.reference}
    return {**resource, when: someone.at.isoformat(), "id": name, "subject": subject}


def direct(model: InstalledModel, case: Any) -> list[float]:
    """Run a model on one case without any of Nadi's workers."""
    found: list[float] = Runtime(model).predict(stack([case]))[0].tolist()
    return found


def test_every_film_gets_the_probability_that_the_model_gives_it(
    nadi: RunningNadi, films: np.ndarray[Any, Any]
) -> None:
    model = INSTALLED[X_RAY]
    assert model.manifest.image is not None
    year = person("film").at.year

    for film in films:
        content = attachment(dicom(film), "application/dicom")
        someone = admitted(nadi, birth_year=year - 3)

        result = delivered(nadi, someone, media(content))

        picture = decode(png(film), "image/png", model.manifest.image)
        (expected,) = direct(model, to_tensors(picture, model.manifest.image))
        assert result["valueQuantity"]["value"] == pytest.approx(expected, abs=1e-5)


def test_a_film_of_an_adult_is_refused(nadi: RunningNadi, films: np.ndarray[Any, Any]) -> None:
    someone = admitted(nadi, birth_year=1961)
    trigger = about(someone, media(attachment(dicom(films[0]), "application/dicom")))

    with nadi.client() as client:
        task = push(client, trigger)

    nadi.wait_for_status(task, "outside-intended-use")
    assert nadi.results_of(someone.id) == []


def test_a_lateral_view_is_refused(nadi: RunningNadi, films: np.ndarray[Any, Any]) -> None:
    someone = admitted(nadi, birth_year=person("film").at.year - 3)
    lateral = dicom(films[0], ViewPosition="LL")

    with nadi.client() as client:
        task = push(client, about(someone, media(attachment(lateral, "application/dicom"))))

    nadi.wait_for_status(task, "wrong-view")


def test_a_ramp_of_greys_that_is_called_a_chest_film_is_refused(nadi: RunningNadi) -> None:
    someone = admitted(nadi, birth_year=person("film").at.year - 3)
    ramp = dicom(np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (64, 1)))

    with nadi.client() as client:
        task = push(client, about(someone, media(attachment(ramp, "application/dicom"))))

    nadi.wait_for_status(task, "image-implausible")


@pytest.mark.parametrize("text", REFERRALS, ids=["heart", "knee", "stone"])
def test_every_referral_gets_the_specialty_that_the_model_gives_it(
    nadi: RunningNadi, text: str
) -> None:
    model = INSTALLED[NOTE]
    assert model.manifest.text is not None
    someone = admitted(nadi, birth_year=1961)

    result = delivered(nadi, someone, document(attachment(text.encode(), "text/plain")))

    encoder = TextEncoder(model.tokenizer() or b"", model.manifest.text)
    answer = model.manifest.outputs[0].read(direct(model, encoder.encode(text)))
    (coding,) = result["valueCodeableConcept"]["coding"] if answer.chosen else [None]
    assert (coding and coding["code"]) == (answer.chosen and answer.chosen.code)
    assert text[:30] not in result["text"]["div"]
    assert "Not for emergencies: urgency is not read." in result["text"]["div"]


def test_a_lab_panel_gets_the_probability_that_the_model_gives_it(nadi: RunningNadi) -> None:
    someone = person("panel")
    push_chart(nadi, *someone.chart(someone.consent()))
    trigger = someone.creatinine()
    manifest = INSTALLED[LABS].manifest

    with nadi.client() as client:
        task = push(client, trigger)
    nadi.wait_for_status(task, "delivered")

    (result,) = nadi.results_of(someone.id)
    read = extract(manifest, [*someone.labs, trigger], patient=someone.patient, at=someone.at)
    assert isinstance(read, Features)
    (expected,) = direct(INSTALLED[LABS], read.tensors)
    assert result["valueQuantity"]["value"] == pytest.approx(expected, abs=1e-6)
    assert _steps(nadi, task).count("consent") == 3
    assert "Contraindications: Acute kidney injury" in result["text"]["div"]


def test_without_consent_none_of_the_three_is_given_to_its_model(
    nadi: RunningNadi, films: np.ndarray[Any, Any]
) -> None:
    someone = admitted(nadi, birth_year=person("film").at.year - 3, kind="deny")
    film = media(attachment(dicom(films[0]), "application/dicom"))
    note = document(attachment(REFERRALS[0].encode(), "text/plain"))

    with nadi.client() as client:
        tasks = [push(client, about(someone, each)) for each in (film, note)]
        tasks.append(push(client, someone.creatinine()))
    for task in tasks:
        nadi.wait_for_status(task, "consent-denied")

    assert nadi.results_of(someone.id) == []
    assert all("infer" not in _steps(nadi, task) for task in tasks)


def test_a_png_film_whose_media_says_its_view_is_answered_and_without_it_refused(
    nadi: RunningNadi, films: np.ndarray[Any, Any]
) -> None:
    someone = admitted(nadi, birth_year=person("film").at.year - 3)
    snomed = "http://snomed.info/sct"
    site = {"coding": [{"system": snomed, "code": "51185008"}]}
    view = {"coding": [{"system": snomed, "code": "272479007"}]}
    film = media(attachment(png(films[0]), "image/png"), bodySite=site)

    with nadi.client() as client:
        task = push(client, about(someone, {**film, "id": "unsaid"}))
    nadi.wait_for_status(task, "wrong-view")

    assert "valueQuantity" in delivered(nadi, someone, {**film, "view": view})


def test_the_audit_of_the_three_is_whole(nadi: RunningNadi) -> None:
    nadi.wait_until_integrated()

    assert nadi.nadi("audit", "verify", check=False).returncode == 0
    assert nadi.duplicates() == 0
