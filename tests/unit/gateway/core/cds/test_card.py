"""A card says that an AI made it, how sure it is and what it is not for; in so many words."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from gateway.core.cds.card import ModelShown, refused_card, result_card, waiting_card
from gateway.core.findings import Report

GOLDEN = Path(__file__).parents[4] / "golden" / "results"
MODEL = ModelShown(
    title="Kidney risk",
    version="1.0.0",
    manufacturer="The Nadi project",
    is_demonstration=True,
    limits="Demonstration only: not a medical device. Not for: Patients.",
    about="https://nadi.test/about",
)


def report(name: str) -> Report:
    result = orjson.loads((GOLDEN / f"{name}.json").read_bytes())
    instead = None
    if result["resourceType"] == "RiskAssessment":
        instead = orjson.loads((GOLDEN / "beside.json").read_bytes())
    return Report(result, {}, None, instead=instead)


@pytest.mark.parametrize(
    "name", ["probability", "class", "labels", "score", "regression", "risk-assessment"]
)
def test_a_card_of_every_form_of_result_is_one_of_the_standard(name: str):
    card = result_card("u1", MODEL, report(name))

    assert 0 < len(card["summary"]) < 140
    assert "AI" in card["summary"]
    assert "emonstration" in card["summary"]
    assert "Demonstration only: not a medical device." in card["detail"]
    assert card["indicator"] in {"info", "warning"}
    assert card["source"]["label"]
    assert card["links"][0]["type"] == "absolute"
    assert all({"system", "code", "display"} <= set(each) for each in card["overrideReasons"])
    orjson.dumps(card)


def test_a_class_is_shown_with_its_confidence():
    card = result_card("u1", MODEL, report("class"))

    assert card["extension"]["health.nadi.ai"]["confidence"] == 0.83
    assert card["detail"].endswith("Confidence: 83 %.")


def test_a_risk_is_shown_with_its_probability():
    card = result_card("u1", MODEL, report("risk-assessment"))

    assert card["extension"]["health.nadi.ai"]["probability"] == 0.73
    assert card["indicator"] == "warning"


def test_what_markdown_would_take_for_its_own_is_shown_as_it_is():
    made = report("probability")
    text = {
        "status": "generated",
        "div": "<div><p><b>A *b* [c](d) &lt;script&gt; (AI)</b></p></div>",
    }
    odd = replace(made, result={**made.result, "text": text})

    detail = result_card("u1", MODEL, odd)["detail"]

    assert "\\*b\\* \\[c\\](d) \\<script\\>" in detail


def test_a_long_finding_is_cut_at_a_word():
    made = report("probability")
    text = {"status": "generated", "div": f"<div><p><b>{'word ' * 60}</b></p></div>"}

    summary = result_card("u1", MODEL, replace(made, result={**made.result, "text": text}))[
        "summary"
    ]

    assert len(summary) < 140
    assert "word… Demonstration only." in summary


def test_what_is_held_back_says_nothing_of_why():
    card = waiting_card(MODEL)

    assert "onsent" not in orjson.dumps(card).decode()
    assert not {"uuid", "overrideReasons"} & set(card)
    assert card["extension"]["health.nadi.ai"]["status"] == "none"


def test_a_refusal_of_the_model_gives_its_reason():
    card = refused_card("u1", MODEL, "Creatinine: older than is useful.")

    assert card["summary"] == "Kidney risk (AI): no result"
    assert "Creatinine: older than is useful." in card["detail"]
