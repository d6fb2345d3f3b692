"""How what moved an answer is put into words."""

from math import isfinite, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.explained import (
    Drawing,
    Effect,
    Explained,
    NotExplained,
    log_odds_change,
    shown_odds,
)
from tests.result_models import CLASSES, REGRESSION, RISK, SCORE


def explained(*changes: float, total: float | None = None, **more: object) -> Explained:
    told: dict[str, object] = {
        "parts": "inputs",
        "output": RISK.outputs[0],
        "effects": tuple(Effect(f"part {n}", change) for n, change in enumerate(changes)),
        "total": sum(changes) if total is None else total,
        "most": 5,
    }
    return Explained(**(told | more))  # type: ignore[arg-type]


def test_the_parts_that_moved_it_most_are_named_first_with_their_percentage_points() -> None:
    text = explained(0.02, 0.31, -0.12).describe()

    assert text == (
        "What moved it, each input hidden in turn: part 1 +31 points, "
        "part 2 \N{MINUS SIGN}12 points, part 0 +2 points. "
        "All hidden together: +21 points, which is their sum."
    )


def test_effects_that_do_not_add_up_are_said_to_be_an_order_only() -> None:
    told = explained(0.3, 0.15, total=0.6)

    assert not told.is_additive
    assert told.gap == pytest.approx(0.15)
    assert told.describe().endswith(
        "All hidden together: +60 points, but their sum is +45 points: they do not add up, so "
        "read them as an order only."
    )


def test_only_so_many_parts_are_named_and_the_rest_is_summed() -> None:
    text = explained(0.5, 0.1, 0.02, 0.001, most=2).describe()

    assert "part 0 +50 points, part 1 +10 points, 2 others +2 points." in text


def test_one_part_that_is_left_is_called_other() -> None:
    assert "1 other +2 points." in explained(0.5, 0.02, most=1).describe()


def test_a_part_that_moved_nothing_is_not_named() -> None:
    told = explained(0.4, 0.004, -0.004)

    assert [each.part for each in told.named] == ["part 0"]
    assert "2 others +0 points" in told.describe()


def test_where_no_part_alone_moved_it_that_is_said() -> None:
    assert explained(0.001, total=0.4).describe() == (
        "What moved it, each input hidden in turn: no single one changes it on its own. "
        "All hidden together: +40 points."
    )


def test_a_class_a_score_and_a_quantity_are_told_in_their_own_units() -> None:
    score = explained(2.0, -1.0, output=SCORE.outputs[0]).describe()
    quantity = explained(3.14159, -0.00021, output=REGRESSION.outputs[0]).describe()
    choice = explained(
        0.23, parts="phrases", output=CLASSES.outputs[0], subject="Cardiology"
    ).describe()

    assert "part 0 +2 points, part 1 \N{MINUS SIGN}1 point." in score
    assert "part 0 +3.1 mL/min/1.73 m², part 1 \N{MINUS SIGN}0.00021 mL/min/1.73 m²" in quantity
    assert choice.startswith(
        "The words that carried it, each phrase hidden in turn (Cardiology): “part 0” +23 points."
    )


def squares(*effects: tuple[float, float], drawn: bool = True, value: float = 0.9) -> str:
    told = [Effect("0:0", change, log_odds) for change, log_odds in effects]
    drawing = Drawing(b"", 1, 1) if drawn else None
    return explained(
        parts="squares", effects=tuple(told), total=0.7, drawing=drawing, value=value
    ).describe()


def test_an_image_is_told_by_the_range_of_its_squares() -> None:
    text = squares((0.42, 0.0), (-0.03, 0.0), (0.0, 0.0))

    assert "between \N{MINUS SIGN}3 points and +42 points; the map shows where." in text
    assert text.endswith("All hidden together: +70 points.")


def test_a_probability_at_its_end_is_told_by_the_factors_of_its_odds() -> None:
    numbers = explained(
        effects=(Effect("Urea", 0.0, log(2.7)), Effect("Creatinine", 0.0, -log(64))),
        total=0.08,
    ).describe()
    picture = squares((0.0001, log(720)), (0.0, -log(3)))

    assert "on its own; its odds by Creatinine ÷64, Urea ×2.7. All hidden" in numbers  # noqa: RUF001
    assert (
        "no square alone changes it by as much as would be shown, its odds by up to "
        "÷3 and ×720; the map shows where." in picture  # noqa: RUF001
    )


def test_an_image_without_any_effect_has_no_map_and_says_so() -> None:
    text = squares((0.0, 0.01), drawn=False)

    assert "no square alone changes it by as much as would be shown; too little for a map." in text


def test_a_map_that_mostly_lowers_a_high_answer_says_how_the_two_go_together() -> None:
    lowers = squares((-0.05, -log(7.8)), (0.01, log(1.2)))
    raises = squares((0.05, log(7.8)), (-0.01, -log(1.2)))

    assert "lowers the value than raises it: no single square explains why it is high." in lowers
    assert "More of the image" not in raises
    assert "More of the image" not in squares((-0.05, -1.0), drawn=False)
    assert "More of the image" not in squares((-0.05, -log(7.8)), value=0.2)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_change_of_the_odds_has_the_sign_of_the_change_and_an_end(
    before: float, after: float
) -> None:
    change = log_odds_change(before, before - after)

    assert isfinite(change)
    assert change * (before - after) >= 0


@pytest.mark.parametrize(
    ("factor", "words"),
    [(10, "×10"), (0.1, "÷10"), (390.4, "×390"), (1.26, "×1.3")],  # noqa: RUF001
)
def test_a_factor_is_written_as_one(factor: float, words: str) -> None:
    assert shown_odds(log(factor)) == words


def test_what_could_not_be_hidden_is_named() -> None:
    assert explained(0.1, kept=("Age",)).describe().endswith(" Not hidden: Age.")


def test_an_explanation_that_is_not_there_says_why_and_has_no_picture() -> None:
    missing = NotExplained("it took longer than the model may take")

    assert missing.describe() == "No explanation: it took longer than the model may take."
    assert missing.drawing is None


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20))
def test_effects_whose_sum_is_the_total_always_add_up(changes: list[float]) -> None:
    assert explained(*changes).is_additive


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.floats(0.02, 1))
def test_a_gap_larger_than_can_be_shown_is_never_called_a_sum(
    changes: list[float], gap: float
) -> None:
    told = explained(*changes, total=sum(changes) + gap * max(1, len(changes)))

    assert not told.is_additive
    assert "their sum." not in told.describe()
