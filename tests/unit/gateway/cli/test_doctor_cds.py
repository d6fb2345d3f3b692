"""`nadi doctor` says when no EHR could ask by CDS Hooks, or only in clear."""

import pytest

from adapters.site import load_site
from gateway.cli.doctor_cds import cds_problems
from tests.cds import BASE, cds_site
from tests.factories import SITE


def found(text: str) -> list[tuple[str, bool]]:
    return list(cds_problems(load_site(text)))


@pytest.mark.parametrize("base_url", [BASE, "http://localhost:8080", "http://127.0.0.1"])
def test_a_site_that_can_be_asked_has_nothing_to_be_told(base_url: str):
    assert found(cds_site().replace(BASE, base_url)) == []


def test_a_site_without_services_has_nothing_to_be_told():
    assert found(SITE) == []


def test_an_address_in_clear_is_warned_of():
    ((says, is_fault),) = found(cds_site().replace(BASE, "http://nadi.test"))

    assert (says.split(":")[0], is_fault) == ("cds_hooks.base_url is not https", False)


def test_an_address_that_can_not_be_completed_is_a_fault():
    ((says, is_fault),) = found(cds_site().replace(BASE, "https://${NADI_TEST_NOWHERE}"))

    assert says == "cds_hooks.base_url needs NADI_TEST_NOWHERE to be set for Nadi's processes."
    assert is_fault


def test_services_that_nobody_may_ask_are_told_of():
    text = cds_site()
    without = text[: text.index("  clients:")]

    told = found(without)

    assert told[0][0].startswith("ckd-risk-patient-view: no client of system 'ehr' may ask")
    assert "name one in cds_hooks.clients" in told[0][0]
    assert not told[0][1]
    assert len(told) == 2
