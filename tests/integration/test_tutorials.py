"""The tutorials as a new user follows them: every command as it is written, on a Nadi of their own.

Only ports are others, as several Nadis run on a machine that tests.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running import RunningNadi, free_ports, is_ready, wait_until
from tests.tutorial import Shell, Step, follow, steps

pytestmark = pytest.mark.integration

DOCS = Path(__file__).resolve().parents[2] / "docs"
_STARTS = "nadi up --sandbox --data-dir demo\n"
_PORTS = ("8080", "8090", "2575")


@pytest.mark.parametrize("name", ["tutorial-hl7v2", "tutorial-bahmni"])
def test_every_command_of_the_page_shows_what_the_page_says(name: str, tmp_path: Path):
    _insist_on_programs()
    ports = [str(port) for port in free_ports(3)]
    page = list(steps(_with_ports((DOCS / f"{name}.md").read_text(), ports)))
    start = page.index(Step("sh", _STARTS))
    (tmp_path / ".venv").symlink_to(sys.prefix)

    with started(tmp_path, ports) as environment:
        shell = Shell(tmp_path, environment)
        try:
            follow([*page[:start], *page[start + 1 :]], shell, tmp_path)
        finally:
            shell.close()


def _insist_on_programs() -> None:
    for program in ("bash", "curl", "pkill", "sed"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on this machine")
    if not (Path(sys.prefix) / "bin" / "activate").exists():
        pytest.skip("the tests do not run in a virtual environment")


def _with_ports(page: str, ports: list[str]) -> str:
    changed = dict(zip(_PORTS, ports, strict=True))
    # That of MLLP is the one that the command knows by itself.
    named = page.replace("nadi hl7 send", f"nadi hl7 send --port {_PORTS[-1]}")
    return re.sub(rf"\b({'|'.join(_PORTS)})\b", lambda found: changed[found[1]], named)


def _ports_of(api: int, ehr: int) -> list[str]:
    return ["--port", str(api), "--sandbox-port", str(ehr)]


@contextmanager
def started(folder: Path, ports: list[str]) -> Iterator[dict[str, str]]:
    """Start Nadi as the page does in its first terminal; give what a second one has set."""
    api, ehr, _ = map(int, ports)
    words = _STARTS.split()[1:]
    nadi = RunningNadi(
        folder / "demo",
        subprocess.Popen(
            [sys.executable, "-m", "gateway.cli.main", *words, *_ports_of(api, ehr)],
            cwd=folder,
            env={**os.environ, "NADI_CANARY_EVERY_S": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ),
        (api, ehr),
    )
    try:
        wait_until(lambda: is_ready(nadi), within_s=120, what="nadi up is ready")
        kept = ("NADI_DATA_DIR", "NADI_PORT", "NADI_SANDBOX_PORT", "VIRTUAL_ENV")
        own = {name: value for name, value in nadi.environment.items() if name not in kept}
        yield own | {"COLUMNS": "200"}
    finally:
        nadi.process.terminate()
        nadi.process.wait(30)
