"""A token that an EHR no longer accepts is replaced at once, whatever is asked with it."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey

from adapters.authorization import GivenLogin, Secret
from adapters.dicomweb import DicomWebClient
from adapters.feeds.atom_client import AtomClient
from adapters.feeds.bulk import BulkClient, Manifest
from adapters.fhir_rest.client import FhirClient
from adapters.fhir_rest.errors import EhrLoginFailed, EhrRefused, EhrTimeout
from adapters.sandbox.server import create_app
from adapters.site import System, load_site
from adapters.token_login import TokenLogin, TokenServerAway
from gateway.api.cds.charts import Charts
from gateway.core.cds.prefetch import Template
from tests.authorizing import Authorizing, Gated, authorizing
from tests.feeding import on_a_socket
from tests.integration.test_pipelined_results import make
from workers.fates import NotReached, Written
from workers.result_recipient import ResultRecipient

pytestmark = pytest.mark.integration

KEY = ECKey.generate_key("P-384")
PATIENT = {"resourceType": "Patient", "id": "p1"}
RESULT = json.dumps(
    {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]},
        "subject": {"reference": "Patient/p1"},
    }
).encode()
TRANSACTION = json.dumps(
    {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": json.loads(RESULT), "request": {"method": "POST", "url": "Observation"}}
        ],
    }
).encode()
TIMES = {"timeout_s": 10, "max_response_bytes": 10_000_000}


class Guarded:
    """The stand-in EHR behind an authorization server, and clients of it."""

    def __init__(self, gate: Gated, server: Authorizing, origin: str, folder: Path) -> None:
        self.gate, self.server = gate, server
        self.base = f"{origin}/fhir"
        self.key = folder / "login.json"
        self.key.write_text(json.dumps(KEY.as_dict(private=True)))
        self.login = TokenLogin(
            whose="System 'ehr'",
            address=self.base,
            client_id="nadi",
            secret=Secret(f"file:{self.key}"),
            is_asymmetric=True,
            token_url=server.token_url,
        )
        self.fhir = FhirClient(self.base, login=self.login, **TIMES)
        self.atom = AtomClient(f"{origin}/openmrs/ws/atomfeed", login=self.login, timeout_s=10)
        self.bulk = BulkClient(self.base, login=self.login, timeout_s=10)
        self.archive = DicomWebClient(f"{origin}/dicom-web", login=self.login, **TIMES)

    def close(self) -> None:
        for each in (self.fhir, self.atom, self.bulk, self.archive):
            each.close()

    def system(self) -> System:
        text = f"""
site: test
systems:
  ehr:
    kind: fhir-rest
    base_url: {self.base}
    auth:
      kind: smart-backend
      client_id: nadi
      key: "file:{self.key}"
      token_url: "{self.server.token_url}"
