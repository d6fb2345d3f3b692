"""An EHR of a certain kind under fire: its simulator in a process of its own, and the site for it.

It belongs to nobody of Nadi's and outlives every kill of hers; whoever kills it starts it again, as
with a RabbitMQ. What it has taken lies in a journal, which is what the checker reads.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

import adapters
from tests.chaos.expected import MARK
from tests.running import HEALTHY_EHR, free_ports
from tests.simulators import CONCEPT, SIMULATORS, Simulator

#: The stand-in EHR that `nadi up --sandbox` brings along: no simulator of ours.
SANDBOX = "sandbox"
_SITES = Path(adapters.__path__[0]) / "sites"
_END_WITHIN_S = 10.0


class Ehr:
    """One simulator; safe to strike from several threads."""

    def __init__(self, folder: Path, name: str) -> None:
        """Start it.

        Args:
            folder: For its journal and the site.
            name: One of `SIMULATORS`.
        """
        self.name = name
        self.simulator = SIMULATORS[name]
        self.journal = folder / "ehr.journal"
        (self.port,) = free_ports(1)
        self._folder = folder
        self._faults = folder / "ehr.faults.json"
        self._faults.write_text(json.dumps(nature_of(self.simulator)), encoding="utf-8")
        self._lock = threading.Lock()
        self._process = self._start()

    @property
    def healthy(self) -> Mapping[str, object]:
        """What takes every fault back but those that are its nature."""
        return {**HEALTHY_EHR, **nature_of(self.simulator)}

    @property
    def pids(self) -> list[int]:
        """Its process."""
        return [self._process.pid]

    def kill(self) -> None:
        """Kill it, and start it again."""
        with self._lock:
            self._process.kill()
            self._process.wait()
            self._process = self._start()

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(_END_WITHIN_S)

    def site(self) -> Path:
        """Write the site file for it."""
        file = self._folder / "site.yaml"
        file.write_text(site_for(self.simulator, f"http://127.0.0.1:{self.port}/fhir"), "utf-8")
        return file

    def _start(self) -> subprocess.Popen[bytes]:
        options = {"--port": self.port, "--journal": self.journal, "--faults": self._faults}
        words = [str(each) for pair in options.items() for each in pair]
        return subprocess.Popen([sys.executable, "-m", "adapters.sandbox", *words])


def nature_of(simulator: Simulator) -> dict[str, Any]:
    """Give the faults that are no faults but how it is; besides, it takes the load's marks."""
    own = dict(simulator.faults)
    if own.get("writable_types"):
        own["writable_types"] = [*own["writable_types"], MARK]
    return own


def site_for(simulator: Simulator, base_url: str) -> str:
    """Give the site file: the example for this kind of EHR, at this simulator.

    Events are pushed, whatever the example does; the sink asks for Provenances and keeps refusals
    to itself, as the stories expect it.
    """
    yaml = YAML(typ="safe", pure=True)
    site = yaml.load((_SITES / f"{simulator.site}.example.yaml").read_text("utf-8"))
    system, sink = site["systems"]["ehr"], site["routes"]["ckd-risk"]["sink"]
    system |= {"base_url": base_url, "auth": {"kind": "none"}, "receive": ["push"]}
    sink |= {"also": ["provenance"], "refusals": "none"}
    for code in system.get("write_back", {}).get("codes", ()):
        # A name that does not say AI, so that it depends on Nadi that somebody does.
        code |= {"code": CONCEPT, "display": "Chronic kidney disease risk"}
    written = StringIO()
    yaml.dump(site, written)
    return written.getvalue()


@contextmanager
def simulated(folder: Path, name: str) -> Iterator[Ehr]:
    """Run one for the length of the block."""
    ehr = Ehr(folder, name)
    try:
        yield ehr
    finally:
        ehr.stop()
