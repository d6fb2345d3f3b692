"""An engineer sees who a port refused: in the doctor's table, and by `nadi hl7 refused`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.peer_refusal import PeerRefusal
from adapters.site import load_site
from gateway.cli.context import opened_as
from gateway.cli.doctor import Verdict, examine
from gateway.cli.main import app
from gateway.cli.prepare import prepare_data
from gateway.cli.refused_view import refused_findings
from gateway.refused_peers import RefusedPeer, keep_refused
from gateway.settings import Settings
from gateway.store.unit_of_work import Store
from tests.listening import FED_SITE

FEED = "lab/mllp"
MINUTE_MS = 60_000


def refused(store: Store, peer: str, why: PeerRefusal, count: int, ago_ms: int) -> None:
    with store.write() as uow:
        at_ms = uow.now_ms - ago_ms
        keep_refused(uow, FEED, "here", [RefusedPeer(FEED, peer, why, count, at_ms, at_ms)])


def found(store: Store) -> list[tuple[str, str, bool | None]]:
    findings = refused_findings(load_site(FED_SITE), store)
    return [(each.check, each.says, each.is_fault) for each in findings]


def test_where_nobody_was_refused_the_doctor_says_nothing(store: Store):
    assert found(store) == []


def test_who_was_refused_within_a_day_is_told_with_the_reason_and_what_to_do(store: Store):
    refused(store, "10.1.2.3", PeerRefusal.NO_CERTIFICATE, 3, 2 * MINUTE_MS)
    refused(store, "10.1.2.4", PeerRefusal.EXPIRED, 1, 3 * MINUTE_MS)
    refused(store, "10.1.2.5", PeerRefusal.IN_CLEAR, 1, 1500 * MINUTE_MS)

    assert found(store) == [
        (
            "refused lab/mllp",
            (
                "10.1.2.3 showed no certificate (3 times, last 2m ago): it has to send one of an "
                "authority in `tls.clients`"
            ),
            None,
        ),
        (
            "refused lab/mllp",
            (
                "10.1.2.4 showed a certificate that has run out, or its authority has "
                "(once, 3m ago): its administrator renews it"
            ),
            None,
        ),
    ]


def test_of_many_the_newest_are_told_and_where_the_others_are(store: Store):
    for number in range(8):
        refused(store, f"10.1.2.{number}", PeerRefusal.IN_CLEAR, 1, number * MINUTE_MS)

    told = [says for _, says, _ in found(store)]

    assert [says.split()[0] for says in told[:5]] == [f"10.1.2.{number}" for number in range(5)]
    assert told[5:] == ["3 more: `nadi hl7 refused`"]


@pytest.fixture
def fed(tmp_path: Path) -> Settings:
    settings = Settings(data_dir=tmp_path / "nadi", port=1)
    prepare_data(settings, sandbox=False)
    with opened_as(settings) as nadi, nadi.store.write() as uow:
        uow.sites.apply(FED_SITE, "test")
    return settings


def listed(settings: Settings, *more: str) -> str:
    arguments = ["hl7", "refused", "--data-dir", str(settings.data_dir), *more]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_all_are_listed_for_people_and_for_scripts(fed: Settings):
    assert "Nobody was refused." in listed(fed)
    with opened_as(fed) as nadi:
        refused(nadi.store, "10.1.2.3", PeerRefusal.NO_CERTIFICATE, 3, 2 * MINUTE_MS)

    (row,) = json.loads(listed(fed, "--json"))

    assert "10.1.2.3" in listed(fed)
    assert (row["feed"], row["peer"], row["count"]) == (FEED, "10.1.2.3", 3)
    assert (row["reason"], row["says"]) == ("no-certificate", "it showed no certificate")


def test_the_doctor_warns_of_them_beside_the_listener(fed: Settings):
    with opened_as(fed) as nadi:
        refused(nadi.store, "10.1.2.3", PeerRefusal.NO_CERTIFICATE, 3, 2 * MINUTE_MS)

    checks = [(each.check, each.verdict) for each in examine(fed)]

    at = checks.index(("refused lab/mllp", Verdict.WARNING))
    assert checks[at - 1][0] == "listener lab/mllp"
