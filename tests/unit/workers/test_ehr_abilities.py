import pytest

from adapters.fhir_rest.answers import EhrCapabilities, TypeCapabilities
from adapters.fhir_rest.errors import EhrUnreachable
from gateway.core.write_back import AS_OBSERVATION, WITHOUT_MEDIA, StoredReport
from tests.hospital import FakeEhr
from tests.result_models import RISK, RISK_ASSESSMENT, made, with_map
from workers.ehr_abilities import AGAIN_S, REMEMBER_S, EhrAbilities


def stored(manifest: object = RISK_ASSESSMENT) -> StoredReport:
    return StoredReport.read(made(manifest, 0.7).to_json())  # type: ignore[arg-type]


def test_plain_observations_cost_one_question_in_a_while() -> None:
    ehr = FakeEhr()
    abilities = EhrAbilities(ehr)

    reports = [abilities.fitted(stored(RISK)) for _ in range(3)]

    assert reports == [stored(RISK)] * 3
    assert ehr.calls == ["capabilities"]


def test_an_ehr_that_can_keep_everything_gets_everything() -> None:
    abilities = EhrAbilities(FakeEhr())
    mapped = StoredReport.read(with_map().to_json())

    assert abilities.fitted(stored()) == stored()
    assert abilities.fitted(mapped) == mapped


def test_what_an_ehr_lacks_is_left_out_or_written_otherwise() -> None:
    ehr = FakeEhr()
    ehr.types = ("Observation",)
    abilities = EhrAbilities(ehr)
    mapped = StoredReport.read(with_map().to_json())

    assert abilities.fitted(stored()).changed == (AS_OBSERVATION,)
    assert abilities.fitted(mapped).changed == (WITHOUT_MEDIA,)
    assert ehr.calls == ["capabilities"]


def test_an_ehr_is_asked_again_after_a_while() -> None:
    ehr, now = FakeEhr(), [0.0]
    ehr.types = ("Observation",)
    abilities = EhrAbilities(ehr, monotonic=lambda: now[0])
    assert not abilities.takes("Media")
    ehr.types = ("Observation", "Media")

    assert not abilities.takes("Media")
    now[0] = REMEMBER_S
    assert abilities.takes("Media")


def test_a_refusal_is_believed_more_than_the_statement_and_forgotten_after_a_while() -> None:
    now = [0.0]
    abilities = EhrAbilities(FakeEhr(), monotonic=lambda: now[0])
    abilities.refused("Media")

    assert not abilities.takes("Media")
    assert abilities.takes("RiskAssessment")
    now[0] = REMEMBER_S
    assert abilities.takes("Media")


def test_an_ehr_that_is_away_is_taken_at_its_best_and_asked_again() -> None:
    ehr = FakeEhr()
    ehr.types = ("Observation",)
    ehr.away, now = EhrUnreachable(), [0.0]
    abilities = EhrAbilities(ehr, monotonic=lambda: now[0])

    assert abilities.takes("Media")
    ehr.away = None
    assert abilities.takes("Media")
    now[0] = AGAIN_S
    assert not abilities.takes("Media")
    assert ehr.calls == ["capabilities", "capabilities"]


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ({}, True),
        ({"Observation": TypeCapabilities()}, False),
        ({"Media": TypeCapabilities()}, True),
        ({"Media": TypeCapabilities(frozenset({"read"}))}, False),
        ({"Media": TypeCapabilities(frozenset({"read", "create"}))}, True),
    ],
    ids=["says-nothing", "not-named", "named", "read-only", "may-be-created"],
)
def test_what_a_statement_says_of_a_type(
    types: dict[str, TypeCapabilities], expected: bool
) -> None:
    said = EhrCapabilities("4.0.1", "", transaction=True, batch=True, types=types)

    assert said.takes("Media") is expected
