from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from adapters.fhir_rest.errors import EhrConflict, EhrTimeout
from gateway.core.findings import ResultContext, RuntimeFacts, report, result_identifier
from gateway.core.write_back import AS_OBSERVATION, WITHOUT_MEDIA, StoredReport
from models.manifest import parse
from tests.hospital import MANIFEST, FakeEhr
from tests.result_models import RISK_ASSESSMENT, made, with_map
from workers.fates import NotReached, NotTaken, Written
from workers.result_recipient import ResultRecipient

RUNTIME = RuntimeFacts(model_digest="d" * 64, runtime="toy 1", kernel_class="none")


def make(number: int = 1, *, with_provenance: bool = True) -> StoredReport:
    context = ResultContext(
        identifier=result_identifier("ehr", str(number), "route", "d" * 64),
        subject="Patient/p1",
        encounter=None,
        effective={"effectiveDateTime": "2026-11-20"},
        issued=datetime(2026, 11, 23, tzinfo=UTC),
        trigger=None,
        with_provenance=with_provenance,
    )
    made = report(parse(MANIFEST), (0.5,), inputs=(), context=context, runtime=RUNTIME)
    return StoredReport.read(made.to_json())


def write(ehr: FakeEhr, *reports: StoredReport, again: bool = False) -> list[object]:
    repeated = frozenset(each.identifier for each in reports) if again else frozenset()
    fates = ResultRecipient(ehr).write(reports, repeated=repeated)
    return [fates[each.identifier] for each in reports]


def test_reports_are_written_in_transactions_of_fifty() -> None:
    ehr = FakeEhr()

    fates = write(ehr, *(make(number) for number in range(55)))

    assert ehr.calls == ["capabilities", "search Device True", "transaction 101", "transaction 10"]
    assert all(isinstance(fate, Written) for fate in fates)
    assert len(ehr.of("Device")) == 1


def test_an_ehr_without_transactions_gets_one_resource_after_the_other() -> None:
    ehr = FakeEhr()
    ehr.refused[""] = 501

    fates = write(ehr, make(1), make(2))

    assert [fate for fate in fates if isinstance(fate, Written)] == fates
    first, second = ehr.results()
    assert first["device"] == second["device"] == {"reference": "Device/device-1"}
    targets = [each["target"][0]["reference"] for each in ehr.of("Provenance")]
    assert targets == ["Observation/observation-1", "Observation/observation-2"]
    assert len(ehr.of("Device")) == 1


def test_an_ehr_without_transactions_is_asked_for_one_again_only_after_a_while() -> None:
    ehr = FakeEhr()
    ehr.refused[""] = 404
    now = [0.0]
    recipient = ResultRecipient(ehr, monotonic=lambda: now[0])

    for number in range(3):
        recipient.write([make(number)], repeated=frozenset())
    asked = [call for call in ehr.calls if call.startswith("transaction")]
    now[0] = 601
    recipient.write([make(9)], repeated=frozenset())

    assert len(asked) == 1
    assert len([call for call in ehr.calls if call.startswith("transaction")]) == 2


@pytest.mark.parametrize("is_restarted", [False, True])
def test_an_ehr_that_ignores_conditions_gets_one_device_all_the_same(is_restarted: bool) -> None:
    ehr = FakeEhr()
    ehr.ignores_conditions = True
    recipient = ResultRecipient(ehr)
    recipient.write([make(1)], repeated=frozenset())
    if is_restarted:
        recipient = ResultRecipient(ehr)

    recipient.write([make(2)], repeated=frozenset())

    assert len(ehr.of("Device")) == 1
    assert [each["device"]["reference"] for each in ehr.results()][1] == "Device/device-1"


def test_a_device_that_vanished_is_written_anew() -> None:
    ehr = FakeEhr()
    recipient = ResultRecipient(ehr)
    recipient.write([make(1)], repeated=frozenset())
    ehr.resources["Device"] = []
    ehr.refused["Observation"] = 422
    recipient.write([make(2)], repeated=frozenset())
    ehr.refused.clear()

    recipient.write([make(3)], repeated=frozenset())

    assert len(ehr.of("Device")) == 1


def test_what_is_there_already_is_found_and_not_written_again() -> None:
    ehr = FakeEhr()
    ehr.ignores_conditions = True
    write(ehr, make())

    (fate,) = write(ehr, make(), again=True)

    assert fate == Written("Observation/observation-1", 200)
    assert len(ehr.results()) == len(ehr.of("Provenance")) == 1


