"""A PostgreSQL cluster for one test session: in a temporary folder, on a unix socket, then gone."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_ACCOUNTS = ("postgres", "nobody")
#: Where Linux keeps files in memory; a container may have very little of it.
_IN_MEMORY = Path("/dev/shm")  # noqa: S108
_NEEDED_BYTES = 1 << 30
_SETTINGS = (
    "listen_addresses=",
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_connections=200",
    "max_wal_size=64MB",
    # In the cluster's folder, so that it is gone with it.
    "dynamic_shared_memory_type=mmap",
)


def programs() -> Path | None:
    """Find the folder with `initdb` and `postgres`; None when this machine has none."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


@contextmanager
def cluster(
    folder_of_programs: Path, settings: Sequence[str] = _SETTINGS, *, on_disk: bool = False
) -> Iterator[str]:
    """Run a cluster; give the URL of its maintenance database.

    Args:
        folder_of_programs: With `initdb` and `postgres`.
        settings: As `postgres -c` takes them.
        on_disk: Whether its files are in the temporary folder, even where a folder in memory,
            which is quicker and never waits for a disk, would have room.
    """
    parent = None if on_disk else quick_folder(_NEEDED_BYTES)
    with tempfile.TemporaryDirectory(prefix="nadi-pg-", dir=parent) as name:
        folder, account = Path(name), _account()
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        who = (
            {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
        )
        data = folder / "data"
        _run([folder_of_programs / "initdb", "-D", data, "-U", "nadi", "-A", "trust", "-N"], who)
        told = (*settings, f"unix_socket_directories={name}")
        options = " ".join(f"-c {setting}" for setting in told)
        control = folder_of_programs / "pg_ctl"
        _run([control, "-D", data, "-w", "-l", folder / "log", "-o", options, "start"], who)
        try:
            yield f"postgresql+psycopg://nadi@/postgres?host={name}"
        finally:
            _run([control, "-D", data, "-m", "immediate", "stop"], who)


def restart(url: str, mode: str) -> None:
    """Stop the cluster that a URL of it names, and start it again.

    Args:
        url: Of any of its databases, as `cluster` gives it.
        mode: How `pg_ctl` stops it: `fast`, or `immediate` as a crash does.

    Raises:
        subprocess.SubprocessError: It did not stop or start.
    """
    found = programs()
    folder = Path(parse_qs(urlsplit(url).query)["host"][0])
    account = _account()
    who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    command: list[object] = [(found or Path()) / "pg_ctl", "-D", folder / "data", "-w"]
    _run([*command, "-l", folder / "log", "-m", mode, "restart"], who)


def quick_folder(needed_bytes: int) -> Path | None:
    """Find a folder in memory, where a database is made quickly; None where there is too little."""
    if not os.access(_IN_MEMORY, os.W_OK):
        return None
    return _IN_MEMORY if shutil.disk_usage(_IN_MEMORY).free > needed_bytes else None


def _account() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root: then somebody else has to."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next((known[name] for name in _ACCOUNTS if name in known), None)


def _run(command: list[object], who: dict[str, object]) -> None:
    subprocess.run(
        [str(part) for part in command],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        timeout=60,
        **who,
    )
