"""What an engineer is told of the way of a result before it is sent, and of those that went."""

from dataclasses import replace

import pytest

from adapters.site import Site, load_site
from adapters.site_cds_hooks import CdsClient, CdsHooks, CdsService
from adapters.site_oru import OruDestination
from gateway.cli.write_back_view import _counted, asked_way, show_way, way_for
from gateway.core.ladder import Rung, Terms
from tests.hospital import SITE, FakeEhr
from tests.unit.adapters.hl7v2.test_oru import TO
from workers.ehr_abilities import EhrAbilities


def site_with(profile: str | None, address: str = "http://ehr.test/fhir") -> Site:
    site = load_site(SITE.replace("REFUSALS", "none"))
    ehr = replace(site.systems["ehr"], profile=profile, address=address)
    return replace(site, systems={"ehr": ehr})


def test_the_way_is_known_from_site_and_profile_alone(capsys: pytest.CaptureFixture[str]) -> None:
    site = site_with("openmrs-fhir2")

    way = way_for(site, site.routes[0], "Observation")
    assert way is not None
    show_way(way)

    shown = " ".join(capsys.readouterr().out.split())
    assert "Into ehr (OpenMRS FHIR2) it goes as observation, else worklist" in shown
    assert "not as task: OpenMRS FHIR2 lets no Task be created." in shown
    assert "write_back.codes" in shown
    assert "if the AI label is lost: words" in shown
    assert way.as_json()["rungs"] == ["observation", "worklist"]


def test_an_address_alone_tells_openmrs() -> None:
    site = site_with(None, "http://ehr.test/openmrs/ws/fhir2/R4")

    way = way_for(site, site.routes[0], "Observation")

    assert way is not None
    assert way.profile.profile == "openmrs-fhir2"


def test_a_route_s_own_terms_are_told() -> None:
    site = site_with("care")
    route = replace(site.routes[0], terms=Terms(never=frozenset({Rung.WORKLIST})))

    way = way_for(site, route, "Observation")

    assert way is not None
    assert way.ladder.rungs == ()


def test_messages_and_cards_are_rungs_where_the_site_has_them() -> None:
    oru = OruDestination(host="lis.test", port=2576, tls=None, addressed=TO, patients_of="ehr")
    site = site_with("care")
    known = replace(site.systems["ehr"], oru=oru)
    silent = replace(known, address=None, kind="hl7v2")
    services = {"v": CdsService("v", "patient-view", site.routes[0].name, "", "")}
    clients = {"i": CdsClient("c", "ehr", "i", (), frozenset())}
    cards = CdsHooks(clients=clients, services=services)

    ways = [
        way_for(replace(site, systems={"ehr": each}, cds=cards), site.routes[0], "Observation")
        for each in (known, silent)
    ]

    expected = (Rung.HL7V2_ORU, Rung.CDS_CARD, Rung.WORKLIST)
    assert [way.ladder.rungs for way in ways if way] == [expected, expected]
    assert [way.as_json()["profile"] for way in ways if way] == ["care", None]
    assert ways[1] is not None
    show_way(ways[1])


def test_where_nobody_knows_the_address_no_way_is_told() -> None:
    site = site_with(None, "http://${NADI_TEST_NOWHERE}/fhir")

    assert way_for(site, site.routes[0], "Observation") is None


def test_an_ehr_that_is_asked_tells_the_way_itself() -> None:
    ehr = FakeEhr()
    ehr.types = ("DiagnosticReport",)

    says = asked_way(Terms(), EhrAbilities(ehr))

    assert says == (
        "profile generic (recognised); results go as diagnostic-report, which loses the value as a "
        "number, the model as a Device: Its CapabilityStatement names no create of Observation."
    )
    assert "go as hl7v2-oru" in asked_way(
        Terms(), EhrAbilities(FakeEhr(), profile="care"), (Rung.HL7V2_ORU,)
    )
    assert asked_way(Terms(), EhrAbilities(FakeEhr(), profile="hapi")) == (
        "profile hapi (named); results go as observation"
    )


def test_labels_that_were_lost_are_counted_and_only_the_worst_alarm() -> None:
    assert _counted([], {}) == ("every result that was read back is there whole", True)
    told = [("observation", "meta.security, device", 3), ("worklist", "", 9), ("task", "note", 1)]
    says, is_well = _counted(told, {"on the worklist": 2})
    assert says == "2 on the worklist, 1 in a lower form, 3 without the AI label as a code"
    assert is_well
    assert _counted(told, {"were refused": 1}, is_whole=False) == (
        "1 were refused, 1 in a lower form, 3 without the AI label as a code",
        False,
    )
    assert not _counted([("observation", "meta.security, value", 1)], {})[1]
    assert not _counted([("observation", "meta.security, words", 1)], {})[1]
