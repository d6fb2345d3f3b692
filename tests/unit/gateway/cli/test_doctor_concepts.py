"""`nadi doctor` looks up every Concept that results are written under, and compares its unit."""

from collections.abc import Iterator

import orjson
import pytest

from adapters.site import Site, load_site
from gateway.cli.doctor_concepts import look_up, terms_of
from gateway.cli.doctor_feeds import FeedFinding
from models.registry import REFERENCE_MODELS, InstalledModel, load
from tests.answering import Answering, answering

OUTPUT = "https://nadi.health/fhir/CodeSystem/model-output"
OWN, LIVER = "6a7c3b52-bbbb-4bbb-8bbb-bbbbbbbbbbbb", "7b8c3b52-cccc-4ccc-8ccc-cccccccccccc"
GROUP, MODEL = "8c8c3b52-dddd-4ddd-8ddd-dddddddddddd", "9d8c3b52-eeee-4eee-8eee-eeeeeeeeeeee"
REST = "/openmrs/ws/rest/v1/concept"
SITE = """
site: clinic
systems:
  ehr:
    kind: fhir-rest
    base_url: BASE/openmrs/ws/fhir2/R4
    auth: {kind: none}
    PROFILE
    write_back:
      PANEL
      codes:
        - {of_system: OUTPUT, of_code: ckd-probability, code: OWN, display: "NAME"}
routes:
  ckd-risk:
    source: ehr
    match: "Observation.exists()"
    consent: {purpose: TREAT, default: deny}
    model: ckd-risk@1
    sink:
      system: ehr
      write_back:
        codes: [{of_system: OUTPUT, of_code: other, code: LIVER, SYSTEM display: "AI: other"}]
  liver-risk:
    source: ehr
    match: "Observation.exists()"
    consent: {purpose: TREAT, default: deny}
    model: liver-risk@1
    sink: {system: ehr}
"""


@pytest.fixture
def server() -> Iterator[Answering]:
    with answering() as running:
        yield running


PANEL = f"panel: {{code: {GROUP}, model: {MODEL}}}"


def site_at(
    server: Answering,
    *,
    name: str = "AI: risk",
    profile: str = "",
    system: str = "",
    panel: str = PANEL,
) -> Site:
    words = {"BASE": server.base, "OUTPUT": OUTPUT, "OWN": OWN, "LIVER": LIVER, "NAME": name}
    text = SITE
    more = {"PROFILE": profile, "SYSTEM": system, "PANEL": panel}
    for word, value in {**words, **more}.items():
        text = text.replace(word, value)
    return load_site(text)


def model_of(reference: str) -> InstalledModel | None:
    return load(REFERENCE_MODELS / reference.partition("@")[0])


def has(server: Answering, uuid: str, **said: object) -> None:
    shown = {"uuid": uuid, "display": "AI: risk", "datatype": {"display": "Numeric"}, **said}
    server.answer_at(f"{REST}/{uuid}", orjson.dumps(shown))


def of_own(server: Answering, site: Site) -> FeedFinding:
    """Give what is said of the Concept of the kidney model."""
    has(server, LIVER, units="1")
    has(server, GROUP, datatype={"display": "N/A"})
    has(server, MODEL, datatype={"display": "Text"})
    system = site.system("ehr")
    assert system is not None
    return next(each for each in look_up(site, system, model_of).findings if OWN in each.says)


@pytest.mark.parametrize("unit", ["1", "{probability}", "{other}"])
def test_a_concept_in_the_unit_of_the_model_is_well(server: Answering, unit: str) -> None:
    has(server, OWN, units=unit)

    found = of_own(server, site_at(server))

    says = f"{OWN}: 'AI: risk', Numeric in {unit}"
    assert found == FeedFinding("concept of ehr", says, is_fault=False)


@pytest.mark.parametrize(
    ("said", "name", "expected", "is_fault"),
    [
        ({"units": "%"}, "AI: risk", "shows numbers in %, and the model's are in", True),
        ({"units": "mg/dL"}, "AI: risk", "can't be compared with the model's", None),
        ({"units": "out of one"}, "AI: risk", "can't be compared with the model's", None),
        ({"units": None}, "AI: risk", "tells no unit; set it to {probability}", None),
        ({"units": "1", "retired": True}, "AI: risk", "is retired", True),
        ({"datatype": {"display": "Text"}}, "AI: risk", "takes no Numeric", True),
        ({"units": "1"}, "Kidney risk", "takes no Text", True),
        ({"datatype": {"display": "Text"}}, "Kidney risk", "'AI: risk', Text", False),
        ({"units": "1"}, "", "Numeric in 1", False),
    ],
)
def test_what_is_wrong_with_a_concept_is_told_before_anything_is_written(
    server: Answering, said: dict[str, object], name: str, expected: str, is_fault: bool | None
) -> None:
    has(server, OWN, **said)

    found = of_own(server, site_at(server, name=name))

    assert expected in found.says
    assert found.is_fault is is_fault


def test_a_number_beside_which_nothing_names_the_model_is_told(server: Answering) -> None:
    has(server, OWN, units="1")

    found = of_own(server, site_at(server, panel=""))

    assert found.is_fault is None
    assert "nothing beside a value says which model made it" in found.says


def test_bahmni_keeps_notes_so_that_a_name_need_not_say_ai(server: Answering) -> None:
    has(server, OWN, units="1")

    assert (
        of_own(server, site_at(server, name="Risk", profile="profile: bahmni", panel="")).is_fault
        is False
    )


def test_every_concept_of_every_route_is_looked_up_and_a_result_without_one_is_told(
    server: Answering,
) -> None:
    site = site_at(server)
    has(server, OWN, units="1")
    server.answer_at(f"{REST}/{LIVER}", b'{"error": {}}', status=404)
    has(server, GROUP, datatype={"display": "N/A"})
    has(server, MODEL, datatype={"display": "Numeric"})
    system = site.system("ehr")
    assert system is not None

    found = look_up(site, system, model_of)

    unnamed, own, missing, group, model = found.findings
    assert "no Concept for liver-probability, which liver-risk@1 gives" in unnamed.says
    assert (unnamed.is_fault, own.is_fault, missing.is_fault) == (None, False, True)
    assert missing.says.startswith(f"{LIVER}: there is no such Concept")
    assert (group.is_fault, model.is_fault) == (False, True)
    assert "has to be Text" in model.says
    assert {code for _, code in terms_of(site, system).codes} == {"ckd-probability", "other"}
    assert found.untold == []


def test_what_can_t_be_looked_up_is_left_to_the_probe(server: Answering) -> None:
    server.answer(b"<html>", status=404)
    site = site_at(server, system="system: 'http://loinc.org',")
    system = site.system("ehr")
    assert system is not None

    found = look_up(site, system, model_of)

    assert found.untold == [(OUTPUT, "ckd-probability"), (OUTPUT, "other")]
    assert all(each.is_fault is None for each in found.findings)
    asked = [each.path.partition("?")[0].rpartition("/")[2] for each in server.requests]
    assert asked == [OWN, GROUP, MODEL]


def test_an_ehr_that_takes_any_code_is_asked_for_none(server: Answering) -> None:
    site = site_at(server, profile="profile: generic")
    system = site.system("ehr")
    assert system is not None

    assert look_up(site, system, model_of).findings == []
    assert server.requests == []
