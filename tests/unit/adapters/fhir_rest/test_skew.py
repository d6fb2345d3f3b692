"""How far an EHR's clock is from ours is told with how sure that is."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.fhir_rest.skew import measured, skew_of

NOW = datetime(2026, 11, 26, 12, 0, 0, 250_000, tzinfo=UTC)
SECONDS = st.floats(0, 20, allow_nan=False)


@given(st.floats(-9e6, 9e6, allow_nan=False), SECONDS, SECONDS, st.floats(0, 1))
@settings(max_examples=200)
def test_the_truth_is_never_further_away_than_is_said(
    ahead_s: float, there_s: float, back_s: float, kept_s: float
) -> None:
    written = NOW + timedelta(seconds=there_s + ahead_s - kept_s)
    answered = NOW + timedelta(seconds=there_s + back_s)

    skew = skew_of(written.replace(microsecond=0), NOW, answered)

    assert abs(skew.ahead_s - ahead_s) <= skew.uncertainty_s + 1e-5
    assert skew.uncertainty_s <= 1 + (there_s + back_s) / 2 + 1e-5
    assert skew.surely_s <= abs(ahead_s) + 1e-5


def test_the_fastest_answer_is_believed() -> None:
    moments = iter([0, 8, 10, 10.2, 20, 26])

    skew = measured(
        lambda: datetime(2026, 11, 26, 12, 1, 40, tzinfo=UTC),
        lambda: datetime(2026, 11, 26, 12, 0, tzinfo=UTC) + timedelta(seconds=next(moments)),
    )

    assert skew is not None
    assert (round(skew.ahead_s, 3), round(skew.uncertainty_s, 3)) == (90.9, 1.1)


def test_an_answer_without_a_date_measures_nothing() -> None:
    assert measured(lambda: None, lambda: NOW) is None
