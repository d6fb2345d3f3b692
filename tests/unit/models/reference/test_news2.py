"""news2 against the published table, written down here a second time and by hand.

Source: Royal College of Physicians, National Early Warning Score (NEWS) 2, London, 2017, chart 1.
"""

import importlib.util
from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.registry import REFERENCE_MODELS, load
from models.runtime import Runtime

MODEL = load(REFERENCE_MODELS / "news2")
RUNTIME = Runtime(MODEL)
IDS = [each.id for each in MODEL.manifest.inputs]
NAMES = [each.name for each in MODEL.manifest.outputs]
NAN = float("nan")
WELL = {
    "age": 40.0, "respiration": 15.0, "saturation": 98.0, "saturation-scale": 1.0,
    "air-or-oxygen": 0.0, "oxygen-flow": NAN, "oxygen-concentration": NAN, "systolic": 120.0,
    "pulse": 70.0, "consciousness": 0.0, "temperature": 37.0,
}  # fmt: skip
SPOT_1, SPOT_2 = {}, {"saturation-scale": 2.0}
AIR, OXYGEN = {"air-or-oxygen": 0.0}, {"air-or-oxygen": 1.0}

# Sign, its points, first and last value of the cell, what else is so. One line a cell.
CELLS = [
    ("respiration", 3, 1, 8, {}),
    ("respiration", 1, 9, 11, {}),
    ("respiration", 0, 12, 20, {}),
    ("respiration", 2, 21, 24, {}),
    ("respiration", 3, 25, 100, {}),
    *[
        ("saturation", points, first, last, SPOT_1 | gas)
        for gas in (AIR, OXYGEN)
        for points, first, last in ((3, 20, 91), (2, 92, 93), (1, 94, 95), (0, 96, 100))
    ],
    *[
        ("saturation", points, first, last, SPOT_2 | gas)
        for gas in (AIR, OXYGEN)
        for points, first, last in ((3, 20, 83), (2, 84, 85), (1, 86, 87), (0, 88, 92))
    ],
    ("saturation", 0, 93, 100, SPOT_2 | AIR),
    ("saturation", 1, 93, 94, SPOT_2 | OXYGEN),
    ("saturation", 2, 95, 96, SPOT_2 | OXYGEN),
    ("saturation", 3, 97, 100, SPOT_2 | OXYGEN),
    ("systolic", 3, 30, 90, {}),
    ("systolic", 2, 91, 100, {}),
    ("systolic", 1, 101, 110, {}),
    ("systolic", 0, 111, 219, {}),
    ("systolic", 3, 220, 300, {}),
    ("pulse", 3, 10, 40, {}),
    ("pulse", 1, 41, 50, {}),
    ("pulse", 0, 51, 90, {}),
    ("pulse", 1, 91, 110, {}),
    ("pulse", 2, 111, 130, {}),
    ("pulse", 3, 131, 300, {}),
    ("temperature", 3, 20.0, 35.0, {}),
    ("temperature", 1, 35.1, 36.0, {}),
    ("temperature", 0, 36.1, 38.0, {}),
    ("temperature", 1, 38.1, 39.0, {}),
    ("temperature", 2, 39.1, 46.0, {}),
]


def answers(*cases):
    rows = [[(WELL | case)[name] for name in IDS] for case in cases]
    told = RUNTIME.predict({"vital_signs": np.array(rows, dtype=np.float32)})
    return [dict(zip(NAMES, row.tolist(), strict=True)) for row in told]


def whole_cell(sign, first, last):
    """Every value of a cell that a chart can hold."""
    tenths = 1 if sign == "temperature" else 10
    return [each / 10 for each in range(round(first * 10), round(last * 10) + 1, tenths)]


@pytest.mark.parametrize(("sign", "points", "first", "last", "more"), CELLS)
def test_every_value_of_every_cell_scores_as_published(sign, points, first, last, more):
    told = answers(*({sign: value} | more for value in whole_cell(sign, first, last)))

    assert {each[f"{sign}-points"] for each in told} == {points}
    others = {name for name in NAMES[4:] if name not in {f"{sign}-points", "oxygen-points"}}
    assert all(each[name] == 0 for each in told for name in others)
    assert {each["oxygen-points"] for each in told} == {2 * more.get("air-or-oxygen", 0)}