def test_an_ehr_that_ignores_the_search_for_identifiers_is_not_believed() -> None:
    ehr = FakeEhr()
    write(ehr, make(1))
    ehr.is_unlabelled = True
    ehr.ignores_conditions = True

    (fate,) = write(ehr, make(2), again=True)

    assert fate == Written("Observation/observation-2", 201)


def test_a_provenance_that_was_lost_is_added_to_the_observation_that_is_there() -> None:
    ehr = FakeEhr()
    write(ehr, make(with_provenance=False))

    (fate,) = write(ehr, make(), again=True)

    assert isinstance(fate, Written)
    assert ehr.of("Provenance")[0]["target"] == [{"reference": "Observation/observation-1"}]


def test_several_observations_of_one_result_are_reported_as_such() -> None:
    ehr = FakeEhr()
    ehr.ignores_conditions = True
    write(ehr, make())
    write(ehr, make())

    (fate,) = write(ehr, make(), again=True)

    assert fate == Written("Observation/observation-1", 200, is_repeated=True)


@pytest.mark.parametrize("no_transactions", [False, True], ids=["transaction", "one-by-one"])
def test_a_condition_that_matches_several_is_settled_by_a_search(no_transactions: bool) -> None:
    ehr = FakeEhr()
    ehr.ignores_conditions = True
    write(ehr, make())
    write(ehr, make())
    ehr.ignores_conditions = False
    if no_transactions:
        ehr.refused[""] = 501

    (fate,) = write(ehr, make())

    assert isinstance(fate, Written)
    assert fate.is_repeated


def test_an_ehr_that_says_no_place_is_searched_for_it() -> None:
    ehr = FakeEhr()
    write(ehr, make(1))
    ehr.refused[""] = 501
    ehr.tells_no_place = True

    (fate,) = write(ehr, make(2))

    assert fate == Written("Observation/observation-2", 200)
    assert len(ehr.of("Provenance")) == 2


def test_an_ehr_that_says_no_place_of_the_device_is_not_reached() -> None:
    ehr = FakeEhr()
    ehr.refused[""] = 501
    ehr.tells_no_place = True

    (fate,) = write(ehr, make())

    assert isinstance(fate, NotReached)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (422, NotTaken(422)),
        (400, NotTaken(400)),
        (403, NotReached("EhrRefused 403")),
        (404, NotReached("EhrRefused 404")),
    ],
)
def test_a_refusal_of_the_content_is_final_and_one_of_the_service_is_not(
    status: int, expected: object
) -> None:
    ehr = FakeEhr()
    ehr.refused["Observation"] = status

    assert write(ehr, make()) == [expected]


@pytest.mark.parametrize("refused", ["Device", "search Device"])
def test_an_ehr_without_devices_gets_the_device_inside_the_observation(refused: str) -> None:
    ehr = FakeEhr()
    ehr.refused.update({"": 501, refused: 404})

    (fate,) = write(ehr, make())

    assert isinstance(fate, Written)
    (result,) = ehr.results()
    assert result["device"] == {"reference": "#model"}
    assert result["contained"][0]["identifier"][0]["value"] == "d" * 64
    who = ehr.of("Provenance")[0]["agent"][0]["who"]
    assert who["identifier"]["value"] == "d" * 64
    assert "reference" not in who


def test_an_ehr_without_provenance_gets_the_observation_all_the_same() -> None:
    ehr = FakeEhr()
    ehr.refused["Provenance"] = 404

    (fate,) = write(ehr, make())
    (again,) = write(ehr, make(), again=True)

    assert isinstance(fate, Written)
    assert isinstance(again, Written)


def test_an_ehr_that_can_t_search_by_identifier_is_written_to_on_its_conditions() -> None:
    ehr = FakeEhr()
    write(ehr, make())
    ehr.refused["search Observation"] = 400

    (fate,) = write(ehr, make(), again=True)

    assert fate == Written("Observation/observation-1", 200)


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
def test_an_ehr_that_is_away_is_not_reached_for_all_alike(again: bool) -> None:
    ehr = FakeEhr()
    ehr.away = EhrTimeout(retry_after_s=7)

    fates = write(ehr, make(1), make(2), again=again)

    assert fates == [NotReached("EhrTimeout", 7)] * 2


