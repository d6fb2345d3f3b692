"""Profiles are files of facts; one is named by the site, or recognised by more than a name."""

import pytest

from adapters.ehr_profile import profile, profiles, recognised
from adapters.fhir_rest.answers import EhrCapabilities
from gateway.core.errors import ConfigurationError


def says(software: str = "", *, transaction: bool = True) -> EhrCapabilities:
    return EhrCapabilities("4.0.1", software, transaction=transaction, batch=False, types={})


def test_every_profile_names_its_sources_and_is_known_by_its_name() -> None:
    assert set(profiles()) == {
        "bahmni",
        "care",
        "generic",
        "hapi",
        "medplum",
        "openemr",
        "openmrs-fhir2",
    }
    assert all(each.sources and each.quirks for each in profiles().values())


@pytest.mark.parametrize(
    ("base_url", "said", "expected"),
    [
        ("https://ehr.test/fhir", says("HAPI FHIR Server"), "hapi"),
        ("https://ehr.test/fhir/R4", says("medplum"), "medplum"),
        ("https://ehr.test/apis/default/fhir", says("OpenEMR", transaction=False), "openemr"),
        ("https://ehr.test/fhir", says("Something else"), "generic"),
        ("https://ehr.test/fhir", None, "generic"),
        ("https://ehr.test/openmrs/ws/fhir2/R4", None, "openmrs-fhir2"),
    ],
)
def test_an_ehr_is_recognised_by_what_it_says_and_where_it_is(
    base_url: str, said: EhrCapabilities | None, expected: str
) -> None:
    assert recognised(base_url, said).profile == expected


def test_openmrs_that_names_itself_hapi_is_not_taken_for_hapi() -> None:
    said = says("HAPI FHIR Server", transaction=False)

    found = recognised("https://ehr.test/openmrs/ws/fhir2/R4", said)

    assert found.profile == "openmrs-fhir2"
    assert recognised("https://proxy.test/fhir", said).profile == "generic"


def test_a_profile_says_why_a_type_can_t_be_created() -> None:
    openmrs = profile("openmrs-fhir2")

    assert openmrs.why_not("Observation") is None
    assert openmrs.why_not("Device") == "OpenMRS FHIR2 lets no Device be created."
    assert profile("care").why_not("Observation") is not None
    assert profile("generic").why_not("Task") is None


def test_a_profile_that_nobody_wrote_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigurationError, match=r"no profile 'epic'.*bahmni"):
        profile("epic")
