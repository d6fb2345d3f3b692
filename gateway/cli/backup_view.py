"""What `nadi backup` and `nadi restore` show alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console

from adapters.dicom.spool import is_image_of_spool
from gateway.cli.audit_view import progress_bar
from gateway.store.backup_manifest import Manifest

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


@contextmanager
def telling(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on standard error for each phase that is told of."""
    bar, tasks = progress_bar(Console(stderr=True, quiet=quiet)), dict[str, Any]()

    def tell(phase: str, done: int, total: int) -> None:
        if phase not in tasks:
            tasks[phase] = bar.add_task(phase.replace("_", " "), total=total)
        bar.update(tasks[phase], completed=done, total=total)

    with bar:
        yield tell


def size(count: float) -> str:
    """Say how large something is."""
    unit = 0
    while count >= _STEP and unit < len(_UNITS) - 1:
        count, unit = count / _STEP, unit + 1
    return f"{count:,.0f} {_UNITS[unit]}" if unit == 0 else f"{count:,.1f} {_UNITS[unit]}"


def moment_of(made_at: str) -> str:
    """Show when a backup was made, in local time."""
    return datetime.fromisoformat(made_at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def waiting_images(manifest: Manifest) -> int:
    """Count the images in a backup that were accepted and not handed over yet."""
    return sum(is_image_of_spool(line.path) for line in manifest.files)


def told(manifest: Manifest) -> dict[str, object]:
    """Give a manifest for scripts, without its files."""
    database = manifest.database
    return {
        "id": manifest.id,
        "made_at": manifest.made_at,
        "nadi": manifest.nadi,
        "site": manifest.site,
        "log": manifest.origin,
        "manifest_sha256": manifest.sha256,
        "has_keys": manifest.has_keys,
        "database": database.kind,
        "schema": database.schema,
        "log_size": database.log_size,
        "counts": database.counts,
        "files": len(manifest.files),
        "waiting_images": waiting_images(manifest),
        "bytes": sum(line.bytes for line in manifest.files),
    }
