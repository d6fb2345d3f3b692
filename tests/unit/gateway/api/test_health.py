import pytest
import sqlalchemy as sa

from adapters.site import Site
from gateway.api.health import Health
from gateway.core.errors import StoreUnavailable
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from tests.conftest import MASTER, Api
from tests.factories import consent, creatinine, raw


def test_a_process_that_answers_is_live(api: Api):
    assert api.client.get("/health/live").json() == {"status": "live"}


def test_a_broker_that_is_away_does_not_make_the_gateway_unready(api: Api):
    response = api.client.get("/health/ready")

    assert response.status_code == 200
    assert response.json() == {
        "status": "ready",
        "checks": {
            "database": "up",
            "schema": "current",
            "broker": response.json()["checks"]["broker"],
            "site": "version 1",
            "canary": "not run",
        },
        "listeners": {},
    }


@pytest.mark.parametrize(
    ("revision", "says"), [("0001", "migration needed"), ("other", "of a newer Nadi")]
)
def test_a_schema_that_is_not_ours_is_not_ready(api: Api, revision: str, says: str):
    with api.store.write() as uow:
        uow.connection.execute(sa.text(f"update alembic_version set version_num = '{revision}'"))  # noqa: S608

    response = api.client.get("/health/ready")

    assert response.status_code == 503
    checks = response.json()["checks"]
    assert (checks["database"], checks["schema"]) == ("up", says)


def test_a_database_that_is_away_is_not_ready(tmp_path):
    away = Store(f"sqlite:///{tmp_path}/no/such.db", Sealer(MASTER))
    health = Health(away, lambda: True, Site)

    assert health._checks() == {
        "database": "away",
        "schema": "unknown",
        "broker": "up",
        "site": "unknown",
        "canary": "unknown",
    }
    try:
        health.levels()
        raise AssertionError("the levels can't be read")
    except StoreUnavailable:
        away.close()


def test_the_metrics_show_the_depth_of_the_queues(api: Api):
    for resource in (consent(1), creatinine(1), creatinine(2)):
        api.post(raw(resource))

    shown = api.client.get("/metrics")

    assert shown.headers["content-type"].startswith("text/plain; version=1.0.0")
    lines = dict(line.rsplit(" ", 1) for line in shown.text.splitlines() if line[0] != "#")
    assert float(lines['nadi_jobs{state="ready"}']) == 2
    assert float(lines["nadi_database_up"]) == 1
    assert float(lines["nadi_audit_waiting"]) > 0
    assert float(lines["nadi_oldest_ready_seconds"]) >= 0
    assert float(lines["nadi_audit_lag_seconds"]) >= 0


def test_the_levels_of_an_empty_gateway_are_nothing(store: Store):
    levels = Health(store, lambda: True, Site).levels()

    assert (levels.jobs, levels.deliveries) == ({}, {})
    assert (levels.oldest_ready_s, levels.audit_waiting, levels.audit_lag_s) == (0.0, 0, 0.0)
