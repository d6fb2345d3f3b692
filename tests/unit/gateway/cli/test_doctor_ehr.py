"""`nadi doctor` proves that an EHR lets us in, and compares its clock with ours."""

import re
from collections.abc import Callable, Iterator

import pytest

from adapters.fhir_rest.skew import Skew
from adapters.site import Site, load_site
from gateway.cli.doctor_ehr import ehr_findings, read_types, silent, told_skew
from gateway.cli.doctor_feeds import FeedFinding
from gateway.cli.machine import ClockState
from gateway.store.unit_of_work import Store
from tests.answering import Answering, answering
from tests.hospital import Hospital
from tests.sandbox import TOKEN, SandboxEhr

SITE = """
site: a
systems:
  ehr:
    kind: fhir-rest
    base_url: BASE/fhir
    auth: {kind: bearer, token: "env:NADI_TEST_TOKEN"}
routes:
  ckd:
    source: ehr
    match: Observation.where(status='final')
    consent: {purpose: TREAT, default: deny}
    model: ckd-risk@1
    sink: {system: ehr}
"""
BUNDLE = b'{"resourceType": "Bundle", "type": "searchset"}'

Found = Callable[[Site], dict[str, FeedFinding]]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxEhr]:
    running = SandboxEhr()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def ehr() -> Iterator[Answering]:
    with answering() as server:
        server.answer(BUNDLE)
        yield server


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, ehr: Answering) -> Site:
    monkeypatch.setenv("NADI_TEST_TOKEN", "a-secret-of-ours")
    return load_site(SITE.replace("BASE", ehr.base))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    hospital = Hospital(tmp_path_factory.mktemp("hospital"))
    yield hospital.store
    hospital.close()


@pytest.fixture
def found(store: Store) -> Found:
    return lambda site: {each.check: each for each in ehr_findings(site, store)}


def test_a_token_that_the_ehr_takes_is_told_by_where_it_comes_from(
    sandbox: SandboxEhr, monkeypatch: pytest.MonkeyPatch, found: Found
) -> None:
    monkeypatch.setenv("NADI_TEST_TOKEN", TOKEN)

    told = found(load_site(SITE.replace("BASE", sandbox.origin)))

    says = "the token of env:NADI_TEST_TOKEN (`auth`); may read Patient, Observation"
    assert told["login ehr"] == FeedFinding("login ehr", says, is_fault=False)
    assert told["clock ehr"].is_fault is False
    assert told["system ehr"].is_fault is False


def test_a_wrong_token_is_a_fault_with_its_place_and_never_its_value(
    sandbox: SandboxEhr, monkeypatch: pytest.MonkeyPatch, found: Found
) -> None:
    monkeypatch.setenv("NADI_TEST_TOKEN", "wrong-token")

    told = found(load_site(SITE.replace("BASE", sandbox.origin)))

    assert told["system ehr"].is_fault is False  # its CapabilityStatement is open to everybody
    assert told["login ehr"].is_fault is True
    assert told["login ehr"].says.startswith(
        "Patient: The EHR does not accept Nadi's credential (401). "
        "It was given the token of env:NADI_TEST_TOKEN (`auth`): put the right one there"
    )
    assert "wrong-token" not in repr(told)


def test_a_type_that_may_not_be_read_is_named(
    site: Site, ehr: Answering, found: Found, store: Store
) -> None:
    ehr.refused = {"/Observation": 403}

    login = found(site)["login ehr"]

    assert login.is_fault is True
    assert login.says.startswith(
        "HTTP 403: the token of env:NADI_TEST_TOKEN (`auth`) may not read Observation."
    )
    assert silent(site, store) == [f"login ehr: {login.says}"]


def test_a_search_that_the_ehr_wants_narrower_is_no_proof_and_no_fault(
    site: Site, ehr: Answering, found: Found
) -> None:
    ehr.refused = {"/Patient": 400}

    login = found(site)["login ehr"]

    assert login.is_fault is None
    assert login.says.startswith(
        "not proved; a search is refused, or takes too long, of: Patient (HTTP 400)"
    )


def test_a_search_of_everybody_that_takes_too_long_says_nothing_of_the_login(
    ehr: Answering, monkeypatch: pytest.MonkeyPatch, found: Found
) -> None:
    monkeypatch.setenv("NADI_TEST_TOKEN", "a-secret-of-ours")
    text = SITE.replace("routes:", "    timeout_s: 0.5\nroutes:").replace("BASE", ehr.base)
    ehr.late_s = {"/Observation": 1}

    login = found(load_site(text))["login ehr"]

    assert login.is_fault is None
    assert "Observation (no answer in time); name a `test_patient`" in login.says


