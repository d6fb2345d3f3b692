"""What is written almost right in a site file is told before it is applied, and breaks no other."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.site import SiteInvalid, load_site, self_contained
from adapters.site_terms import doubts
from adapters.site_yaml import read_yaml
from gateway.cli.main import app

SITE = """\
site: test
systems:
  ehr:
    kind: fhir-rest
    base_url: https://ehr.example/fhir
    receive: [push, {poll: {types: ["Observation?code=http://loinc.org|2160-0"]}}]
    write_back: {codes: [{of_code: risk, system: "http://snomed.info/sct", code: "1"}]}
  lab:
    kind: hl7v2
    patients: {of: ehr, identifier: "https://hospital.example/mrn"}
    receive: [{mllp: {port: 2575, timezone: UTC, code_systems: {L: "http://loinc.org"}}}]
routes:
  ckd-risk:
    source: ehr
    match: Observation.where(code.coding.exists(system='http://loinc.org' and code='2160-0'))
    consent: {purpose: TREAT}
    model: ckd-risk@1
    sink: {system: ehr}
codes:
  map:
    - {system: "https://hospital.example/codes", code: CREA, loinc: 2160-0}
"""
LEAVE = "(Leave it where the system itself writes it so.)"
NO_LOINC = "no LOINC code, its check digit is wrong; did you mean '2160-0', or is a digit of 2160"


def refused(text: str) -> list[str]:
    with pytest.raises(SiteInvalid) as caught:
        load_site(text, source="s.yaml", is_new=True)
    return [str(each) for each in caught.value.problems]


def doubted(text: str) -> list[str]:
    load_site(text, is_new=True)
    return [str(each) for each in doubts(read_yaml(text, "s.yaml"))]


def test_of_what_is_right_nothing_is_said() -> None:
    assert doubted(SITE) == []


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        (
            "https://ehr.example/fhir",
            "https://ehr.example/fhir/metadata",
            (
                "s.yaml:5:5: systems.ehr.base_url: ends in /metadata, which is a page of the FHIR "
                "API; did you mean 'https://ehr.example/fhir'?"
            ),
        ),
        (
            "https://ehr.example/fhir",
            "${EHR_URL:-https://ehr.example/fhir/metadata/}",
            (
                "s.yaml:5:5: systems.ehr.base_url: ends in /metadata, which is a page of the FHIR "
                "API; did you mean 'https://ehr.example/fhir'?"
            ),
        ),
        (
            '{L: "http://loinc.org"}',
            '{L: "http://loinc.com"}',
            (
                "s.yaml:11:65: systems.lab.receive[0].mllp.code_systems.L: 'http://loinc.com' is "
                "not how that code system is written; did you mean 'http://loinc.org'?"
            ),
        ),
        (
            "loinc: 2160-0",
            "loinc: 2160-1",
            f"s.yaml:21:62: codes.map[0].loinc: 2160-1 is {NO_LOINC} another?",
        ),
    ],
    ids=["metadata", "metadata of a default", "code system of a feed", "LOINC of a code"],
)
def test_what_can_t_work_is_refused_with_its_place_and_what_was_meant(
    right: str, wrong: str, says: str
) -> None:
    assert refused(SITE.replace(right, wrong)) == [says]


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        (
            "system='http://loinc.org'",
            "system='https://loinc.org/'",
            (
                "s.yaml:15:5: routes.ckd-risk.match: 'https://loinc.org/' is not how that code "
                f"system is written; did you mean 'http://loinc.org'? {LEAVE}"
            ),
        ),
        (
            "code='2160-0'",
            "code='2160-1'",
            f"s.yaml:15:5: routes.ckd-risk.match: 2160-1 is {NO_LOINC} another? {LEAVE}",
        ),
        (
            "http://loinc.org|2160-0",
            "http%3A%2F%2Floinc.org|2345-7,http://loinc.org|2160-1",
            (
                "s.yaml:6:37: systems.ehr.receive[1].poll.types[0]: 2160-1 is "
                f"{NO_LOINC} another? {LEAVE}"
            ),
        ),
        (
            "http://loinc.org|2160-0",
            "https://loinc.org|2160-0",
            (
                "s.yaml:6:37: systems.ehr.receive[1].poll.types[0]: 'https://loinc.org' is not how "
                f"that code system is written; did you mean 'http://loinc.org'? {LEAVE}"
            ),
        ),
        (
            '"http://snomed.info/sct"',
            '"http://snomed.info/sct/"',
            (
                "s.yaml:7:42: systems.ehr.write_back.codes[0].system: 'http://snomed.info/sct/' is "
                "not how that code system is written; did you mean 'http://snomed.info/sct'? "
                f"{LEAVE}"
            ),
        ),
        (
            '"https://hospital.example/codes"',
            '"https://loinc.org"',
            (
                "s.yaml:21:8: codes.map[0].system: 'https://loinc.org' is not how that code system "
                f"is written; did you mean 'http://loinc.org'? {LEAVE}"
            ),
        ),
    ],
    ids=[
        "system of a match",
        "code of a match",
        "code of a poll",
        "system of a poll",
        "own",
        "map",
    ],
)
def test_what_an_ehr_might_write_so_is_doubted(right: str, wrong: str, says: str) -> None:
    assert doubted(SITE.replace(right, wrong)) == [says]


def test_a_code_of_another_system_has_no_check_digit() -> None:
    match = "Observation.where(code.coding.exists(system='urn:lab' and code='2160-1'))"
    there = "Observation.where(code.coding.exists(system='http://loinc.org' and code='2160-0'))"

    assert doubted(SITE.replace(there, match)) == []


def test_it_is_told_beside_what_else_is_wrong() -> None:
    text = SITE.replace("loinc: 2160-0", "loinc: 2160-1").replace("source: ehr", "source: ehrr")

    assert [each.partition(":")[2].split()[1] for each in refused(text)] == [
        "routes.ckd-risk.source:",
        "codes.map[0].loinc:",
    ]


def test_a_file_that_is_in_force_keeps_its_work() -> None:
    text = SITE.replace("loinc: 2160-0", "loinc: 2160-1").replace("/fhir", "/fhir/metadata", 1)

    assert load_site(text, version=3).system("ehr") is not None


def test_a_row_of_the_csv_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "lab.csv").write_text("code,loinc\nCREA,2160-0\nUREA,22664-1\n")

    with pytest.raises(SiteInvalid) as caught:
        self_contained(f"{SITE}  csv: lab.csv\n", folder=tmp_path)

    assert str(caught.value) == (
        "lab.csv:3:1: loinc: 22664-1 is no LOINC code, its check digit is wrong; did you mean "
        "'22664-7', or is a digit of 22664 another?"
    )


def test_validate_refuses_a_slip_and_warns_of_a_doubt(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    arguments = ["site", "validate", str(file), "--json"]

    file.write_text(SITE.replace("code='2160-0'", "code='2160-1'"))
    doubt = CliRunner().invoke(app, arguments)
    file.write_text(SITE.replace("loinc: 2160-0", "loinc: 2160-1"))
    slip = CliRunner().invoke(app, arguments)

    assert doubt.exit_code == 0
    assert any("routes.ckd-risk.match" in each for each in json.loads(doubt.stdout)["warnings"])
    assert slip.exit_code == 1
    assert [each["path"] for each in json.loads(slip.stdout)["problems"]] == ["codes.map[0].loinc"]
