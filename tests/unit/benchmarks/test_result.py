import io
import math

import orjson
from rich.console import Console

from benchmarks.result import Chart, Result, from_json, markdown_table


def result(**more):
    fields = {
        "number": "B1",
        "name": "validation",
        "title": "Validation",
        "fairness": "The same bytes.",
        "tables": {"µs": [("measure", "Nadi"), ("a | b", "1")]},
        "values": {"nadi_us": 1.5},
        "charts": (Chart("A", "µs", bars={"Nadi": 1.5}), Chart("B", "%", lines={"x": [[1, 2]]})),
        "skipped": ("HealthChain can't be installed.",),
    }
    return Result(**{**fields, **more})


def test_a_result_is_read_back_from_json_as_it_was():
    made = result()

    read = from_json(orjson.loads(orjson.dumps(made.as_json())))

    assert read == made


def test_a_figure_that_was_not_measured_is_left_out_of_the_json():
    assert result(values={"a": math.nan, "b": 1.0}).as_json()["values"] == {"b": 1.0}


def test_a_result_shows_what_was_skipped_and_what_went_wrong():
    console = Console(file=io.StringIO(), width=120)

    result(failed=["A result is missing."]).show(console)

    told = console.file.getvalue()
    assert "Not measured: HealthChain can't be installed." in told
    assert "Went wrong: A result is missing." in told


def test_a_bar_in_a_cell_does_not_end_the_cell():
    assert markdown_table([("a | b",)]) == "| a \\| b |\n|---|"
