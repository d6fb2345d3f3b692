"""Other people's packages that are measured beside Nadi, each in an environment of its own.

None of them is a dependency of Nadi: an environment is made once, in the user's cache folder, and
kept. Where that fails (no network, no wheel for this Python) the peer is skipped, and the reason
stands in the table.
"""

import hashlib
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
_INSTALLED = "installed"
_TIMEOUT_S = 900


class PeerMissing(RuntimeError):
    """A peer can't be had on this machine; the message says why."""


@dataclass(frozen=True)
class Peer:
    """An environment with somebody else's package.

    Attributes:
        name: The package that is measured.
        requirements: What is installed, as `pip install` takes it.
    """

    name: str
    requirements: tuple[str, ...]

    def python(self) -> Path:
        """Give the interpreter of its environment, which is made where it is not there.

        Raises:
            PeerMissing: It can't be installed here.
        """
        folder = _cache() / f"{self.name}-{self._digest()}"
        python = folder / "bin" / "python"
        if (folder / _INSTALLED).exists():
            return python
        try:
            venv.create(folder, with_pip=True, clear=True)
            self._install(python)
        except (OSError, subprocess.SubprocessError) as error:
            raise PeerMissing(f"{self.name} can't be installed: {_reason(error)}") from error
        (folder / _INSTALLED).touch()
        return python

    def version(self) -> str:
        """Give the version that is installed.

        Raises:
            PeerMissing: It can't be installed here.
        """
        code = f"from importlib.metadata import version; print(version({self.name!r}))"
        return self.run("-c", code).strip()

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run its interpreter with the repository on its path; give what it prints.

        Raises:
            PeerMissing: It can't be installed here, or it failed.
        """
        try:
            done = subprocess.run(
                [str(self.python()), *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                check=True,
                timeout=_TIMEOUT_S,
                env=environment(),
                cwd=REPOSITORY,
            )
        except subprocess.SubprocessError as error:
            raise PeerMissing(f"{self.name} does not run here: {_reason(error)}") from error
        return done.stdout

    def _install(self, python: Path) -> None:
        options = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        subprocess.run(
            [str(python), *options, *self.requirements],
            check=True,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )

    def _digest(self) -> str:
        known = "\n".join((sys.version, *self.requirements))
        return hashlib.sha256(known.encode()).hexdigest()[:12]


def environment() -> dict[str, str]:
    """Give the variables under which a peer finds the benchmark's own modules."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "nadi-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _reason(error: Exception) -> str:
    """Give the last line that says something."""
    output = getattr(error, "stderr", None) or str(error)
    lines = [line for line in str(output).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
