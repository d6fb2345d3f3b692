"""The feeds of a kind follow the site in force; how each stands can be asked."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from adapters.site import Site, load_site
from gateway.core.audit import Source
from gateway.core.errors import ConfigurationError, ProcessingError
from gateway.feed_standing import SILENT_AFTER_S, Standing, say, standings
from gateway.listeners.desk import Desk
from gateway.listeners.serving import Feeds, Surroundings
from gateway.settings import Settings
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from tests.conftest import MASTER
from tests.listening import FED_SITE


@dataclass
class Listening:
    """Listeners that do nothing but say so."""

    running: list[int] = field(default_factory=list)
    begun: int = 0
    failing: bool = False

    def __call__(self, desk: Desk) -> "Toy":
        return Toy(self, desk)


@dataclass
class Toy:
    all: Listening
    desk: Desk

    def run(self, stop: threading.Event) -> None:
        if self.all.failing:
            raise ProcessingError("The port is taken.")
        port = self.desk.feed.entry.port
        self.all.running.append(port)
        self.all.begun += 1
        self.desk.standing.up(f"port {port}")
        self.desk.count("taken")
        stop.wait()
        self.all.running.remove(port)


@dataclass
class Served:
    store: Store
    listening: Listening
    site: Site
    stop: threading.Event = field(default_factory=threading.Event)
    is_unusable: bool = False

    def current(self) -> Site:
        if self.is_unusable:
            raise ConfigurationError
        return self.site

    def stands(self) -> list[tuple[str, str, str]]:
        with self.store.read() as uow:
            return [(each.feed, each.state, each.says) for each in standings(uow, self.site)]


@pytest.fixture
def store(sqlite_url: str) -> Iterator[Store]:
    """What is stored is tried on each database elsewhere; these tests wait for seconds."""
    made = Store(sqlite_url, Sealer(MASTER))
    yield made
    made.close()


@pytest.fixture
def served(store: Store, tmp_path: Path) -> Iterator[Served]:
    made = Served(store, Listening(), load_site(FED_SITE))
    settings = Settings(data_dir=tmp_path, host_name="here")
    around = Surroundings(settings, store, made.current, Source("site", "mllp"))
    thread = threading.Thread(target=Feeds("mllp", made.listening, around).run, args=(made.stop,))
    thread.start()
    yield made
    made.stop.set()
    thread.join()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def test_a_feed_is_served_and_begins_anew_when_its_settings_change(served: Served):
    until(lambda: served.listening.running == [2575])
    until(lambda: served.stands() == [("lab/mllp", "up", "port 2575")])

    served.site = load_site(FED_SITE.replace("2575", "2576"))

    until(lambda: served.listening.running == [2576])
    until(lambda: served.stands() == [("lab/mllp", "up", "port 2576")])


@pytest.mark.parametrize(
    "changed",
    [
        ("http://ehr.test/fhir", "http://new.test/fhir"),
        ("{kind: none}", '{kind: bearer, token: "env:NADI_T"}'),
    ],
    ids=["address", "login"],
)
def test_a_feed_begins_anew_when_the_ehr_moves_or_wants_another_login(
    served: Served, changed: tuple[str, str]
):
    until(lambda: served.listening.begun == 1)

    before, after = changed
    assert before in FED_SITE
    served.site = load_site(FED_SITE.replace(before, after, 1))

    until(lambda: served.listening.begun == 2)
    until(lambda: served.listening.running == [2575])


def test_a_feed_goes_on_when_a_site_changes_nothing_of_its_systems(served: Served):
    until(lambda: served.listening.begun == 1)

    served.site = replace(load_site(FED_SITE), version=2, routes=())
    time.sleep(1.2)

    assert served.listening.begun == 1


def test_a_feed_ends_with_the_site_that_wanted_it_and_all_end_with_the_process(served: Served):
    until(lambda: served.listening.running == [2575])

    served.site = Site()
    until(lambda: served.listening.running == [])
    assert served.stands() == []

    served.site = load_site(FED_SITE)
    until(lambda: served.listening.running == [2575])
    served.stop.set()
    until(lambda: served.listening.running == [])
    until(lambda: [state for _, state, _ in served.stands()] == ["not running"])


def test_a_listener_that_fails_says_why_and_is_tried_again(store: Store, tmp_path: Path):
    listening, stop = Listening(failing=True), threading.Event()
    served = Served(store, listening, load_site(FED_SITE))
    around = Surroundings(
        Settings(data_dir=tmp_path, host_name="here"), store, served.current, Source("s", "mllp")
    )
    thread = threading.Thread(target=Feeds("mllp", listening, around).run, args=(stop,))
    thread.start()
    until(lambda: served.stands() == [("lab/mllp", "failed", "The port is taken.")])

    listening.failing = False

    until(lambda: served.stands() == [("lab/mllp", "up", "port 2575")])
    stop.set()
    thread.join()


def test_a_site_that_can_not_be_used_leaves_everything_as_it_is(served: Served):
    until(lambda: served.listening.running == [2575])

    served.is_unusable = True
    time.sleep(1.2)

    assert served.listening.running == [2575]


def test_a_listener_that_said_nothing_for_long_does_not_run(store: Store):
    site = load_site(FED_SITE)
    with store.write() as uow:
        say(uow, Standing("lab/mllp", "up", "port 2575", taken_ms=17, host="here"))

    with store.read() as uow:
        assert standings(uow, site) == [
            Standing("lab/mllp", "up", "port 2575", taken_ms=17, host="here")
        ]
        uow.now_ms += int(SILENT_AFTER_S * 1000)
        (silent,) = standings(uow, site)
    assert replace(silent, says="") == Standing("lab/mllp", "not running")
