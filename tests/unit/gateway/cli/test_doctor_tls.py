"""`nadi doctor` says how long each certificate is valid, before it is too late."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.site import Site, load_site
from adapters.tls import tls_context
from gateway.cli.doctor_feeds import FeedFinding
from gateway.cli.doctor_tls import tls_findings, told_end
from tests.answering import answering
from tests.certificates import Authority

NOW = datetime(2026, 11, 26, tzinfo=UTC)
EHR = """
site: a
systems:
  ehr:
    kind: fhir-rest
    base_url: BASE/fhir
    auth: {kind: none}
    tls: {authority: CA}
"""
PORTS = """
  lab:
    kind: hl7v2
    patients: {identifier: "https://hospital.example/mrn"}
    oru: {host: 127.0.0.1, port: 9, application: LIS, facility: H,
      tls: {authority: CA, certificate: OURS}}
    receive:
      - mllp: {port: 2575, timezone: UTC, tls: {certificate: PORT, key: PORT, clients: GONE}}
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def found(site: Site) -> dict[str, FeedFinding]:
    return {each.check: each for each in tls_findings(site)}


@pytest.mark.parametrize(
    ("days", "is_fault"), [(400.5, False), (12.5, None)], ids=["long", "soon over"]
)
def test_what_an_ehr_shows_is_told_with_the_days_left(
    authority: Authority, days: float, is_fault: bool | None
) -> None:
    file = str(authority.issue(f"ehr-{days}", days=days))

    with answering(tls_context(file, file, None)) as ehr:
        site = load_site(EHR.replace("BASE", ehr.base).replace("CA", str(authority.file)))
        told = found(site)["certificate ehr"]

    assert told.is_fault is is_fault
    assert f"of {ehr.base.removeprefix('https://')}: {int(days)} days left" in told.says
    assert ("its administrator has to renew it" in told.says) is (is_fault is None)


def test_a_certificate_that_does_not_pass_is_left_to_the_check_of_the_system(
    authority: Authority, tmp_path: Path
) -> None:
    file = str(Authority(tmp_path).issue("ehr"))

    with answering(tls_context(file, file, None)) as ehr:
        told = found(load_site(EHR.replace("BASE", ehr.base).replace("CA", str(authority.file))))

    assert "certificate ehr" not in told


def test_our_own_files_are_told_by_name_also_those_that_are_no_certificates(
    authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "gone.pem").write_text("nothing")
    names = {
        "CA": authority.file,
        "OURS": authority.issue("ours", days=45),
        "PORT": authority.issue("port", days=-2),
        "GONE": tmp_path / "gone.pem",
    }
    text = (EHR + PORTS).replace("BASE", "http://ehr.invalid")
    for name, file in names.items():
        text = text.replace(name, str(file))

    told = found(load_site(text))

    assert {name: each.is_fault for name, each in told.items()} == {
        "certificate ca.pem": None,  # of an authority of tests: valid for a day
        "certificate ours.pem": False,
        "certificate port.pem": True,
        "certificate gone.pem": True,
    }
    assert "ran out on" in told["certificate port.pem"].says
    assert "put a new one into the file, then restart Nadi" in told["certificate port.pem"].says
    assert told["certificate gone.pem"].says == f"{names['GONE']} holds no certificate in PEM."


def test_of_authorities_the_one_that_holds_longest_counts_and_of_ours_the_whole_chain(
    authority: Authority, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    old, new = authority.issue("old", days=-1), authority.issue("new", days=90)
    both.write_bytes(old.read_bytes() + new.read_bytes())
    ours = EHR.replace("tls: {authority: CA}", f"tls: {{authority: {both}}}")

    as_authority = found(load_site(ours.replace("BASE", "http://ehr.invalid")))
    text = EHR.replace("CA", f"{authority.file}, certificate: {both}")
    as_chain = found(load_site(text.replace("BASE", "http://ehr.invalid")))

    assert as_authority["certificate both.pem"].is_fault is False
    assert as_chain["certificate both.pem"].is_fault is True


@pytest.mark.parametrize(
    ("left", "is_fault"),
    [(timedelta(days=30), False), (timedelta(days=29, hours=23), None), (timedelta(0), True)],
)
def test_a_month_before_its_end_a_certificate_is_warned_of(
    left: timedelta, is_fault: bool | None
) -> None:
    assert told_end("certificate x", "in x", NOW + left, NOW, "renew").is_fault is is_fault
