import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.fhir_rest.base_url import BaseUrl, reference_in
from adapters.fhir_rest.errors import ForeignAddress
from gateway.core.errors import ConfigurationError

BASE = BaseUrl.parse("https://ehr.example/hospital/fhir/")

FOREIGN = [
    "https://ehr.example.evil/hospital/fhir/Patient/1",
    "https://ehr.example@evil.example/hospital/fhir/Patient/1",
    "https://user:secret@ehr.example/hospital/fhir/Patient/1",
    "http://ehr.example/hospital/fhir/Patient/1",
    "https://ehr.example:8443/hospital/fhir/Patient/1",
    "https://ehr.example/hospital/fhirs/Patient/1",
    "https://ehr.example/hospital/Patient/1",
    "https://ehr.example/hospital/fhir/../admin",
    "https://ehr.example/hospital/fhir/%2e%2e/admin",
    "https://ehr.example/hospital/fhir/.%2E/admin",
    "https://ehr.example/hospital/fhir/%252e%252e/admin",
    "https://ehr.example/hospital/fhir/..%2fadmin",
    "https://ehr.example/hospital/fhir/..%5cadmin",
    "https://ehr.example/hospital/fhir\\..\\admin",
    "https:\\\\evil.example/hospital/fhir/x",
    "https://ehr.example/hospital/fhir/a b",
    "https://ehr.example/hospital/fhir/\r\nHost: evil",
    "https://ehr.example/hospital/fhir/Patient/1#x",
    "https://ehr.example:x/hospital/fhir/Patient/1",
    "https://[broken/hospital/fhir/Patient/1",
    "//evil.example/hospital/fhir/Patient/1",
    "/admin",
    "../admin",
    "Patient/../../admin",
    "file:///etc/passwd",
    "ftp://ehr.example/hospital/fhir/Patient/1",
]


@pytest.mark.parametrize("address", FOREIGN)
def test_an_address_outside_the_base_is_not_followed(address: str) -> None:
    with pytest.raises(ForeignAddress) as refused:
        BASE.resolve(address)

    assert address not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "absolute"),
    [
        ("https://ehr.example/hospital/fhir?page=2", "https://ehr.example/hospital/fhir?page=2"),
        ("https://EHR.example:443/hospital/fhir/x", "https://EHR.example:443/hospital/fhir/x"),
        ("Patient?page=..%2f", "https://ehr.example/hospital/fhir/Patient?page=..%2f"),
        ("?page=2", "https://ehr.example/hospital/fhir?page=2"),
        ("/hospital/fhir/x?y=http://z/", "https://ehr.example:443/hospital/fhir/x?y=http://z/"),
    ],
)
def test_an_address_under_the_base_is_made_absolute(address: str, absolute: str) -> None:
    assert BASE.resolve(address) == absolute


def test_a_base_with_an_ipv6_address_works() -> None:
    base = BaseUrl.parse("http://[::1]:8080/fhir")

    assert base.resolve("/fhir/Patient") == "http://[::1]:8080/fhir/Patient"


@pytest.mark.parametrize(
    "text",
    [
        "ehr.example/fhir",
        "ftp://ehr.example",
        "https://a@ehr.example/fhir",
        "https://",
        "https://[x",
        "https://ehr.example/fhir?x=1",
        "https://ehr.example/fhir#x",
        "https://ehr.example/fh ir",
    ],
)
def test_what_is_no_base_url_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        BaseUrl.parse(text)


@pytest.mark.parametrize(
    "reference",
    ["Patient/1", "https://ehr.example/hospital/fhir/Patient/1", "Patient/1/_history/2"],
)
def test_a_reference_to_this_ehr_has_an_address(reference: str) -> None:
    assert BASE.resource(reference).startswith("https://ehr.example/hospital/fhir/Patient/1")


@pytest.mark.parametrize(
    "reference",
    [
        "urn:uuid:1",
        "#inner",
        "Patient",
        "Patient/1/$everything",
        "Patient?identifier=1",
        "",
        *FOREIGN,
    ],
)
def test_anything_else_is_no_reference_to_this_ehr(reference: str) -> None:
    with pytest.raises(ForeignAddress):
        BASE.resource(reference)


@pytest.mark.parametrize(
    ("location", "reference"),
    [
        ("https://ehr.example/hospital/fhir/Observation/1/_history/3", "Observation/1"),
        ("http://inner:8080/fhir/Observation/a-b.c", "Observation/a-b.c"),
        ("/fhir/Observation/1", "Observation/1"),
        ("Observation/1", "Observation/1"),
        ("https://ehr.example/hospital/fhir/metadata", None),
        ("nonsense", None),
    ],
)
def test_the_location_of_a_write_names_the_resource(location: str, reference: str | None) -> None:
    assert reference_in(location) == reference


@given(st.text(max_size=40))
def test_whatever_is_resolved_lies_under_the_base(address: str) -> None:
    try:
        absolute = BASE.resolve(address)
    except ForeignAddress:
        return

    path = absolute.partition("?")[0].lower()
    assert path.replace(":443", "").startswith("https://ehr.example/hospital/fhir")
    assert "/.." not in path
    assert "@" not in path.split("/")[2]
