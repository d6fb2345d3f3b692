"""A way in that brought nothing for too long is told, whichever it is."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
from starlette.requests import Request

from adapters.site import Site, load_site
from gateway.api.health import Health
from gateway.cli.doctor_feeds import pushes_of
from gateway.core.clock import utc_now
from gateway.feed_standing import Standing, pushings, say, standings
from gateway.store.unit_of_work import Store
from tests.conftest import Api
from tests.factories import SITE, creatinine, raw

DROP = "{drop: {folder: /srv/in, silent_after_s: 3600}}"


@contextmanager
def later(store: Store, hours: float) -> Iterator[Store]:
    """Look at a database some hours later."""

    def clock() -> datetime:
        return utc_now() + timedelta(hours=hours)

    opened = Store(str(store.engine.url), store.sealer, clock=clock)
    yield opened
    opened.close()


def applied(store: Store, settings: str) -> Site:
    text = SITE.replace("[push]", settings)
    with store.write() as uow:
        uow.sites.apply(text, "test")
    return load_site(text)


def told(store: Store, site: Site) -> tuple[list[bool | None], Any, float | None]:
    """Give what the doctor, `/health/ready` and the metrics say of what is pushed."""
    health = Health(store, lambda: True, lambda: site)
    ready = orjson.loads(asyncio.run(health.ready(Request({"type": "http"}))).body)
    faults = [each.is_fault for each in pushes_of(site, store)]
    return faults, ready.get("pushes"), health.levels().listeners.get("ehr/push")


def test_a_push_is_silent_after_its_time_and_heard_again(api: Api):
    site = applied(api.store, "[{push: {silent_after_s: 3600}}]")
    assert told(api.store, site) == ([False], {"ehr": "up"}, 1.0)

    with later(api.store, 2) as store:
        assert told(store, site) == ([True], {"ehr": "silent"}, 0.0)
        (said,) = pushes_of(site, store)
    assert said.says.startswith("silent: nothing was pushed yet, and silent_after_s is 3600;")

    api.post(raw(creatinine(1)))
    with later(api.store, 0.5) as store:
        assert told(store, site) == ([False], {"ehr": "up"}, 1.0)
        (said,) = pushes_of(site, store)
    assert (said.check, said.says) == ("push ehr", "the last event came 30 min ago")


def test_a_push_without_such_a_time_is_never_silent(api: Api):
    site = applied(api.store, "[push]")

    with later(api.store, 2000) as store:
        assert told(store, site) == ([False], None, None)
        (said,) = pushes_of(site, store)

    assert said.says == "nothing was pushed yet; with silent_after_s in the site file it is told"


@pytest.mark.parametrize(
    ("hours", "taken_hours", "state"),
    [(0.5, None, "up"), (2, None, "failed"), (2, 1.5, "up"), (20, 2, "failed")],
    ids=["just-applied", "never-a-file", "a-file-came", "long-ago"],
)
def test_a_folder_to_which_nothing_came_counts_as_failed(
    api: Api, hours: float, taken_hours: float | None, state: str
):
    site = applied(api.store, f"[{DROP}]")
    with later(api.store, hours) as store:
        with store.write() as uow:
            ago_ms = int((hours - (taken_hours or 0)) * 3_600_000)
            taken_ms = uow.now_ms - ago_ms if taken_hours else None
            say(uow, Standing("ehr/drop", "up", "watches /srv/in", taken_ms, "host"))

        with store.read() as uow:
            (standing,) = standings(uow, site)
            assert pushings(uow, site) == []

    silent = "Nothing came for more than 3600 s (silent_after_s); it watches /srv/in"
    says = silent if state == "failed" else "watches /srv/in"
    assert (standing.state, standing.says) == (state, says)


@pytest.mark.parametrize("kind", ["mllp", "dicom", "drop", "push", "poll"])
def test_every_way_in_takes_the_time(kind: str):
    settings = {
        "mllp": "{port: 2575, timezone: Asia/Kolkata, silent_after_s: 60}",
        "dicom": "{port: 104, callers: [CT1], silent_after_s: 60}",
        "drop": "{folder: /srv/in, silent_after_s: 60}",
        "push": "{silent_after_s: 60}",
        "poll": "{types: [Observation], silent_after_s: 60}",
    }
    numbered = "patients: {identifier: 'https://h.example/mrn'}\n    receive"
    text = SITE.replace("[push]", f"[{{{kind}: {settings[kind]}}}]")
    if kind in ("mllp", "dicom"):
        text = text.replace("receive", numbered)

    system = load_site(text).systems["ehr"]

    entry = system.push if kind == "push" else system.feeds[0].entry
    assert orjson.loads(entry.model_dump_json())["silent_after_s"] == 60.0  # type: ignore[union-attr]
