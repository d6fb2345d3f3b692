"""Which rungs a result may take, and why each higher one was left."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.ladder import TYPES, IfLabelLost, Left, Rung, Terms, ladder, said

FHIR = tuple(TYPES)


def anything(_: str) -> str | None:
    return None


def only(*types: str):
    return lambda resource_type: None if resource_type in types else f"No {resource_type} there."


def test_the_form_that_the_model_wants_comes_first() -> None:
    assert ladder("Observation", terms=Terms(), why_not=anything).rungs[0] is Rung.OBSERVATION
    assert ladder("RiskAssessment", terms=Terms(), why_not=anything).rungs[:2] == (
        Rung.RISK_ASSESSMENT,
        Rung.OBSERVATION,
    )


def test_a_result_that_is_no_risk_is_never_written_as_one() -> None:
    found = ladder("Observation", terms=Terms(), why_not=anything)

    assert Rung.RISK_ASSESSMENT not in found.rungs
    assert "The model's result is no risk." in {each.why for each in found.left}


def test_what_the_ehr_can_t_keep_is_left_with_its_reason() -> None:
    found = ladder("Observation", terms=Terms(), why_not=only("DocumentReference"))

    assert found.rungs == (Rung.DOCUMENT_REFERENCE, Rung.WORKLIST)
    left = found.above(Rung.DOCUMENT_REFERENCE)
    assert left[0] == Left(Rung.OBSERVATION, "No Observation there.")
    assert [each.rung for each in left] == [
        Rung.OBSERVATION,
        Rung.RISK_ASSESSMENT,
        Rung.DIAGNOSTIC_REPORT,
    ]


def test_a_reason_of_several_rungs_is_said_once() -> None:
    left = [
        Left(Rung.OBSERVATION, "No."),
        Left(Rung.TASK, "Never."),
        Left(Rung.COMMUNICATION, "No."),
    ]

    assert said(left) == "observation, communication: No. task: Never."


def test_an_observation_in_place_of_a_risk_says_why_it_is_none() -> None:
    found = ladder("RiskAssessment", terms=Terms(), why_not=only("Observation"))

    (left,) = found.above(Rung.OBSERVATION)
    assert said([left]) == "risk-assessment: No RiskAssessment there."


def test_a_site_may_fix_rungs_and_forbid_them() -> None:
    fixed = Terms(only=frozenset({Rung.DIAGNOSTIC_REPORT}))
    forbidden = Terms(never=frozenset({Rung.OBSERVATION, Rung.WORKLIST}))

    assert ladder("Observation", terms=fixed, why_not=anything).rungs == (Rung.DIAGNOSTIC_REPORT,)
    found = ladder("Observation", terms=forbidden, why_not=anything)
    assert found.rungs[0] is Rung.DIAGNOSTIC_REPORT
    assert Rung.WORKLIST not in found.rungs


def test_what_nothing_here_sends_is_left_until_something_does() -> None:
    without = ladder("Observation", terms=Terms(), why_not=only())
    with_one = ladder("Observation", terms=Terms(), why_not=only(), senders=[Rung.HL7V2_ORU])

    assert without.rungs == (Rung.WORKLIST,)
    assert with_one.rungs == (Rung.HL7V2_ORU, Rung.WORKLIST)


def test_what_a_route_says_itself_wins_over_its_system() -> None:
    system = Terms(
        only=frozenset({Rung.OBSERVATION}),
        never=frozenset({Rung.TASK}),
        if_label_lost=IfLabelLost.STOP,
        codes={("a", "1"): ("", "x", "")},
    )
    route = Terms(
        only=frozenset({Rung.WORKLIST}),
        never=frozenset({Rung.COMMUNICATION}),
        codes={("a", "2"): ("", "y", "")},
    )

    both = system.under(route)

    assert both.only == {Rung.WORKLIST}
    assert both.never == {Rung.TASK, Rung.COMMUNICATION}
    assert both.if_label_lost is IfLabelLost.STOP
    assert both.codes == {("a", "1"): ("", "x", ""), ("a", "2"): ("", "y", "")}
    assert system.under(Terms()) == system


@settings(max_examples=50)
@given(
    wanted=st.sampled_from(["Observation", "RiskAssessment"]),
    limits=st.frozensets(st.sampled_from(list(Rung))),
    never=st.frozensets(st.sampled_from(list(Rung))),
    types=st.frozensets(st.sampled_from(sorted(TYPES.values()))),
)
def test_every_rung_is_used_or_left_and_none_that_is_barred(wanted, limits, never, types) -> None:
    found = ladder(wanted, terms=Terms(only=limits, never=never), why_not=only(*types))

    assert sorted([*found.rungs, *(each.rung for each in found.left)]) == sorted(Rung)
    assert not set(found.rungs) & never
    assert not limits or set(found.rungs) <= limits
    assert all(TYPES[rung] in types for rung in found.rungs if rung in FHIR)
