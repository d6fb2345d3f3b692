"""A short run of the chaos harness; `make chaos` runs long ones (docs/faults.md)."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.ehr import simulated
from tests.chaos.run import Order, Report, run

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

SEED, POSTGRESQL_SEED = 23, 121
SQLITE_S, POSTGRESQL_S = 29.0, 15.0


def test_what_is_promised_holds_while_everything_fails_at_random(tmp_path: Path) -> None:
    report = run(tmp_path, Order(seed=SEED, seconds=SQLITE_S))

    _holds(report)


def test_what_is_promised_holds_on_postgresql_and_an_ehr_that_drops_labels_too(
    tmp_path: Path, postgresql_url: str
) -> None:
    order = Order(seed=POSTGRESQL_SEED, seconds=POSTGRESQL_S, database_url=postgresql_url)
    with simulated(tmp_path, "openmrs") as ehr:
        report = run(tmp_path, replace(order, ehr=ehr))

    _holds(report)


def _holds(report: Report) -> None:
    print(json.dumps(report.as_json(), indent=1))  # noqa: T201 - shown when it fails
    assert report.violations == []
    assert report.settled_s is not None, "everything is finished"
    assert len(report.struck) >= 3, "faults struck"
    assert report.results_s, "results reached the EHR"
