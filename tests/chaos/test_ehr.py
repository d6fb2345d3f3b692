"""The simulators are what chaos needs: a site that is valid, a nature that healing leaves alone."""

import pytest

from adapters.sandbox.faults import FaultKnobs, Faults
from adapters.site import load_site
from tests.chaos.ehr import nature_of, site_for
from tests.chaos.expected import MARK
from tests.chaos.faults import EHR_FAULTS
from tests.running import HEALTHY_EHR
from tests.simulators import SIMULATORS

BASE_URL = "http://127.0.0.1:8090/fhir"


@pytest.mark.parametrize("name", SIMULATORS)
def test_a_simulator_has_a_site_file_of_its_own_that_is_valid(name: str) -> None:
    site = load_site(site_for(SIMULATORS[name], BASE_URL))

    ehr = site.system("ehr")
    assert ehr is not None
    assert (ehr.base_url, ehr.profile or "") == (BASE_URL, PROFILES.get(name, name))
    assert [route.model for route in site.routes] == ["ckd-risk@1"]


#: Where the site's profile is not called as the simulator is.
PROFILES = {
    "generic": "",
    "generic-that-drops-labels": "",
    "hapi-that-drops-labels": "",
    "openmrs": "openmrs-fhir2",
    "openemr-that-takes-documents": "openemr",
}


@pytest.mark.parametrize("name", SIMULATORS)
def test_healing_takes_every_fault_back_and_leaves_the_nature(name: str) -> None:
    nature = nature_of(SIMULATORS[name])
    born, knobs = Faults(**nature), FaultKnobs(Faults(**nature))

    for struck in EHR_FAULTS.values():
        assert knobs.turn(struck) != born
        knobs.turn({**HEALTHY_EHR, **nature})
        # Of which errors there would be says nothing while there are none.
        assert knobs.turn({"error_statuses": born.error_statuses}) == born


@pytest.mark.parametrize("name", SIMULATORS)
def test_every_simulator_takes_the_marks_of_the_load(name: str) -> None:
    writable = nature_of(SIMULATORS[name]).get("writable_types", [MARK])

    assert MARK in writable
    assert SIMULATORS[name].takes("Provenance") == (
        not SIMULATORS[name].faults.get("writable_types")
    )
