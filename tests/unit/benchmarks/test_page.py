from dataclasses import replace

from benchmarks.page import Page, merged, picture_of, read
from benchmarks.pictures import draw_charts
from benchmarks.result import BUDGET, Chart
from tests.unit.benchmarks.test_result import result

CHART = Chart("CPU", "ms", bars={"Nadi": 1.5})


FAR = {"number": "B10", "name": "growth", "options": "--events 1000000"}


def page(*results, day="2026-11-26", bench_s=None, cpu="one"):
    return Page(day, {"CPU": cpu}, results, bench_s)


def test_a_page_is_written_with_its_pictures_and_read_back(tmp_path):
    files = page(result(seconds=61), bench_s=61.5).write(tmp_path)

    assert {file.name for file in files} == {
        "performance.json",
        "performance.md",
        "performance-validation.png",
    }
    assert all(file.stat().st_size for file in files)
    assert read(tmp_path) == Page("2026-11-26", {"CPU": "one"}, [result(seconds=61)], 61.5)
    assert "which took 2 minutes" in (tmp_path / "performance.md").read_text("utf-8")


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

    made = merged(older, page(result(), cpu="other"))

    assert [each.number for each in made.results] == ["B1", "B10"]
    assert made.results[0].values == {"nadi_us": 1.5}


def test_a_benchmark_measured_by_itself_keeps_its_own_day_and_machine():
    older = page(result(number="B10"), day="2026-11-25", bench_s=800.0)

    made = merged(older, page(result(), cpu="other"))

    assert (made.day, made.facts, made.bench_s) == ("2026-11-25", {"CPU": "one"}, 800.0)
    assert (made.results[0].day, made.results[0].machine) == ("2026-11-26", {"CPU": "other"})
    assert "Measured by itself on 2026-11-26. What differs" in made.markdown()
    assert "CPU: other" in made.markdown()


def test_what_was_measured_farther_outlives_the_next_whole_run():
    far = merged(
        page(result(), day="2026-11-24", bench_s=1.0), page(result(**FAR), day="2026-11-25")
    )

    made = merged(far, page(result(), result(number="B10", name="growth"), bench_s=800.0))

    assert [each.options for each in made.results] == ["", "", "--events 1000000"]
    assert [each.day for each in made.results] == ["", "", "2026-11-25"]
    assert made.bench_s == 800.0
    assert "(`--events 1000000`)" in made.markdown()


def test_a_whole_run_takes_the_place_of_what_was_measured_by_itself():
    older = merged(page(bench_s=1.0), page(result(values={"nadi_us": 9.0}), day="2026-11-25"))

    made = merged(older, page(result(), bench_s=800.0))

    assert [(each.values, each.day) for each in made.results] == [({"nadi_us": 1.5}, "")]


def test_two_results_of_one_benchmark_have_pictures_of_their_own():
    names = {picture_of(result(name="growth")), picture_of(result(**FAR))}

    assert names == {"performance-growth.png", "performance-growth-events-1000000.png"}


def test_the_budget_stands_before_the_benchmarks_beside_the_figures_of_b8():
    b8 = result(
        number="B8",
        tables={
            "CPU-ms per event by process, saturated": [
                ("system", "process", "CPU-ms per event"),
                ("Nadi", "api", "1.06"),
                ("Plain build", "api", "5.30"),
            ]
        },
    )
    budget = result(number=BUDGET, values={"api_us": 1010.0, "api_spied_us": 1250.0})

    text = page(budget, b8).markdown()

    assert "| api | 1.01 | 1.25 | 1.06 |" in text
    assert "| all | 1.01 | 1.25 | 1.06 |" in text
    assert text.index("| api | 1.01") < text.index("## B8")


def test_a_loss_stands_on_the_page():
    text = page(result(number="B8", values={"times_plain": 3.4})).markdown()

    assert "| ≥ 10 | 3.4 | **missed** |" in text
