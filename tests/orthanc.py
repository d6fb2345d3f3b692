"""A real Orthanc of a test's own, where Debian's `orthanc` and `orthanc-dicomweb` are installed."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson

from tests.running import TLS, free_ports

PROGRAM = shutil.which("Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = "Orthanc (Debian: apt install orthanc orthanc-dicomweb) is not on this machine"
IS_HERE = PROGRAM is not None and PLUGIN.exists()
_READY_WITHIN_S = 30.0


@dataclass(frozen=True)
class Orthanc:
    """One archive.

    Attributes:
        dicom: Port of its DICOM server, whose AE title is ORTHANC.
        base: Base of its REST API.
        log: What it said.
    """

    dicom: int
    base: str
    log: Path

    @property
    def dicomweb(self) -> str:
        """Base of its DICOMweb services."""
        return f"{self.base}/dicom-web"

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """Ask its REST API; give the JSON that it answers."""
        answer = httpx.request(method, f"{self.base}{path}", timeout=60, verify=TLS, **more)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def forward(self, port: int) -> list[str]:
        """Send every study that it holds to Nadi by C-STORE; give their names here."""
        self.ask("PUT", "/modalities/nadi", json={"AET": "NADI", "Host": "127.0.0.1", "Port": port})
        held: list[str] = self.ask("GET", "/studies")
        told = self.ask("POST", "/modalities/nadi/store", json={"Resources": held})
        assert told["FailedInstancesCount"] == 0, told
        return held


@contextmanager
def orthanc(folder: Path) -> Iterator[Orthanc]:
    """Start an archive, and end it."""
    dicom, http = free_ports(2)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "DicomAet": "ORTHANC",
        "DicomPort": dicom,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
    }
    file = folder / "orthanc.json"
    file.write_bytes(orjson.dumps(settings))
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([str(PROGRAM), str(file)], stdout=out, stderr=out)
        made = Orthanc(dicom, f"http://127.0.0.1:{http}", log)
        try:
            _wait_for(made, process)
            yield made
        finally:
            process.terminate()
            process.wait(20)


def _wait_for(made: Orthanc, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        with suppress(httpx.HTTPError):
            made.ask("GET", "/dicom-web/studies", headers={"Accept": "application/dicom+json"})
            return
        time.sleep(0.2)
    raise AssertionError(made.log.read_text())
