"""An occlusion map as a Media: valid, labelled, part of its result, and never read by a model."""

from base64 import b64decode

import orjson
import pytest

from gateway.core.event import is_made_by_ai
from gateway.core.fhir import parse_resource
from gateway.core.findings import Report
from gateway.core.result_terms import attachment_identifier, result_urn
from tests.result_models import IMAGE, LABELS, MAPPED, PNG, made, with_map


def test_a_map_is_part_of_its_result_and_made_by_the_same_device() -> None:
    report = with_map()

    (media,) = report.attachments
    assert media["partOf"] == [{"reference": result_urn(report.identifier)}]
    assert media["device"] == report.result["device"]
    assert media["subject"] == report.result["subject"]
    assert media["identifier"][0]["value"] == attachment_identifier(
        report.identifier, "occlusion-map"
    )
    assert media["identifier"] != report.result["identifier"]


def test_a_map_holds_the_picture_and_says_how_to_read_it() -> None:
    (media,) = with_map().attachments

    assert b64decode(media["content"]["data"]) == PNG
    assert (media["content"]["contentType"], media["content"]["size"]) == ("image/png", len(PNG))
    assert "no segmentation" in media["note"][0]["text"]
    assert "demonstration only" in media["content"]["title"]
    assert "the map shows where" in with_map().result["text"]["div"]


@pytest.mark.parametrize("lost", ["meta", "identifier"])
def test_a_map_that_comes_back_is_known_for_an_ai_s(lost: str) -> None:
    (media,) = with_map().attachments

    assert is_made_by_ai({name: value for name, value in media.items() if name != lost})


def test_a_report_with_a_map_is_read_back_as_it_was_written() -> None:
    report = with_map()

    assert Report.from_json(report.to_json()) == report


def test_the_product_s_map_does_not_call_itself_a_demonstration() -> None:
    product = LABELS.model_copy(update={"demonstration_only": False})

    (media,) = made(product, 0.81, 0.12, explained=MAPPED).attachments

    assert media["content"]["title"] == "Chest X-ray reader: occlusion map (AI)"
    parse_resource(orjson.dumps(media))


def test_a_map_says_in_whom_its_model_does_harm_as_its_result_does() -> None:
    cautious = LABELS.model_copy(update={"contraindications": ("A tube.",)})

    report = made(cautious, 0.81, 0.12, inputs=IMAGE, explained=MAPPED)

    (media,) = report.attachments
    assert [each["text"] for each in media["note"]][2] == "Contraindications: A tube."
    assert {"text": "Contraindications: A tube."} in report.result["note"]