def test_the_cells_leave_no_value_out_and_none_twice():
    columns = {}
    for sign, _, first, last, more in CELLS:
        columns.setdefault((sign, tuple(sorted(more.items()))), []).append((first, last))

    for (sign, _), cells in columns.items():
        step = 0.1 if sign == "temperature" else 1
        low, high = MODEL.manifest.input(sign).plausible
        cells.sort()
        assert (cells[0][0], cells[-1][1]) == (low, high)
        for (_, last), (first, _) in pairwise(cells):
            assert first == pytest.approx(last + step)


@pytest.mark.parametrize(
    ("sign", "value", "points"),
    [
        ("temperature", 35.04, 3), ("temperature", 35.05, 1), ("temperature", 36.04, 1),
        ("temperature", 36.05, 0), ("temperature", 38.04, 0), ("temperature", 38.05, 1),
        ("temperature", 39.04, 1), ("temperature", 39.05, 2), ("saturation", 91.4, 3),
        ("saturation", 91.5, 2), ("saturation", 95.49, 1), ("saturation", 95.5, 0),
        ("respiration", 8.5, 1), ("respiration", 24.4, 2), ("respiration", 24.5, 3),
        ("pulse", 130.5, 3), ("systolic", 90.4, 3), ("systolic", 219.5, 3),
    ],
)  # fmt: skip
def test_a_value_between_two_cells_counts_as_a_nurse_would_round_it(sign, value, points):
    assert answers({sign: value})[0][f"{sign}-points"] == points


@pytest.mark.parametrize("celsius", [34.9, 35.0, 35.1, 36.0, 36.1, 38.0, 38.1, 39.0, 39.1])
def test_a_tenth_of_a_degree_survives_the_way_through_fahrenheit_and_float32(celsius):
    fahrenheit = round(celsius * 9 / 5 + 32, 2)

    plain, converted = answers({"temperature": celsius}, {"temperature": (fahrenheit - 32) * 5 / 9})

    assert plain == converted


@pytest.mark.parametrize(
    ("told", "points"),
    [
        ({"air-or-oxygen": 0.0}, 0),
        ({"air-or-oxygen": 1.0}, 2),
        ({"air-or-oxygen": NAN, "oxygen-flow": 0.0}, 0),
        ({"air-or-oxygen": NAN, "oxygen-flow": 0.25}, 2),
        ({"air-or-oxygen": NAN, "oxygen-concentration": 20.9}, 0),
        ({"air-or-oxygen": NAN, "oxygen-concentration": 21.0}, 0),
        ({"air-or-oxygen": NAN, "oxygen-concentration": 22.0}, 2),
        ({"air-or-oxygen": 0.0, "oxygen-flow": 2.0}, 2),
        ({"oxygen-flow": 0.0, "oxygen-concentration": 35.0}, 2),
    ],
)
def test_oxygen_counts_when_anything_says_so(told, points):
    assert answers(told)[0]["oxygen-points"] == points


def test_whatever_is_not_alert_scores_three():
    alert, other = answers({"consciousness": 0.0}, {"consciousness": 3.0})

    assert (alert["consciousness-points"], other["consciousness-points"]) == (0, 3)
    values = {each.display: each.value for each in MODEL.manifest.input("consciousness").categories}
    assert {word for word, value in values.items() if value == 0} == {"Alert", "Mentally alert"}
    assert set(values.values()) == {0, 3}


@pytest.mark.parametrize("sign", [name for name in WELL if name != "age"])
def test_what_is_not_known_is_never_taken_for_normal(sign):
    silent = WELL | {sign: NAN}

    told = answers(silent)[0]

    if sign in {"oxygen-flow", "oxygen-concentration"}:
        assert told["total"] == 0
    else:
        assert np.isnan([told["total"], told["clinical-risk"], told["red-signs"]]).all()
        with pytest.raises(ValueError, match="output total"):
            MODEL.manifest.read(list(told.values()))


@pytest.mark.parametrize(("name", "value"), [("saturation-scale", 3.0), ("consciousness", 1.0)])
def test_a_number_that_stands_for_nothing_gives_no_score(name, value):
    assert np.isnan(answers({name: value})[0]["total"])


signs = st.fixed_dictionaries(
    {
        "age": st.integers(16, 130),
        "respiration": st.floats(1, 100, width=32),
        "saturation": st.floats(20, 100, width=32),
        "saturation-scale": st.sampled_from([1.0, 2.0]),
        "air-or-oxygen": st.sampled_from([0.0, 1.0, NAN]),
        "oxygen-flow": st.one_of(st.just(NAN), st.floats(0, 100, width=32)),
        "oxygen-concentration": st.floats(20, 100, width=32),
        "systolic": st.floats(30, 300, width=32),
        "pulse": st.floats(10, 300, width=32),
        "consciousness": st.sampled_from([0.0, 3.0]),
        "temperature": st.floats(20, 46, width=32),
    }
)


