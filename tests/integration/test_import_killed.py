"""An import that is killed, whenever it is, leaves nothing half done; the next one finishes it."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.cli.context import Opened
from gateway.cli.site import put_in_force
from models.library import Library
from models.package import verified
from models.registry import REFERENCE_MODELS
from tests.installation import Installation, installation
from tests.packages import DAY, PUBLIC_KEY, TRUST, files, sealed

pytestmark = pytest.mark.integration

#: Large enough for a kill to come while it is written.
CARD = b"# Card\n" + b"All work and no play makes a long card. \n" * 1_200_000
WITHIN_S = 240


@pytest.fixture
def nadi(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path / "nadi") as made:
        with made.store.read() as uow:
            current = uow.sites.current()
        assert current is not None
        rules = f'models:\n  signers:\n    - {{name: the-makers, key: "{PUBLIC_KEY}"}}\n'
        put_in_force(Opened(made.settings, made.keys, made.store), current.yaml + rules, "sandbox")
        yield made


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return sealed(files(version="1.1.0", card_md=CARD), tmp_path / "large.nadi.zip")


def importing(nadi: Installation, package: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gateway.cli.main", "models", "import", str(package)]
    return subprocess.Popen([*command, "--data-dir", str(nadi.folder)], stdout=subprocess.DEVNULL)


def drafts(nadi: Installation) -> list[Path]:
    return list((nadi.folder / "models").glob(".draft-*"))


def moments(digest: str) -> dict[str, Callable[[Installation], bool]]:
    """Say when to kill it."""
    return {
        "the draft is there": lambda nadi: bool(drafts(nadi)),
        "half is written": lambda nadi: any((each / "card.md").exists() for each in drafts(nadi)),
        "it is tried": lambda nadi: any((each / "SIGNATURE").exists() for each in drafts(nadi)),
        "it has its name": lambda nadi: (nadi.folder / "models" / digest).exists(),
    }


def killed_when(process: subprocess.Popen[bytes], holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while process.poll() is None and not holds():
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    process.kill()
    process.wait()


def versions(nadi: Installation) -> list[str]:
    with nadi.store.read() as uow:
        return [line.card.version for line in uow.models.lines() if line.card.name == "ckd-risk"]


def test_whenever_an_import_is_killed_the_model_is_there_whole_or_not_at_all(
    nadi: Installation, package: Path
) -> None:
    with verified(package, TRUST, day=DAY) as found:
        digest = found.digest
    library = Library(REFERENCE_MODELS, nadi.settings.imported_models_dir)

    for moment, holds in moments(digest).items():
        process = importing(nadi, package)
        killed_when(process, lambda holds=holds: holds(nadi))

        kept = library.find(digest)
        assert kept is None or kept.digest == digest, moment
        if process.returncode == -signal.SIGKILL and moment != "it has its name":
            assert kept is None, moment
        assert (kept is not None) or versions(nadi) == ["1.0.0"], moment

    finished = importing(nadi, package)
    assert finished.wait(WITHIN_S) == 0
    assert sorted(versions(nadi)) == ["1.0.0", "1.1.0"]
    assert drafts(nadi) == []
    folders = [each.name for each in (nadi.folder / "models").iterdir() if each.is_dir()]
    assert folders == [digest]