"""
        return load_site(text).systems["ehr"]

    def written(self) -> int:
        return len(self.fhir.search("Observation", [], max_pages=99))


@pytest.fixture
def ehr(tmp_path: Path) -> Iterator[Guarded]:
    with ExitStack() as stack:
        server = stack.enter_context(authorizing(key=KEY))
        gate = Gated(create_app(), server)
        made = Guarded(gate, server, stack.enter_context(on_a_socket(gate)), tmp_path)
        stack.callback(made.close)
        made.fhir.update("Patient/p1", json.dumps(PATIENT).encode())
        yield made


class Slow(GivenLogin):
    """A login whose server answers late."""

    def header(self) -> str:
        time.sleep(0.3)
        return super().header()


def test_nothing_is_sent_once_the_time_of_a_request_went_into_its_token(ehr: Guarded) -> None:
    login = Slow(f"Bearer {ehr.server.token}")
    hasty = FhirClient(ehr.base, login=login, timeout_s=0.2, max_response_bytes=10_000)

    with pytest.raises(EhrTimeout):
        hasty.create("Observation", RESULT)

    hasty.close()
    assert ehr.written() == 0


REQUESTS: dict[str, Callable[[Guarded], Any]] = {
    "read": lambda ehr: ehr.fhir.read("Patient/p1"),
    "search": lambda ehr: ehr.fhir.search("Patient", []),
    "poll": lambda ehr: list(ehr.fhir.pages("Patient", [("_lastUpdated", "ge2020-01-01")])),
    "history": lambda ehr: list(ehr.fhir.history("Patient", [])),
    "create": lambda ehr: ehr.fhir.create("Observation", RESULT),
    "update": lambda ehr: ehr.fhir.update("Patient/p1", json.dumps(PATIENT).encode()),
    "transaction": lambda ehr: ehr.fhir.transaction(TRANSACTION),
    "feed": lambda ehr: ehr.atom.page("patient", None),
    "export": lambda ehr: ehr.bulk.kick_off("", []),
}


@pytest.mark.parametrize("request_of", REQUESTS.values(), ids=REQUESTS)
def test_each_kind_of_request_goes_on_with_a_new_token(
    ehr: Guarded, request_of: Callable[[Guarded], Any]
) -> None:
    ehr.gate.withdraw()
    asked = len(ehr.server.asked)

    request_of(ehr)

    assert ehr.gate.refused == 1
    assert len(ehr.server.asked) - asked == 1


def test_a_file_of_an_export_too(ehr: Guarded) -> None:
    found = ehr.bulk.status(ehr.bulk.kick_off("", [("_type", "Patient")]))
    assert isinstance(found, Manifest)
    (file,) = found.files
    ehr.gate.withdraw()

    (line,) = ehr.bulk.lines(file.url, after_byte=0, after_line=0)

    assert json.loads(line.raw or b"")["id"] == "p1"
    assert ehr.gate.refused == 1


def test_an_archive_of_images_too(ehr: Guarded) -> None:
    ehr.gate.withdraw()

    assert ehr.archive.instance("1.2", "1.3", "1.4", max_bytes=1000) is None
    assert ehr.gate.refused == 1


def test_what_a_hook_did_not_bring_too(ehr: Guarded) -> None:
    charts, system = Charts(), ehr.system()
    charts.fetch(system, token=None, **asking())
    ehr.gate.withdraw()

    found = charts.fetch(system, token=None, **asking())

    charts.close()
    assert found.failed == ()


def test_a_token_of_the_caller_is_not_replaced_by_nadi_s(ehr: Guarded) -> None:
    charts = Charts()

    found = charts.fetch(ehr.system(), token="of-the-caller", **asking())  # noqa: S106 - made up

    charts.close()
    assert found.failed == ("patient",)


def test_however_many_ask_at_once_one_token_is_asked_for(ehr: Guarded) -> None:
    asked = len(ehr.server.asked)
    ehr.gate.withdraw()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ehr.fhir.read, ["Patient/p1"] * 40))

    assert all(each is not None for each in found)
    assert len(ehr.server.asked) - asked == 1


def test_results_are_written_once_and_the_ehr_counts_as_there(ehr: Guarded) -> None:
    reports = [make(number) for number in range(12)]
    recipient = ResultRecipient(ehr.fhir, connections=4)
    ehr.gate.withdraw()

    fates = recipient.write(reports, repeated=frozenset())

    assert {type(fates[each.identifier]) for each in reports} == {Written}
    assert ehr.written() == len(reports)


def test_an_ehr_that_accepts_no_token_does_not_have_the_server_asked_each_time(
    ehr: Guarded,
) -> None:
    asked = len(ehr.server.asked)
    ehr.gate.accepted = frozenset()

    for _ in range(20):
        with pytest.raises(EhrLoginFailed):
            ehr.fhir.read("Patient/p1")

    assert len(ehr.server.asked) - asked == 1


def test_what_it_refuses_waits_as_for_an_ehr_that_is_away(ehr: Guarded) -> None:
    ehr.gate.accepted = frozenset()

    (fate,) = ResultRecipient(ehr.fhir).write([make(1)], repeated=frozenset()).values()

    assert isinstance(fate, NotReached)
    assert fate.is_of_system


def test_one_that_refuses_for_another_reason_is_asked_once(ehr: Guarded) -> None:
    asked = len(ehr.server.asked)

    with pytest.raises(EhrRefused):
        ehr.fhir.create("Observation", b'{"resourceType": "Patient"}')

    assert len(ehr.server.asked) == asked


def test_a_server_that_is_away_then_is_told_of_and_asked_again_with_the_next_request(
    ehr: Guarded,
) -> None:
    ehr.gate.withdraw()
    ehr.server.answers = (500, b"")
    with pytest.raises(TokenServerAway):
        ehr.fhir.read("Patient/p1")
    ehr.server.answers = None

    assert ehr.fhir.read("Patient/p1") is not None


def test_the_same_token_given_out_again_is_not_tried_again(ehr: Guarded) -> None:
    ehr.gate.accepted = frozenset()

    with pytest.raises(EhrLoginFailed):
        ehr.fhir.read("Patient/p1")

    assert ehr.gate.refused == 1


def test_each_time_waits_for_its_place_under_a_rate_cap(ehr: Guarded) -> None:
    places: list[int] = []
    capped = FhirClient(ehr.base, login=ehr.login, pace=lambda: places.append(1), **TIMES)
    ehr.gate.withdraw()

    with capped:
        capped.read("Patient/p1")

    assert len(places) == 2


def test_a_second_time_that_could_not_end_in_time_is_left_to_a_later_attempt(ehr: Guarded) -> None:
    waits_s = iter([0.0, 1.1])
    slow = FhirClient(
        ehr.base,
        login=ehr.login,
        pace=lambda: time.sleep(next(waits_s)),
        timeout_s=1,
        max_response_bytes=10_000,
    )
    ehr.gate.withdraw()

    with slow, pytest.raises(EhrLoginFailed):
        slow.create("Observation", RESULT)

    assert ehr.written() == 0


def asking() -> dict[str, Any]:
    template = Template("patient", "Patient")
    return {"templates": [template], "patient": "p1", "until_s": time.monotonic() + 20}
