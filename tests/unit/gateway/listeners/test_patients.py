"""A patient is found by the hospital's number in the EHR, on record, or is nobody."""

from collections.abc import Iterator

import httpx
import orjson
import pytest

from adapters.hl7v2.identity import plain_id
from adapters.site import Site, load_site
from gateway.core.audit import Source
from gateway.core.errors import ProcessingError, TransientError
from gateway.listeners.patients import finding
from gateway.store.audit_search import AuditFilter
from gateway.store.unit_of_work import Store
from tests.listening import FED_SITE
from tests.sandbox import TOKEN, SandboxEhr

MRN = "https://hospital.example/mrn"


@pytest.fixture(scope="module")
def ehr() -> Iterator[SandboxEhr]:
    made = SandboxEhr()
    made.start()
    for name, number in (("a", "77"), ("b", "twice"), ("c", "twice")):
        patient = {"resourceType": "Patient", "id": name}
        patient["identifier"] = [{"system": MRN, "value": number}]
        address = f"{made.origin}/fhir/Patient/{name}"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        httpx.put(address, json=patient, headers=headers).raise_for_status()
    yield made
    made.stop()


@pytest.fixture
def found(ehr: SandboxEhr, store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NADI_TEST_EHR_TOKEN", TOKEN)
    text = FED_SITE.replace("http://ehr.test/fhir", f"{ehr.origin}/fhir").replace(
        "auth: {kind: none}", "auth: {kind: bearer, token: env:NADI_TEST_EHR_TOKEN}"
    )
    site = load_site(text.replace("find: id", "find: search"))
    with _finder(site, store) as find:
        yield find


def test_a_patient_is_found_by_the_number_and_the_search_is_on_record(found, store: Store):
    assert found("77") == "a"

    with store.read() as uow:
        [event] = uow.audit_log.search(AuditFilter(event="fetch"))
    assert event.patient_key == store.sealer.patient_key("ehr", "Patient/a")
    assert b"77" not in orjson.dumps(orjson.loads(event.body)["entity"])


def test_nobody_and_several_are_nobody(found):
    assert found("unknown") is None
    assert found("twice") is None


def test_what_was_found_is_remembered(found, ehr: SandboxEhr):
    assert found("77") == "a"
    ehr.faults(down="close")

    try:
        assert found("77") == "a"
        with pytest.raises((TransientError, ProcessingError)):
            found("78")
    finally:
        ehr.faults(down="no")


def test_an_ehr_that_answers_with_everybody_gives_nobody(found, ehr: SandboxEhr):
    ehr.faults(ignored_params=["identifier"])

    try:
        assert found("79") is None
        assert found("77") == "a"
    finally:
        ehr.faults(ignored_params=[])


def test_where_the_number_is_the_id_nobody_is_asked(store: Store):
    site = load_site(FED_SITE)

    with _finder(site, store) as find:
        assert find is plain_id
    assert plain_id("MR-7.1") == "MR-7.1"
    assert plain_id("MR 7") is None


def test_a_system_without_fhir_has_the_numbers_as_ids(store: Store):
    site = load_site(FED_SITE.replace("of: ehr, ", "").replace(", find: id", ""))

    with _finder(site, store) as find:
        assert find is plain_id
    assert site.feeds["lab/mllp"].speaks_for == "lab"


def _finder(site: Site, store: Store):
    feed = site.feeds["lab/mllp"]
    return finding(feed, store, Source("s", "mllp"), site=lambda: site, timeout_s=2)
