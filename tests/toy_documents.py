"""Toy models of images and of texts for tests of the workers, and the resources they read.

The picture model answers the mean grey level; the note model answers the share of the note's tokens
that are "pain". Both are exact, so that a test can tell what the model was given.
"""

import base64
import hashlib
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from adapters.site import Site, load_site
from gateway.core.findings import RuntimeFacts
from models.manifest import parse
from models.texts import TextEncoder
from tests.hospital import DIGEST, NOW, ToyModel
from tests.notes import word_tokenizer

Json = dict[str, Any]

DCM = "http://dicom.nema.org/resources/ontology/DCM"
SNOMED = "http://snomed.info/sct"
THORAX = "51185008"
PAIN = 5  # the number of "pain" in `word_tokenizer`

_HEAD = """
manifest_version = 1
name = "NAME"
version = "1.0.0"
title = "Toy finding"
intended_use = "Tests."
not_for = "Patients."
demonstration_only = true
manufacturer = "Nadi"
licence = "Apache-2.0"
card = "card.md"
golden = "golden.json"

[weights]
file = "model.onnx"
sha256 = "WEIGHTS"
format = "onnx-fp32"
tolerance = 0.001
output_name = "y"

[[outputs]]
name = "finding"
column = 0
code = {system = "https://nadi.health/fhir/sid/toy", code = "toy", display = "Toy finding"}
unit = "1"
range = [0.0, 1.0]
summary = "Toy finding {percent} % ({label})."

[[outputs.bands]]
at_least = 0.0
label = "low"
advice = "None."
"""
_CHILD = """
[[inputs]]
id = "age"
label = "Age"
source = "patient-age"
unit = "a"
plausible = [0, 130]
intended = [0, 17]
missing = "refuse"
"""
_IMAGE = f"""
[image]
label = "Chest X-ray"
input_name = "image"
height = 28
width = 28
modalities = ["DX", "CR"]
body_parts = ["CHEST"]
body_sites = [{{system = "{SNOMED}", code = "{THORAX}"}}]
max_bytes = 2_000_000
max_pixels = 1_000_000
"""
_TEXT = """
[text]
label = "Referral note"
ids_name = "ids"
mask_name = "mask"
tokenizer = "tokenizer.json"
tokenizer_sha256 = "TOKENIZER"
max_tokens = 64
languages = ["en"]
max_characters = 5000
sections = SECTIONS
"""
TOKENIZER = word_tokenizer()


def image_manifest(*, weights: str = "0" * 64, is_for_children: bool = False) -> str:
    """The manifest of the picture model."""
    guard = _CHILD if is_for_children else ""
    return _named("toy-picture", weights) + guard + _IMAGE


def text_manifest(*, weights: str = "0" * 64, sections: str = "[]") -> str:
    """The manifest of the note model."""
    digest = hashlib.sha256(TOKENIZER).hexdigest()
    text = _TEXT.replace("TOKENIZER", digest).replace("SECTIONS", sections)
    return _named("toy-note", weights) + text


def site_of(resource_type: str, model: str) -> Site:
    """A site whose route looks at every resource of one type."""
    return load_site(
        f"""
site: test-hospital
systems:
  ehr:
    kind: fhir-rest
    base_url: http://ehr.test/fhir
    dicomweb_url: http://ehr.test/dicom-web
routes:
  toy:
    source: ehr
    match: {resource_type}
    consent: {{purpose: TREAT, default: deny}}
    model: {model}@1
    sink: {{system: ehr, also: [provenance], refusals: observation}}
""",
        version=1,
    )


class ToyPictureModel(ToyModel):
    """Answers the mean of the pixels."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.manifest = parse(image_manifest(**changes))
        self.facts = RuntimeFacts(model_digest=DIGEST, runtime="toy 1", kernel_class="none")

    def predict(self, tensors: Any) -> Any:
        batch = tensors["image"]
        self.batches.append(len(batch))
        return batch.mean(axis=(1, 2, 3))[:, None].astype(np.float32)


class ToyNoteModel(ToyModel):
    """Answers the share of tokens that are "pain"; tokens beyond the mask don't count."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.manifest = parse(text_manifest(**changes))
        assert self.manifest.text is not None
        self.encoder = TextEncoder(TOKENIZER, self.manifest.text)

    def predict(self, tensors: Any) -> Any:
        self.batches.append(len(tensors["ids"]))
        is_pain = (tensors["ids"] == PAIN) * tensors["mask"]
        return (is_pain.sum(axis=1) / tensors["mask"].sum(axis=1))[:, None].astype(np.float32)


