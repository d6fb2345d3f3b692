from dataclasses import replace

from benchmarks.page import Page, merged, read
from benchmarks.pictures import draw_charts
from benchmarks.result import Chart
from tests.unit.benchmarks.test_result import result

CHART = Chart("CPU", "ms", bars={"Nadi": 1.5})


def page(*results, day="2026-11-26"):
    return Page(day, {"CPU": "one"}, results)


def test_a_page_is_written_with_its_pictures_and_read_back(tmp_path):
    files = page(result(seconds=61)).write(tmp_path)

    assert {file.name for file in files} == {
        "performance.json",
        "performance.md",
        "performance-validation.png",
    }
    assert all(file.stat().st_size for file in files)
    assert read(tmp_path).results == [result(seconds=61)]
    assert "in 2 minutes" in (tmp_path / "performance.md").read_text("utf-8")


def test_a_picture_shows_what_was_measured(tmp_path):
    short, long = (replace(CHART, bars={"Nadi": 1.5, "peer": peer}) for peer in (2.0, 80.0))

    draw_charts([short, CHART, CHART], tmp_path / "one.png", columns=2)
    draw_charts([long, CHART, CHART], tmp_path / "other.png", columns=2)

    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "other.png").read_bytes()


def test_what_a_person_says_of_the_figures_is_taken_over(tmp_path):
    (tmp_path / "performance-notes.md").write_text("## Budget\n\nInference is the largest.\n")

    page(result()).write(tmp_path)

    assert "Inference is the largest." in (tmp_path / "performance.md").read_text("utf-8")


def test_nothing_is_read_where_nothing_was_measured_or_in_an_older_form(tmp_path):
    assert read(tmp_path) is None

    (tmp_path / "performance.json").write_text('{"rounds": []}')

    assert read(tmp_path) is None


def test_a_benchmark_measured_again_takes_the_place_of_its_older_self():
    older = page(result(number="B10"), result(values={"nadi_us": 9.0}), day="2026-11-25")

    made = merged(older, page(result()))

    assert [each.number for each in made.results] == ["B1", "B10"]
    assert made.results[0].values == {"nadi_us": 1.5}
    assert made.day == "2026-11-26"


def test_a_loss_stands_on_the_page():
    text = page(result(number="B8", values={"times_plain": 3.4})).markdown()

    assert "| ≥ 10 | 3.4 | **missed** |" in text