def test_a_conflict_is_bad_luck_of_one_result() -> None:
    ehr = FakeEhr()
    ehr.away = EhrConflict()

    assert write(ehr, make()) == [NotReached("EhrConflict", is_of_system=False)]


def test_one_by_one_stops_knocking_when_the_ehr_goes_away() -> None:
    ehr = FakeEhr()
    ehr.refused[""] = 501
    ehr.loses_answers = 1

    fates = write(ehr, make(1), make(2), make(3))

    assert fates == [NotReached("EhrTimeout")] * 3
    device = "search Device True"
    assert ehr.calls == ["capabilities", device, "transaction 7", device, "create Device"]


@pytest.mark.parametrize(
    "change",
    [lambda made: [*made, made[0]], lambda made: made[1:]],
    ids=["more", "fewer"],
)
def test_an_answer_with_another_number_of_entries_is_not_believed(
    change: Callable[[list[object]], list[object]],
) -> None:
    ehr = FakeEhr()

    class Odd(FakeEhr):
        def transaction(self, body: bytes) -> list[object]:  # type: ignore[override]
            return change(list(ehr.transaction(body)))

    assert write(Odd(), make()) == [NotReached("EhrAnswerUnreadable")]


def test_an_entry_that_is_refused_alone_is_a_refusal_of_that_result() -> None:
    ehr = FakeEhr()

    class Lenient(FakeEhr):
        def transaction(self, body: bytes) -> list[object]:  # type: ignore[override]
            device, result, provenance = ehr.transaction(body)
            return [device, replace(result, status=422), provenance]

    assert write(Lenient(), make()) == [NotTaken(422)]


def risk() -> StoredReport:
    return StoredReport.read(made(RISK_ASSESSMENT, 0.7).to_json())


def mapped() -> StoredReport:
    return StoredReport.read(with_map().to_json())


def ehr_that(*, transactions: bool) -> FakeEhr:
    ehr = FakeEhr()
    if not transactions:
        ehr.refused[""] = 501
    return ehr


both_ways = pytest.mark.parametrize("transactions", [True, False], ids=["transaction", "alone"])


@both_ways
def test_a_risk_assessment_is_written_once_with_device_and_provenance(transactions: bool) -> None:
    ehr = ehr_that(transactions=transactions)

    (fate,) = write(ehr, risk())
    (again,) = write(ehr, risk(), again=True)

    assert fate == Written("RiskAssessment/riskassessment-1", 201)
    assert again == Written("RiskAssessment/riskassessment-1", 200)
    assert len(ehr.of("RiskAssessment")) == len(ehr.of("Provenance")) == 1
    assert ehr.of("Observation") == []


@both_ways
def test_a_map_is_written_once_as_part_of_its_result(transactions: bool) -> None:
    ehr = ehr_that(transactions=transactions)

    (fate,) = write(ehr, mapped())
    (again,) = write(ehr, mapped(), again=True)

    assert (fate, again) == (
        Written("Observation/observation-1", 201),
        Written("Observation/observation-1", 200),
    )
    (media,) = ehr.of("Media")
    assert len(media["partOf"]) == 1
    assert len(ehr.of("Provenance")[0]["target"]) == 2


@both_ways
def test_an_ehr_without_risk_assessments_gets_observations(transactions: bool) -> None:
    ehr = ehr_that(transactions=transactions)
    ehr.types = ("Observation", "Device", "Provenance")

    (fate,) = write(ehr, risk())
    (again,) = write(ehr, risk(), again=True)

    assert fate == Written("Observation/observation-1", 201, changed=(AS_OBSERVATION,))
    assert again == Written("Observation/observation-1", 200, changed=(AS_OBSERVATION,))
    assert ehr.of("RiskAssessment") == []
    assert len(ehr.results()) == 1


@both_ways
@pytest.mark.parametrize("says", [None, ("RiskAssessment", "Observation")], ids=["mute", "lies"])
def test_an_ehr_that_turns_out_to_have_no_risk_assessments_gets_observations(
    transactions: bool, says: tuple[str, ...] | None
) -> None:
    ehr = ehr_that(transactions=transactions)
    ehr.types = says
    ehr.refused["RiskAssessment"] = 404
    recipient = ResultRecipient(ehr)

    for _ in range(2):
        fates = recipient.write([risk()], repeated=frozenset())

    (fate,) = fates.values()
    assert isinstance(fate, Written)
    assert fate.changed == (AS_OBSERVATION,)
    assert len(ehr.results()) == 1
    assert ehr.calls.count("create RiskAssessment") == 1


