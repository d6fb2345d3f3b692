from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.authorization import BasicLogin, BearerLogin, Secret
from adapters.fhir_rest.errors import EhrNotTrusted
from adapters.site import Site, System, load_site
from adapters.tls import tls_context
from gateway.core.errors import ConfigurationError, RateTaken
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from tests.answering import answering
from tests.certificates import Authority
from tests.conftest import MASTER
from workers.ehrs import Ehrs
from workers.fates import not_reached


class Sites:
    """Gives the site that a test has applied."""

    def __init__(self) -> None:
        ehr = System(name="ehr", kind="fhir-rest", address="http://ehr.test/fhir")
        self.site = Site(name="test", systems={"ehr": ehr})

    def __call__(self) -> Site:
        return self.site

    def change(self, **changes: object) -> None:
        ehr = replace(self.site.systems["ehr"], **changes)
        self.site = replace(self.site, systems={"ehr": ehr})


@pytest.fixture
def sites() -> Sites:
    return Sites()


@pytest.fixture
def ehrs(sites: Sites, sqlite_url: str) -> Iterator[Ehrs]:
    made = Ehrs(sites, store=Store(sqlite_url, Sealer(MASTER)), timeout_s=1)
    yield made
    made.close()


def test_a_connection_is_kept_while_the_site_says_the_same(ehrs: Ehrs) -> None:
    assert ehrs.connection("ehr") is ehrs.connection("ehr")
    assert ehrs.connection("ehr").base_url == "http://ehr.test/fhir"


@pytest.mark.parametrize(
    "change",
    [
        {"address": "http://other.test/fhir"},
        {"login": BearerLogin(Secret("env:NADI_TEST_TOKEN"))},
        {"timeout_s": 3.0},
        {"dicomweb_address": "http://pacs.test/dicom-web"},
        {"profile": "hapi"},
    ],
    ids=["address", "token", "timeout", "archive", "profile"],
)
def test_another_address_credential_or_timeout_makes_a_new_connection(
    ehrs: Ehrs, sites: Sites, change: dict[str, object]
) -> None:
    before = ehrs.connection("ehr")

    sites.change(**change)

    assert ehrs.connection("ehr") is not before


def test_there_is_an_archive_where_the_site_names_one(ehrs: Ehrs, sites: Sites) -> None:
    assert ehrs.connection("ehr").archive is None

    sites.change(dicomweb_address="http://pacs.test/dicom-web")

    assert ehrs.connection("ehr").archive is not None


SITE = """
site: a
systems:
  ehr:
    kind: fhir-rest
    base_url: http://ehr.test/fhir
    dicomweb_url: BASE/dicom-web
    auth: {kind: bearer, token: "env:NADI_TEST_TOKEN"}
"""


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("", "Bearer secret"),
        ("\n    dicomweb_auth: {kind: none}", None),
        (
            '\n    dicomweb_auth: {kind: basic, user: nadi, password: "env:NADI_TEST_TOKEN"}',
            "Basic bmFkaTpzZWNyZXQ=",
        ),
    ],
    ids=["as-the-ehr", "none", "basic"],
)
def test_an_archive_gets_the_credential_that_is_its_own(
    monkeypatch: pytest.MonkeyPatch, sqlite_url: str, said: str, sent: str | None
) -> None:
    monkeypatch.setenv("NADI_TEST_TOKEN", "secret")
    with answering() as pacs:
        pacs.answer(b"[]")
        site = load_site(SITE.replace("BASE", pacs.base).rstrip() + said)
        made = Ehrs(lambda: site, store=Store(sqlite_url, Sealer(MASTER)), timeout_s=5)
        archive = made.connection("ehr").archive
        assert archive is not None
        archive.instances("1.2")
        made.close()

    (asked,) = pacs.requests
    assert asked.headers.get("authorization") == sent


def test_a_system_that_the_site_does_not_have_is_a_matter_of_configuration(ehrs: Ehrs) -> None:
    with pytest.raises(ConfigurationError, match="no system 'lab'"):
        ehrs.connection("lab")


def test_a_request_that_finds_the_line_too_long_is_not_sent(
    ehrs: Ehrs, sites: Sites, sqlite_url: str
) -> None:
    with Store(sqlite_url, Sealer(MASTER)).write() as uow:
        uow.pacing.take("ehr", count=50, per_second=10, within_s=0)

    with answering() as ehr:
        sites.change(address=f"{ehr.base}/fhir", per_second=10)
        with pytest.raises(RateTaken) as taken:
            ehrs.connection("ehr").client.read("Patient/p1")

    assert ehr.requests == []
    # The EHR is not to blame: its circuit stays closed.
    fate = not_reached(taken.value)
    assert fate.is_of_system is False
    assert fate.retry_after_s == pytest.approx(5, abs=1)


def test_the_token_is_read_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    login = BearerLogin(Secret("env:NADI_TEST_TOKEN"))
    monkeypatch.setenv("NADI_TEST_TOKEN", "first")
    before = login.header()
    monkeypatch.setenv("NADI_TEST_TOKEN", "second")

    assert (before, login.header()) == ("Bearer first", "Bearer second")


def test_a_user_logs_in_with_the_password_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NADI_TEST_TOKEN", "open sesame")

    assert BasicLogin("Aladdin", Secret("env:NADI_TEST_TOKEN")).header() == (
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # the example of RFC 7617
    )


def test_a_hospital_s_own_authority_is_trusted_where_the_site_names_it(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NADI_TEST_TOKEN", "secret")
    authority = Authority(tmp_path)
    certificate = str(authority.issue("ehr"))
    context = tls_context(certificate, certificate, str(authority.file))
    files = f"\n    tls: {{authority: {authority.file}, certificate: {authority.issue('nadi')}}}"
    with answering(context) as ehr:
        ehr.answer(b'{"resourceType": "CapabilityStatement"}')
        of_one_host = SITE.replace("BASE", ehr.base).replace("http://ehr.test", ehr.base)
        plain = load_site(of_one_host)
        trusting = load_site(of_one_host.rstrip() + files)
        sites = [trusting, plain]
        made = Ehrs(lambda: sites[-1], store=Store(sqlite_url, Sealer(MASTER)), timeout_s=5)
        with pytest.raises(EhrNotTrusted):
            made.connection("ehr").client.capabilities()
        sites.pop()
        connection = made.connection("ehr")
        connection.client.capabilities()
        ehr.answer(b"[]")
        assert connection.archive is not None
        connection.archive.instances("1.2")
        made.close()

    assert len(ehr.requests) == 2
