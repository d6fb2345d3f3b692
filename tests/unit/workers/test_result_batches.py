"""An EHR that takes batches and no transactions gets every result once, with what belongs to it."""

from collections.abc import Sequence

import pytest

from adapters.fhir_rest.answers import WriteOutcome
from gateway.core.write_back import AS_OBSERVATION, StoredReport
from tests.hospital import FakeEhr, away
from tests.result_models import RISK_ASSESSMENT, made, with_map
from tests.unit.workers.test_result_recipient import make
from workers.fates import NotReached, NotTaken, Withheld, Written
from workers.result_recipient import ResultRecipient


def batch_ehr() -> FakeEhr:
    ehr = FakeEhr()
    ehr.refused[""] = 501
    ehr.takes_batches = True
    return ehr


def write(ehr: FakeEhr, reports: Sequence[StoredReport], *, again: bool = False) -> list[object]:
    repeated = frozenset(each.identifier for each in reports) if again else frozenset()
    fates = ResultRecipient(ehr).write(reports, repeated=repeated)
    return [fates[each.identifier] for each in reports]


def bundles(ehr: FakeEhr) -> list[str]:
    return [call for call in ehr.calls if call.startswith("batch")]


def test_results_go_in_one_batch_and_their_provenances_in_a_second() -> None:
    ehr = batch_ehr()

    fates = write(ehr, [make(number) for number in range(52)])

    assert all(isinstance(fate, Written) for fate in fates)
    assert bundles(ehr) == ["batch 50", "batch 50", "batch 2", "batch 2"]
    assert [call for call in ehr.calls if call.startswith("create")] == ["create Device"]
    assert {each["device"]["reference"] for each in ehr.results()} == {"Device/device-1"}
    targets = [each["target"][0]["reference"] for each in ehr.of("Provenance")]
    assert targets == [f"Observation/{each['id']}" for each in ehr.results()]
    assert len(targets) == 52


def test_an_ehr_that_does_not_speak_of_batches_gets_none() -> None:
    ehr = batch_ehr()
    ehr.takes_batches = False

    fates = write(ehr, [make(1), make(2)])

    assert all(isinstance(fate, Written) for fate in fates)
    assert bundles(ehr) == []


def test_an_ehr_that_takes_transactions_gets_no_batch() -> None:
    ehr = FakeEhr()
    ehr.takes_batches = True

    write(ehr, [make(1), make(2)])

    assert ehr.calls == ["capabilities", "search Device True", "transaction 5"]


@pytest.mark.parametrize("status", [400, 413, 501])
def test_an_ehr_that_refuses_the_batch_it_spoke_of_gets_single_ones_for_a_while(
    status: int,
) -> None:
    ehr = batch_ehr()
    ehr.refused["batch"] = status
    now = [0.0]
    recipient = ResultRecipient(ehr, monotonic=lambda: now[0])

    for number in range(3):
        recipient.write([make(2 * number), make(2 * number + 1)], repeated=frozenset())
    asked = len(bundles(ehr))
    now[0] = 601
    recipient.write([make(10), make(11)], repeated=frozenset())

    assert len(ehr.results()) == len(ehr.of("Provenance")) == 8
    assert asked == 1
    assert len(bundles(ehr)) == 2


def test_an_entry_that_is_refused_for_good_is_given_up_and_its_neighbours_are_written() -> None:
    ehr = batch_ehr()
    reports = [make(number) for number in range(3)]
    ehr.entry_statuses[reports[1].identifier] = 422
    create = ehr.create

    def refusing(kind: str, body: bytes, *, if_none_exist: str | None = None) -> WriteOutcome:
        if reports[1].identifier.encode() in body:
            ehr.refused[kind] = 422
        try:
            return create(kind, body, if_none_exist=if_none_exist)
        finally:
            ehr.refused.pop(kind, None)

    ehr.create = refusing  # type: ignore[method-assign]

    fates = write(ehr, reports)

    assert isinstance(fates[0], Written)
    assert fates[1] == NotTaken(422)
    assert isinstance(fates[2], Written)


@pytest.mark.parametrize("status", [409, 429, 500, 503])
def test_an_entry_with_bad_luck_waits_without_the_ehr_being_taken_for_away(status: int) -> None:
    ehr = batch_ehr()
    reports = [make(number) for number in range(3)]
    ehr.entry_statuses[reports[1].identifier] = status

    fates = write(ehr, reports)

    assert isinstance(fates[1], NotReached)
    assert not fates[1].is_of_system
    assert [isinstance(fate, Written) for fate in fates] == [True, False, True]
    assert len(ehr.results()) == 2


