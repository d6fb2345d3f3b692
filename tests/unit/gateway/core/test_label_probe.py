"""The probe of what an EHR keeps is a valid result, and nobody can take it for a finding."""

import orjson

from gateway.core.event import is_made_by_ai
from gateway.core.fhir import parse_resource
from gateway.core.label_probe import label_probe
from gateway.core.read_back import lost_of
from gateway.core.write_back import with_device
from tests.hospital import NOW


def test_a_probe_is_valid_has_every_label_and_says_what_it_is() -> None:
    probe = with_device(label_probe("Patient/test", NOW), "Device/d1")

    parse_resource(orjson.dumps(probe.result))
    parse_resource(orjson.dumps(probe.device))
    assert is_made_by_ai(probe.result)
    assert probe.result["status"] == "preliminary"
    assert "not a finding" in probe.result["code"]["text"]
    labels = {"meta.security", "identifier", "device", "interpretation", "note", "method", "text"}
    assert labels <= set(lost_of(probe.result, {"status": "preliminary"}))


def test_a_probe_takes_the_code_of_a_model_s_answer_where_it_is_given() -> None:
    probe = label_probe("Patient/test", NOW, ("urn:nadi", "ckd"))

    assert probe.result["code"]["coding"] == [{"system": "urn:nadi", "code": "ckd"}]
    assert probe.identifier != label_probe("Patient/test", NOW).identifier
