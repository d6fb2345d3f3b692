from collections import Counter

import orjson
import pytest

from benchmarks.budget import Spent, _result, _verbs
from benchmarks.result import from_json
from benchmarks.sampling import Frame
from benchmarks.verbs import ADMIT, RECEIVE

READING = (Frame("run", "uvicorn/server.py"), Frame("parse", "gateway/core/fhir.py"))
COMMITTING = (
    Frame("call", "gateway/api/intake.py"),
    Frame("insert", "gateway/core/audit.py"),
    Frame("execute", "sqlalchemy/engine/base.py"),
)
SPENT = Spent(
    events=100,
    cpu_s={"api": 0.1, "broker": 0.004},
    spied_events=200,
    spied_cpu_s={"api": 0.3, "broker": 0.008},
    seen={"api": Counter({READING: 30, COMMITTING: 10})},
)


def test_the_cpu_of_a_process_is_shared_out_as_its_samples_are():
    rows = {row[:2]: row for row in _verbs(SPENT)}

    assert rows[(RECEIVE, "api")][2] == "750"
    assert rows[(ADMIT, "api")][2] == "250"


def test_a_verb_tells_whose_code_it_is_and_what_it_is_about():
    heads, *rows = _verbs(SPENT)
    admit = dict(zip(heads, next(row for row in rows if row[0] == ADMIT), strict=True))

    assert admit["SQLAlchemy and driver"] == "250"
    assert admit["of which"] == "AuditEvents 250"


def test_what_has_no_python_counts_whole_and_all_of_it_is_the_sum():
    rows = _verbs(SPENT)

    assert rows[-2][:3] == ("", "broker", "40")
    assert rows[-1][:3] == ("all", "", "1040")


def test_the_figures_that_others_quote_are_those_without_py_spy():
    made = _result(SPENT, [], [])
    values = from_json(orjson.loads(orjson.dumps(made.as_json()))).values

    assert values["event_us"] == pytest.approx(1040)
    assert values["api_us"] == pytest.approx(1000)
    assert values["api_spied_us"] == pytest.approx(1500)
    assert values["audit_us"] == pytest.approx(250)


def test_without_py_spy_the_reason_stands_where_the_figures_would():
    made = _result(Spent(events=1), [], ["py-spy can't be installed."])

    assert made.skipped == ["py-spy can't be installed."]
    assert made.charts == []