def _named(name: str, weights: str) -> str:
    return _HEAD.replace("NAME", name).replace("WEIGHTS", weights)


# --- resources ------------------------------------------------------------------------------


def attachment(content: bytes, content_type: str, **changed: Any) -> Json:
    """Content inline; fields can be changed, and left out by None."""
    told = {
        "contentType": content_type,
        "data": base64.b64encode(content).decode(),
        **changed,
    }
    return {name: value for name, value in told.items() if value is not None}


def sha1(content: bytes) -> str:
    """The hash of an attachment."""
    return base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()


def media(content: Json, *, modality: str | None = "DX", **changed: Any) -> Json:
    """A photograph or X-ray."""
    told: Json = _resource("Media", "m1", "completed", content=content)
    told["createdDateTime"] = (NOW - timedelta(hours=1)).isoformat()
    if modality:
        told["modality"] = {"coding": [{"system": DCM, "code": modality}]}
    return {**told, **changed}


def document(*contents: Json, **changed: Any) -> Json:
    """A DocumentReference; every content is another format of the same."""
    contents_ = [{"attachment": each} for each in contents]
    return _resource(
        "DocumentReference", "d1", "current",
        content=contents_, date=(NOW - timedelta(hours=1)).isoformat(), **changed,
    )  # fmt: skip


def binary(name: str, content: bytes, content_type: str, *, of: str | None = None) -> Json:
    """A Binary, of a patient or of nobody."""
    told = {"resourceType": "Binary", "id": name, **attachment(content, content_type)}
    return {**told, "securityContext": {"reference": f"Patient/{of}"}} if of else told


def imaging_study(*instances: tuple[str, str], study: str = "1.2.3", **changed: Any) -> Json:
    """An ImagingStudy; for each instance its modality and UID, in a series of its own."""
    series = [
        {
            "uid": f"{study}.{number}",
            "modality": {"system": DCM, "code": modality},
            "bodySite": {"system": SNOMED, "code": THORAX},
            "instance": [{"uid": uid, "sopClass": {"system": "urn:ietf:rfc:3986", "code": "x"}}],
        }
        for number, (modality, uid) in enumerate(instances, start=1)
    ]
    return _resource(
        "ImagingStudy", "s1", "available",
        started=(NOW - timedelta(hours=1)).isoformat(), **({"series": series} if series else {}),
        identifier=[{"system": "urn:dicom:uid", "value": f"urn:oid:{study}"}], **changed,
    )  # fmt: skip


def report(**changed: Any) -> Json:
    """A DiagnosticReport."""
    return _resource(
        "DiagnosticReport", "r1", "final",
        code={"text": "report"}, effectiveDateTime=(NOW - timedelta(hours=1)).isoformat(),
        **changed,
    )  # fmt: skip


def composition(*sections: Json, **changed: Any) -> Json:
    """A Composition of these sections."""
    return _resource(
        "Composition", "c1", "final", section=list(sections), type={"text": "note"},
        title="note", author=[{"display": "x"}], date=(NOW - timedelta(hours=1)).isoformat(),
        **changed,
    )  # fmt: skip


def section(html: str, *, code: str | None = None, inside: tuple[Json, ...] = ()) -> Json:
    """A section with a narrative."""
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{html}</div>'
    told: Json = {"title": "section", "text": {"status": "generated", "div": div}}
    if code:
        told["code"] = {"coding": [{"system": "http://loinc.org", "code": code}]}
    return {**told, "section": list(inside)} if inside else told


def communication(*payloads: Json, **changed: Any) -> Json:
    """A Communication of these payloads."""
    sent = (NOW - timedelta(hours=1)).isoformat()
    return _resource(
        "Communication", "k1", "completed", payload=list(payloads), sent=sent, **changed
    )


def _resource(kind: str, name: str, status: str, **elements: Any) -> Json:
    return {
        "resourceType": kind,
        "id": name,
        "meta": {"versionId": "1"},
        "status": status,
        "subject": {"reference": "Patient/p1"},
        **elements,
    }


def hours_ago(hours: float) -> datetime:
    """A moment before the hospital's now."""
    return NOW - timedelta(hours=hours)
