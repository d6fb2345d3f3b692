"""Fuzz one target: `python -m tests.fuzz.one NAME --seconds 60 --folder FOLDER`.

`make fuzz` starts a process like this for each target. Coverage leads the way where atheris is
installed; elsewhere inputs are mutated without it.
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path

from tests.fuzz.findings import Findings
from tests.fuzz.plain import mutations
from tests.fuzz.target import Target, load

HAS_ATHERIS = importlib.util.find_spec("atheris") is not None
# What reads; to instrument everything takes longer than a short turn.
_PACKAGES = [
    "gateway.api",
    "gateway.core",
    "gateway.cli.verify_receipt",
    "gateway.store.backup_file",
    "gateway.store.backup_manifest",
    "gateway.store.events",
    "adapters",
    "models.archive",
    "models.arff",
    "models.checksums",
    "models.dicom",
    "models.images",
    "models.manifest",
    "models.network_check",
    "models.signature",
    "models.texts",
    "workers.markup",
]
_MEMORY_MB = 2048


def main() -> None:
    """Read the command line and fuzz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    folder = given.folder / given.name
    findings = Findings(folder / "findings")
    run = _with_coverage if HAS_ATHERIS else _without
    run(given.name, findings, folder, given.seconds)


def _with_coverage(name: str, findings: Findings, folder: Path, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=_PACKAGES, enable_loader_override=False):
        target = load(name)
    corpus, seeds = folder / "corpus", folder / "seeds"
    corpus.mkdir(parents=True, exist_ok=True)
    _write_seeds(target, seeds)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={target.longest}",
        "-timeout=60",
        f"-rss_limit_mb={_MEMORY_MB}",
        "-reload=0",
        f"-artifact_prefix={folder}/findings/",
    ]
    atheris.Setup(
        [sys.argv[0], *options, str(corpus), str(seeds)],
        lambda data: findings.try_one(target, data),
    )
    atheris.Fuzz()


def _without(name: str, findings: Findings, _folder: Path, seconds: int) -> None:
    target = load(name)
    end, count = time.monotonic() + seconds, 0
    for data in mutations(list(target.seeds()), int(time.time()), longest=target.longest):
        findings.try_one(target, data)
        count += 1
        if time.monotonic() > end:
            break
    # The form in which libFuzzer tells it.
    sys.stderr.write(f"#{count}\tDONE\n")


def _write_seeds(target: Target, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (folder / f"{number:04}").write_bytes(seed)


if __name__ == "__main__":
    main()
