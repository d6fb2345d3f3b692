"""A whole Nadi sends its checkpoints out while it works, and is verified against them."""

from pathlib import Path

import pytest

from gateway.core.notes import notes_in
from tests.people import person
from tests.running import push_chart, running_nadi, wait_until
from tests.witnessing import tcp_server

pytestmark = pytest.mark.integration


def test_checkpoints_leave_the_machine_while_events_come_in(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    environment = {"NADI_CHECKPOINT_EVERY_S": "0.5"}
    with tcp_server() as logs, running_nadi(tmp_path / "nadi", environment=environment) as nadi:
        assert "has no witness" in nadi.nadi("audit", "witnesses").stderr
        site = tmp_path / "site.yaml"
        [row] = nadi.rows("select yaml from sites order by version desc limit 1")
        added = (
            "\nwitnesses:\n"
            f"  mount: {{kind: file, path: {mount / 'nadi.log'}, every_s: 1}}\n"
            f"  logs: {{kind: syslog, host: 127.0.0.1, port: {logs.port}}}\n"
        )
        site.write_text(row["yaml"] + added)
        nadi.nadi("site", "apply", str(site))
        someone = person("witnessed")
        push_chart(nadi, *someone.chart(someone.consent()), someone.creatinine())
        wait_until(
            (mount / "nadi.log").exists, within_s=60, what="a checkpoint has left the machine"
        )
        nadi.settle()
        nadi.wait_until_integrated()

        assert notes_in(logs.wait().decode())
        assert notes_in((mount / "nadi.log").read_text())
        assert "The log holds" in nadi.nadi("audit", "verify", "--witness", "mount").stdout
        assert "logs" in nadi.nadi("audit", "witnesses").stdout
