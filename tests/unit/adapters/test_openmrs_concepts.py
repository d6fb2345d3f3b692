"""Concepts are looked up where OpenMRS keeps them, with its login and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from adapters.fhir_rest.errors import EhrAnswerUnreadable, EhrOverloaded, EhrRefused
from adapters.openmrs_concepts import Concept, Concepts
from adapters.site import System, load_site
from tests.answering import Answering, answering

UUID = "5089AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
NOT_THERE = {"error": {"message": "[Object with given uuid doesn't exist [null]]"}}
SITE = """
site: clinic
systems:
  ehr:
    kind: fhir-rest
    base_url: BASE
    auth: {kind: basic, user: nadi, password: "file:PASSWORD"}
routes: {}
"""


@pytest.fixture
def server() -> Iterator[Answering]:
    with answering() as running:
        yield running


def system_at(base_url: str, folder: Path) -> System:
    secret = folder / "password"
    secret.write_text("secret")
    text = SITE.replace("BASE", base_url).replace("PASSWORD", str(secret))
    found = load_site(text).system("ehr")
    assert found is not None
    return found


@pytest.fixture
def concepts(server: Answering, tmp_path: Path) -> Iterator[Concepts]:
    found = Concepts.of(system_at(f"{server.base}/openmrs/ws/fhir2/R4", tmp_path), timeout_s=5)
    assert found is not None
    yield found
    found.close()


def answer(server: Answering, **more: object) -> None:
    found = {"uuid": UUID, "display": "AI: risk", "datatype": {"display": "Numeric"}, **more}
    server.answer(orjson.dumps(found))


def test_a_concept_is_asked_for_beside_the_fhir_base_with_its_login(
    server: Answering, concepts: Concepts
) -> None:
    answer(server, units="%", retired=False)

    found = concepts.find(UUID)

    assert found == Concept("AI: risk", "Numeric", "%", is_retired=False)
    (asked,) = server.requests
    assert asked.path == f"/openmrs/ws/rest/v1/concept/{UUID}?v=full"
    assert asked.headers["authorization"].startswith("Basic ")


def test_one_without_a_unit_that_is_retired_says_so(server: Answering, concepts: Concepts) -> None:
    answer(server, units=None, retired=True)

    assert concepts.find(UUID) == Concept("AI: risk", "Numeric", "", is_retired=True)


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, orjson.dumps(NOT_THERE)), (200, orjson.dumps({"uuid": "another"}))],
    ids=["refused", "another"],
)
def test_one_that_is_not_there_is_none(
    server: Answering, concepts: Concepts, status: int, body: bytes
) -> None:
    server.answer(body, status=status)

    assert concepts.find(UUID) is None


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, b"<html>no such page</html>", EhrRefused),
        (403, b"{}", EhrRefused),
        (503, b"", EhrOverloaded),
        (200, b"<html>", EhrAnswerUnreadable),
    ],
    ids=["no-interface", "no-access", "away", "a-page"],
)
def test_what_can_t_be_looked_up_is_told_apart_from_what_is_not_there(
    server: Answering, concepts: Concepts, status: int, body: bytes, error: type[Exception]
) -> None:
    server.answer(body, status=status)

    with pytest.raises(error):
        concepts.find(UUID)


def test_a_name_can_t_lead_to_another_address(server: Answering, concepts: Concepts) -> None:
    server.answer(orjson.dumps(NOT_THERE), status=404)

    concepts.find("../../session?x=")

    assert server.requests[0].path == "/openmrs/ws/rest/v1/concept/..%2F..%2Fsession%3Fx%3D?v=full"


def test_an_address_that_is_no_openmrs_has_no_concepts(tmp_path: Path) -> None:
    assert Concepts.of(system_at("http://ehr.test/fhir", tmp_path), timeout_s=5) is None