def test_a_risk_assessment_that_is_there_is_found_although_the_ehr_forgot_that_it_has_them() -> (
    None
):
    ehr = FakeEhr()
    write(ehr, risk())
    ehr.types = ("Observation",)

    (fate,) = write(ehr, risk(), again=True)

    assert fate == Written("RiskAssessment/riskassessment-1", 200)
    assert ehr.results() == []


def test_an_ehr_that_refuses_the_content_of_a_risk_assessment_gets_no_observation_of_it() -> None:
    ehr = ehr_that(transactions=False)
    ehr.refused["RiskAssessment"] = 422

    assert write(ehr, risk()) == [NotTaken(422)]
    assert ehr.results() == []


@both_ways
def test_an_ehr_without_media_gets_the_result_without_its_map(transactions: bool) -> None:
    ehr = ehr_that(transactions=transactions)
    ehr.types = ("Observation",)

    (fate,) = write(ehr, mapped())

    assert fate == Written("Observation/observation-1", 201, changed=(WITHOUT_MEDIA,))
    assert len(ehr.of("Provenance")[0]["target"]) == 1


@pytest.mark.parametrize("status", [404, 422])
def test_an_ehr_that_does_not_take_the_map_keeps_the_result(status: int) -> None:
    ehr = FakeEhr()
    ehr.refused["Media"] = status
    recipient = ResultRecipient(ehr)

    (fate,) = recipient.write([mapped()], repeated=frozenset()).values()

    assert fate == Written("Observation/observation-1", 201, changed=(WITHOUT_MEDIA,))
    assert len(ehr.of("Provenance")) == 1


@pytest.mark.parametrize("lost", ["Media", "Provenance"])
def test_what_was_lost_beside_a_result_is_added_when_it_is_tried_again(lost: str) -> None:
    ehr = FakeEhr()
    ehr.ignores_conditions = True
    write(ehr, mapped())
    ehr.resources[lost] = []

    (fate,) = write(ehr, mapped(), again=True)

    assert isinstance(fate, Written)
    assert {name: len(ehr.of(name)) for name in ("Observation", "Media", "Provenance")} == {
        "Observation": 1,
        "Media": 1,
        "Provenance": 1,
    }
    assert ehr.of("Media")[0]["partOf"] == [{"reference": "Observation/observation-1"}] or (
        lost == "Provenance"
    )


def test_a_crash_between_result_and_map_leaves_nothing_twice() -> None:
    ehr = ehr_that(transactions=False)
    ehr.dies_at = "create Media"

    (first,) = write(ehr, mapped())
    (second,) = write(ehr, mapped(), again=True)

    assert isinstance(first, NotReached)
    assert second == Written("Observation/observation-1", 200)
    assert [len(ehr.of(name)) for name in ("Observation", "Media", "Provenance")] == [1, 1, 1]


def test_an_ehr_that_can_t_search_media_is_written_to_on_its_conditions() -> None:
    ehr = FakeEhr()
    write(ehr, mapped())
    ehr.refused["search Media"] = 400

    (fate,) = write(ehr, mapped(), again=True)

    assert fate == Written("Observation/observation-1", 200)
    assert len(ehr.of("Media")) == 1


def test_a_map_that_is_there_twice_does_not_stop_the_provenance() -> None:
    ehr = FakeEhr()
    write(ehr, mapped())
    ehr.put({**ehr.of("Media")[0], "id": "media-2"})
    ehr.resources["Provenance"] = []
    ehr.refused["search Media"] = 400

    (fate,) = write(ehr, mapped(), again=True)

    assert fate == Written("Observation/observation-1", 200)
    assert len(ehr.of("Provenance")[0]["target"]) == 1


def test_an_ehr_that_goes_away_while_a_result_is_completed_is_tried_again() -> None:
    ehr = FakeEhr()
    write(ehr, mapped())
    ehr.dies_at = "search Provenance True"

    (fate,) = write(ehr, mapped(), again=True)

    assert fate == NotReached("EhrUnreachable")