def test_of_a_made_up_patient_nobody_else_is_asked_for(
    ehr: Answering, monkeypatch: pytest.MonkeyPatch, found: Found
) -> None:
    monkeypatch.setenv("NADI_TEST_TOKEN", "a-secret-of-ours")
    text = SITE.replace("BASE", ehr.base).replace(
        "routes:\n", "    test_patient: Patient/made-up\nroutes:\n"
    )

    found(load_site(text))

    asked = [each.path for each in ehr.requests if "?" in each.path]
    assert asked == [
        "/fhir/Patient?_id=made-up&_count=1&_elements=id",
        "/fhir/Observation?patient=Patient%2Fmade-up&_count=1&_elements=id",
    ]


def test_a_secret_that_is_not_there_is_told_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, found: Found
) -> None:
    monkeypatch.delenv("NADI_TEST_TOKEN")

    (told,) = found(site).values()

    assert told.is_fault is True
    assert "The secret env:NADI_TEST_TOKEN is not there" in told.says


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "(401). It was given user nadi, the password of env:NADI_TEST_TOKEN"),
        (403, "(`dicomweb_auth`) may not read studies. The administrator there"),
        (404, None),
        (405, "answers HTTP 405 to a search (QIDO-RS): is it the base of its DICOMweb services?"),
    ],
)
def test_the_login_of_an_archive_of_images_is_tried_too(
    ehr: Answering, monkeypatch: pytest.MonkeyPatch, status: int, words: str | None, found: Found
) -> None:
    monkeypatch.setenv("NADI_TEST_TOKEN", "a-secret-of-ours")
    archive = """    dicomweb_url: BASE/dicom-web
    dicomweb_auth: {kind: basic, user: nadi, password: "env:NADI_TEST_TOKEN"}
routes:
"""
    ehr.refused = {"/dicom-web": status}

    told = found(load_site(SITE.replace("routes:\n", archive).replace("BASE", ehr.base)))

    assert told["images ehr"].is_fault is (words is not None)
    assert (words or "answers;").replace("BASE", ehr.base) in told["images ehr"].says
    assert told["login ehr"].is_fault is False


@pytest.mark.parametrize(
    ("ahead_s", "is_fault", "way"),
    [(2, False, "ahead of"), (-3, False, "behind"), (25, None, "ahead of"), (-300, True, "behind")],
)
def test_a_clock_that_is_off_is_told_and_in_minutes_a_fault(
    site: Site, ehr: Answering, ahead_s: float, is_fault: bool | None, way: str, found: Found
) -> None:
    ehr.ahead_s = ahead_s

    clock = found(site)["clock ehr"]

    told = re.match(r"([\d.]+) s (ahead of|behind) this machine's \(± ([\d.]+) s\)", clock.says)
    assert told is not None
    assert (clock.is_fault, told[2]) == (is_fault, way)
    assert abs(float(told[1]) - abs(ahead_s)) <= float(told[3]) + 0.5
    assert ("NTP" in clock.says) is (is_fault is not False)


def test_the_date_of_a_cache_says_nothing_of_the_ehr_s_clock(
    site: Site, ehr: Answering, found: Found
) -> None:
    ehr.ahead_s, ehr.more = -3600, {"Age": "3600"}

    clock = found(site)["clock ehr"]

    assert clock == FeedFinding("clock ehr", clock.says, is_fault=None)
    assert "no Date of their own" in clock.says


@pytest.mark.parametrize(
    ("ours", "where"),
    [
        (ClockState.KEPT, "set up NTP on the EHR's."),
        (ClockState.NOT_KEPT, "set it up here, then look again."),
        (ClockState.UNKNOWN, "Set up NTP on both."),
    ],
)
def test_where_a_clock_is_mended_depends_on_whose_is_kept(ours: ClockState, where: str) -> None:
    assert told_skew("clock ehr", Skew(90, 0.6), ours).says.endswith(where)


def test_an_ehr_that_is_away_is_told_once_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, found: Found
) -> None:
    monkeypatch.setenv("NADI_TEST_TOKEN", "a-secret-of-ours")

    (told,) = found(load_site(SITE.replace("BASE", "http://ehr.invalid"))).values()

    assert (told.check, told.is_fault) == ("system ehr", True)
    assert "a host name that is not known here" in told.says


def test_what_is_followed_is_read_and_documents_are_read_alone() -> None:
    text = SITE.replace("Observation.where(status='final')", "DocumentReference.type")
    text = text.replace("sink: {system: ehr}", "sink: {system: other}").replace(
        "routes:\n",
        """    receive:
      - poll: {types: ["Encounter?status=finished", Condition]}
  other: {kind: fhir-rest, base_url: "http://other.invalid", auth: {kind: none}}
routes:
""",
    )

    site = load_site(text.replace("BASE", "http://ehr.invalid"))

    assert read_types(site, "ehr") == ("Patient", "Encounter", "Condition")
    assert read_types(site, "other") == ("Patient", "Observation")