def test_an_entry_that_was_refused_in_the_batch_alone_is_written_alone() -> None:
    ehr = batch_ehr()
    reports = [make(number) for number in range(3)]
    ehr.entry_statuses[reports[1].identifier] = 400

    fates = write(ehr, reports)

    assert all(isinstance(fate, Written) for fate in fates)
    assert len(ehr.results()) == len(ehr.of("Provenance")) == 3


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_an_answer_that_is_lost_at_any_step_leaves_nothing_twice_and_nothing_out(
    lost: int,
) -> None:
    ehr = batch_ehr()
    ehr.ignores_conditions = True
    reports = [make(number) for number in range(3)]
    answer, answers = ehr._answer, iter(range(1, 9))

    def lose_one() -> None:
        ehr.loses_answers = int(next(answers) == lost)
        answer()

    ehr._answer = lose_one  # type: ignore[method-assign]

    first = write(ehr, reports)
    second = write(ehr, reports, again=True)

    assert all(isinstance(fate, NotReached) for fate in first)
    assert all(isinstance(fate, Written) for fate in second)
    assert len(ehr.results()) == len(ehr.of("Provenance")) == 3


def test_an_ehr_that_is_away_is_not_reached_for_all_alike() -> None:
    ehr = batch_ehr()
    recipient = ResultRecipient(ehr)
    recipient.write([make(1), make(2)], repeated=frozenset())
    ehr.away = away()

    fates = recipient.write([make(3), make(4)], repeated=frozenset())

    assert set(fates.values()) == {NotReached("EhrUnreachable")}


def test_what_the_gate_withholds_is_not_in_the_batch() -> None:
    ehr = batch_ehr()
    reports = [make(number) for number in range(3)]
    denied = reports[1].identifier

    def gate(asked: Sequence[StoredReport]) -> set[str]:
        return {each.identifier for each in asked} - {denied}

    fates = ResultRecipient(ehr).write(reports, repeated=frozenset(), gate=gate)
    none = ResultRecipient(ehr).write([make(8), make(9)], repeated=frozenset(), gate=lambda _: ())

    assert fates[denied] == Withheld()
    assert set(none.values()) == {Withheld()}
    assert len(ehr.results()) == len(ehr.of("Provenance")) == 2


def test_an_answer_with_another_number_of_entries_is_not_believed() -> None:
    ehr = batch_ehr()
    batch = ehr._batch
    ehr._batch = lambda entries: batch(entries)[:-1]  # type: ignore[method-assign]

    fates = write(ehr, [make(1), make(2)])

    assert set(fates) == {NotReached("EhrAnswerUnreadable")}


def test_an_ehr_that_says_no_place_is_searched_for_it() -> None:
    ehr = batch_ehr()
    write(ehr, [make(0)])
    ehr.tells_no_place = True

    fates = write(ehr, [make(1), make(2)])

    assert [fate.location for fate in fates if isinstance(fate, Written)] == [
        "Observation/observation-2",
        "Observation/observation-3",
    ]
    assert len(ehr.of("Provenance")) == 3


def test_an_ehr_without_provenance_gets_the_results_all_the_same() -> None:
    ehr = batch_ehr()
    ehr.refused["Provenance"] = 404

    fates = write(ehr, [make(1), make(2)])

    assert all(isinstance(fate, Written) for fate in fates)
    assert len(ehr.results()) == 2


def test_an_ehr_that_turns_out_to_have_no_risk_assessments_gets_observations() -> None:
    ehr = batch_ehr()
    ehr.refused["RiskAssessment"] = 404
    reports = [StoredReport.read(made(RISK_ASSESSMENT, 0.7).to_json()), make(2)]

    fates = write(ehr, reports)

    assert isinstance(fates[0], Written)
    assert fates[0].changed == (AS_OBSERVATION,)
    assert isinstance(fates[1], Written)


def test_a_map_goes_with_its_result() -> None:
    ehr = batch_ehr()
    reports = [StoredReport.read(with_map().to_json()), make(2)]

    fates = write(ehr, reports)

    assert all(isinstance(fate, Written) for fate in fates)
    assert len(ehr.of("Media")) == 1
    assert len(ehr.of("Provenance")) == 2