@given(signs)
def test_the_total_is_the_sum_of_its_parts_and_the_risk_follows(case):
    (told,) = answers(case)
    points = [told[name] for name in NAMES[4:]]

    assert len(points) == 7
    assert told["total"] == sum(points) <= 20
    assert told["red-signs"] == points.count(3)
    assert told["scale"] == case["saturation-scale"]
    by_total = 3 if told["total"] >= 7 else 2 if told["total"] >= 5 else 0
    assert told["clinical-risk"] == (by_total or min(1, points.count(3)))
    assert len(MODEL.manifest.read(list(told.values()))) == len(NAMES)


@given(signs, st.sampled_from([1.0, 2.0]))
def test_oxygen_never_scores_less_than_air(case, scale):
    dark = case | {"oxygen-flow": 0.0, "oxygen-concentration": 21.0, "saturation-scale": scale}

    air, oxygen = answers(dark | AIR, dark | OXYGEN)

    assert oxygen["total"] >= air["total"] + 2


@pytest.mark.parametrize(
    ("case", "total", "label"),
    [
        ({}, 0, "low"),
        ({"respiration": 21.0, "pulse": 115.0}, 4, "low"),
        ({"respiration": 8.0}, 3, "low to medium"),
        ({"consciousness": 3.0, "pulse": 100.0}, 4, "low to medium"),
        ({"respiration": 21.0, "pulse": 115.0, "temperature": 38.5}, 5, "medium"),
        ({"respiration": 25.0, "systolic": 90.0}, 6, "medium"),
        ({"respiration": 25.0, "systolic": 90.0, "temperature": 38.5}, 7, "high"),
    ],
)
def test_one_alarming_sign_shows_in_the_first_sentence(case, total, label):
    (told,) = answers(case)

    first = MODEL.manifest.read(list(told.values()))[0]

    assert first.value == total
    assert first.label == label
    summary = first.describe(used=7, total=11)
    assert summary.startswith(f"NEWS2 {total}: {label} clinical risk. ")
    assert ("One vital sign alone scores 3" in summary) == (label == "low to medium")


def test_the_worst_of_everything_is_twenty():
    worst = {"respiration": 30.0, "saturation": 80.0, "systolic": 80.0, "pulse": 140.0,
             "consciousness": 3.0, "temperature": 34.0}  # fmt: skip

    assert [each["total"] for each in answers(worst | AIR, worst | OXYGEN)] == [18, 20]


def test_hiding_a_sign_behind_its_baseline_takes_away_exactly_its_points():
    ill = {"respiration": 22.0, "saturation": 93.0, "systolic": 95.0, "pulse": 120.0,
           "consciousness": 3.0, "temperature": 39.5, "air-or-oxygen": 1.0}  # fmt: skip
    (before,) = answers(ill)

    for name in ill:
        (after,) = answers(ill | {name: MODEL.manifest.input(name).baseline})
        points = "oxygen" if name == "air-or-oxygen" else name
        assert before["total"] - after["total"] == before[f"{points}-points"] > 0


def test_nothing_in_the_graph_is_trained():
    graph = onnx.load_from_string(MODEL.weights()).graph

    assert max(np.prod(each.dims) for each in graph.initializer) <= 6


def test_building_it_anew_gives_the_same_files(tmp_path):
    spec = importlib.util.spec_from_file_location("build_news2", MODEL.folder / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)

    build.main(tmp_path)

    for name in ("model.onnx", "golden.json", "manifest.toml"):
        assert (tmp_path / name).read_bytes() == (MODEL.folder / name).read_bytes()


def test_the_two_kernel_settings_agree_to_the_last_bit():
    batch, expected = MODEL.golden_cases()

    for exact in (False, True):
        assert np.array_equal(Runtime(MODEL, exact_int8=exact).predict(batch), expected)


def test_the_golden_cases_meet_every_cell_of_the_table():
    batch, _ = MODEL.golden_cases()
    rows = [dict(zip(IDS, row, strict=True)) for row in batch["vital_signs"].tolist()]

    unmet = [
        (sign, points, more)
        for sign, points, first, last, more in CELLS
        if not any(
            first - 0.01 <= row[sign] <= last + 0.01
            and row["saturation-scale"] == more.get("saturation-scale", 1)
            and row["air-or-oxygen"] == more.get("air-or-oxygen", 0)
            for row in rows
        )
    ]

    assert unmet == []
    assert {row["consciousness"] for row in rows} == {0, 3}
