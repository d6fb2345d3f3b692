"""`nadi codes suggest`: what arrived unmapped, with counts and what it may be; never a value."""

import csv
import json
from pathlib import Path

import pytest

from gateway.cli.code_candidates import Unmapped, candidates
from models.manifest import parse
from tests.installation import creatinine

ROOT = Path(__file__).resolve().parents[4]
MODELS = [parse((ROOT / "models" / "reference" / "ckd-risk" / "manifest.toml").read_text("utf-8"))]
LAB = "https://lab.example/codes"
COMMAND = ("codes", "suggest")


def local(number: int, code: str, name: str, unit: str = "mg/dl", **more) -> dict:
    made = {**creatinine("p1", number), "code": {"coding": [{"system": LAB, "code": code}]}, **more}
    made["code"]["coding"][0] |= {"display": name} if name else {}
    made["valueQuantity"] = {"value": 98765, "unit": unit}
    return made


def test_local_codes_are_listed_with_how_often_they_came_and_what_they_may_be(nadi, run, tmp_path):
    nadi.receive(
        *(local(number, "CREA", "S. Creatinine") for number in range(3)),
        local(10, "VITD", "Vitamin D", "ng/mL"),
        creatinine("p1", 11),
    )
    file = tmp_path / "codes.csv"

    done = run("--json", "--csv", str(file))

    first, second = json.loads(done.stdout)
    assert (first["code"], first["count"], first["units"]) == ("CREA", 3, ["mg/dl"])
    assert first["candidates"][0]["loinc"] == "2160-0"
    assert (second["code"], second["candidates"]) == ("VITD", [])
    assert "98765" not in done.stdout
    assert list(csv.reader(file.read_text().splitlines())) == [
        ["system", "code", "loinc"],
        [LAB, "CREA", "2160-0"],
    ]


def test_what_the_site_maps_and_what_has_a_loinc_code_is_understood(nadi, run):
    with nadi.store.write() as uow:
        text = uow.sites.current().yaml
        codes = f'codes: {{map: [{{system: "{LAB}", code: CREA, loinc: 2160-0}}]}}\n'
        uow.sites.apply(text + codes, "test")
    nadi.receive(local(1, "CREA", "Creatinine"), creatinine("p1", 2))

    assert "Every code that arrived is understood" in run().stdout


def test_parts_of_a_result_are_looked_at_too(nadi, run):
    part = {"code": {"coding": [{"code": "HB"}], "text": "Haemoglobin"}}
    nadi.receive({**creatinine("p1"), "component": [part]})

    (found,) = json.loads(run("--json").stdout)

    assert (found["system"], found["code"], found["name"]) == ("", "HB", "Haemoglobin")


def test_that_somebody_looked_is_on_record(nadi, run):
    run("--json")

    with nadi.store.read() as uow:
        asked = "select count(*) as n from audit_events where event = 'query'"
        (row,) = uow.connection.exec_driver_sql(asked).all()
    assert row.n == 1


@pytest.mark.parametrize(
    ("code", "name", "unit", "likeliest"),
    [
        ("K", "Potassium", "mmol/L", "2823-3"),
        ("HB", "Haemoglobin", "g/dl", "718-7"),
        ("UREA", "Blood urea", "mg/dl", "3091-6"),
        ("RBS", "Glucose, random", "mg/dl", "2345-7"),
        ("CREA", "Creatinine", "umol/L", "14682-9"),
        ("X", "Vitamin D", "ng/mL", None),
        ("HB", "Hemoglobin", "mmHg", None),
        ("1", "", "", None),
    ],
)
def test_the_likeliest_code_is_that_of_the_name_and_of_a_unit_that_converts(
    code: str, name: str, unit: str, likeliest: str | None
):
    units = (unit,) if unit else ()

    found = candidates(Unmapped("", code, name, units, 1), MODELS)

    assert (found[0].loinc if found else None) == likeliest


def test_a_result_of_an_ai_that_came_back_under_the_ehrs_own_code_is_no_laboratory_code(nadi, run):
    note = [{"text": "Risk (AI): result of an AI. Preliminary: not yet reviewed."}]
    nadi.receive(local(1, "5089a0b1", "AI: chronic kidney disease risk", note=note))

    assert "Every code that arrived is understood" in run().stdout
