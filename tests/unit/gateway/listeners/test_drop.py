"""Files in a drop folder are handed in once, whatever happens meanwhile, and end with a reason."""

import threading
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from adapters.drop.folder import DropFolder
from adapters.site import load_site
from gateway.core.audit import Source
from gateway.core.clock import utc_now
from gateway.feed_standing import standings
from gateway.listeners.desk import Desk, Telling
from gateway.listeners.door import Door, Interrupted
from gateway.listeners.drop import DropListener
from gateway.listeners.peer_refusals import PeerRefusals
from gateway.store.listener_credentials import ListenerCredentials
from tests.bad_files import MOST, BadFile, cases, document
from tests.conftest import Api
from tests.factories import SITE, creatinine
from tests.listening import IntoApi

DROP_SITE = SITE.replace(
    "routes:",
    """\
  scans:
    kind: folder
    receive: [{drop: {folder: /nowhere, settle_s: 0, max_bytes: 4096}}]
routes:""".replace("4096", str(MOST)),
)
dropped = pytest.mark.parametrize("api", [DROP_SITE], indirect=True)


class Dropping:
    """A listener of a folder in front of the API."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.api = api
        self.folder = folder
        site = load_site(DROP_SITE.replace("/nowhere", str(folder)))
        credentials = ListenerCredentials(api.store.sealer)
        door = Door(
            "http://nadi.test",
            lambda: credentials.token("scans/drop", utc_now()),
            transport=IntoApi(api),
        )
        self.desk = Desk(
            feed=site.feeds["scans/drop"],
            site=lambda: site,
            store=api.store,
            source=Source("test", "drop"),
            host="here",
            door=door,
            standing=Telling(api.store, "scans/drop", "here"),
            peers=PeerRefusals(api.store, "scans/drop", "here"),
        )
        DropFolder(folder, settle_s=0).prepare()

    def take(self, name: str, content: bytes) -> tuple[str, dict]:
        """Let it take one file; give where that ended, and the outcome."""
        claimed = self.folder / "taking" / name
        claimed.write_bytes(content)
        self.turn()
        (end,) = [e for e in ("done", "failed") if (self.folder / e / name).exists()]
        return end, orjson.loads((self.folder / end / f"{name}.outcome.json").read_bytes())

    def turn(self) -> None:
        """Go through what is there, as after a start, and stop."""
        stop = threading.Event()
        threading.Timer(0.05, stop.set).start()
        DropListener(self.desk).run(stop)

    def events(self) -> list[tuple]:
        with self.api.store.read() as uow:
            asked = "select resource_type, system from events order by id"
            return [tuple(row) for row in uow.connection.exec_driver_sql(asked)]

    def refusals(self) -> int:
        with self.api.store.read() as uow:
            asked = "select count(*) from audit_events where event = 'receive' and outcome = '8'"
            return int(uow.connection.exec_driver_sql(asked).scalar_one())


@pytest.fixture
def dropping(api: Api, tmp_path: Path) -> Dropping:
    folder = tmp_path / "drop"
    folder.mkdir(mode=0o700)
    return Dropping(api, folder)


@dropped
def test_a_document_is_taken_entry_by_entry_and_moved_to_done(dropping: Dropping):
    end, outcome = dropping.take("a.json", document(creatinine()))

    assert end == "done"
    assert outcome["issue"][0]["diagnostics"] == "2 resources taken; all are durable."
    assert dropping.events() == [("Composition", "scans"), ("Observation", "scans")]


@dropped
def test_each_line_of_ndjson_stands_for_itself(dropping: Dropping):
    lines = [
        orjson.dumps(creatinine(1)),
        b"not json",
        b"",
        orjson.dumps({**creatinine(2), "status": "odd"}),
        document(creatinine(3)),
    ]

    end, outcome = dropping.take("a.ndjson", b"\n".join(lines))

    assert end == "failed"
    said = [each["diagnostics"] for each in outcome["issue"]]
    assert said[0] == "line 2: This is not JSON in UTF-8."
    assert any(each.startswith("line 4: ") for each in said)
    assert said[-1] == "3 resources taken; all are durable."
    assert len(dropping.events()) == 3


@dropped
@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.what)
def test_what_can_not_be_taken_is_told_as_the_page_says_and_is_on_record(
    dropping: Dropping, case: BadFile
):
    end, outcome = dropping.take(case.name, case.content)

    issue = outcome["issue"][0]
    assert (end, issue["code"], issue["diagnostics"]) == ("failed", case.code, case.says)
    assert issue.get("expression", [""]) == [case.place]
    assert len(dropping.events()) == case.taken
    assert dropping.refusals() == 1
    assert b"ZZCANARY" not in orjson.dumps(outcome)


@dropped
def test_a_file_that_was_handed_in_before_a_crash_gives_nothing_twice(dropping: Dropping):
    content = document(creatinine())
    dropping.take("a.json", content)

    end, _ = dropping.take("b.json", content)

    assert end == "done"
    assert len(dropping.events()) == 2


@dropped
def test_a_file_is_not_finished_while_the_gateway_is_away(dropping: Dropping):
    (dropping.folder / "taking" / "a.json").write_bytes(document(creatinine()))
    away = Door("http://127.0.0.1:9", lambda: "nadi_x")
    listener = DropListener(replace(dropping.desk, door=away))
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()

    with pytest.raises(Interrupted):
        listener.run(stop)

    assert (dropping.folder / "taking" / "a.json").exists()
    dropping.turn()
    assert (dropping.folder / "done" / "a.json").exists()


@dropped
def test_what_waits_for_a_person_is_told_until_the_person_has_looked(dropping: Dropping):
    dropping.take("bad.json", b"no")
    waits = _says(dropping)
    for each in (dropping.folder / "failed").iterdir():
        each.unlink()
    dropping.turn()

    assert waits == f"takes files out of {dropping.folder}; 1 in failed/ to look at"
    assert _says(dropping) == f"takes files out of {dropping.folder}"


def _says(dropping: Dropping) -> str:
    with dropping.api.store.read() as uow:
        (standing,) = (
            each for each in standings(uow, dropping.desk.site()) if each.feed == "scans/drop"
        )
    return standing.says.partition("; every user")[0]
