"""What a site says of how results go into an EHR."""

from pathlib import Path

import pytest

from adapters.authorization import BasicLogin
from adapters.ehr_profile import profiles
from adapters.site import SiteInvalid, load_site
from gateway.cli.write_back_view import way_for
from gateway.core.ladder import IfLabelLost, Panel, Rung, Terms
from models.manifest import parse

SITE = """\
site: test
systems:
  ehr:
    kind: fhir-rest
    base_url: http://127.0.0.1:9/openmrs/ws/fhir2/R4
    auth: {kind: basic, user: nadi, password: "env:NADI_EHR_PASSWORD"}
    profile: openmrs-fhir2
    write_back:
      never: [task]
      if_label_lost: stop
      codes:
        - {of_system: "urn:nadi", of_code: ckd, code: uuid-1, display: "AI: CKD risk"}
routes:
  ckd-risk:
    source: ehr
    match: "Observation.code.coding.where(code='2160-0')"
    consent: {purpose: TREAT}
    model: ckd-risk@1
    sink: {system: ehr, write_back: {only: [observation, worklist]}}
"""


def problems(text: str) -> str:
    with pytest.raises(SiteInvalid) as caught:
        load_site(text, source="s.yaml")
    return "\n".join(str(problem) for problem in caught.value.problems)


def test_profile_login_and_terms_are_read() -> None:
    site = load_site(SITE)

    ehr = site.systems["ehr"]
    assert ehr.profile == "openmrs-fhir2"
    assert isinstance(ehr.login, BasicLogin)
    assert ehr.login.user == "nadi"
    assert ehr.terms == Terms(
        never=frozenset({Rung.TASK}),
        if_label_lost=IfLabelLost.STOP,
        codes={("urn:nadi", "ckd"): ("", "uuid-1", "AI: CKD risk")},
    )
    assert site.routes[0].terms.only == {Rung.OBSERVATION, Rung.WORKLIST}


def test_the_panel_of_a_route_wins_over_that_of_its_system() -> None:
    of_system, of_route = "{code: set-1, model: text-1}", "{code: set-2, model: text-2}"
    text = SITE.replace("      never: [task]", f"      never: [task]\n      panel: {of_system}")
    system = load_site(text).systems["ehr"]
    text = text.replace("worklist]}", f"worklist], panel: {of_route}}}")
    (route,) = load_site(text).routes

    assert system.terms.under(Terms()).panel == Panel("set-1", "text-1")
    assert system.terms.under(route.terms).panel == Panel("set-2", "text-2")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("openmrs-fhir2\n    write", "epic\n    write", "unknown profile 'epic'; known: bahmni"),
        ("never: [task]", "never: [fax]", "must be 'observation'"),
        ("only: [observation, worklist]", "only: []", "names no rung"),
        ("if_label_lost: stop", "if_lost: stop", "unknown key; did you mean 'if_label_lost'?"),
        ("of_code: ckd", "of_cod: ckd", "did you mean 'of_code'?"),
        ("env:NADI_EHR_PASSWORD", "secret", "a secret never stands in the site file"),
        ("user: nadi", 'user: "a:b"', "without a colon"),
    ],
)
def test_what_is_wrong_is_named(before: str, after: str, message: str) -> None:
    assert message in problems(SITE.replace(before, after))


ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = {
    path.name: load_site(path.read_text("utf-8"), folder=path.parent)
    for path in (ROOT / "adapters" / "sites").glob("*.example.yaml")
}


def test_every_profile_has_an_example() -> None:
    shown = {each.profile for site in EXAMPLES.values() for each in site.systems.values()}

    assert shown - {None} == set(profiles()) - {"generic"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_codes_of_an_example_are_those_of_its_model(name: str) -> None:
    manifest = parse((ROOT / "models/reference/ckd-risk/manifest.toml").read_text("utf-8"))
    answers = {(each.code.system, each.code.code) for each in manifest.outputs}

    for system in EXAMPLES[name].systems.values():
        assert set(system.terms.codes) <= answers


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bahmni", ("observation", "worklist")),
        ("openmrs", ("observation", "worklist")),
        ("care", ("worklist",)),
        ("openemr", ("diagnostic-report", "document-reference", "worklist")),
        ("hospital-hl7v2", ("hl7v2-oru", "worklist")),
    ],
)
def test_an_example_goes_the_way_that_its_ehr_has(name: str, expected: tuple[str, ...]) -> None:
    site = EXAMPLES[f"{name}.example.yaml"]
    (route,) = site.routes

    way = way_for(site, route, "Observation")

    assert way is not None
    assert way.ladder.rungs == expected
