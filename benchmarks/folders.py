"""Data folders for benchmarks that call the gateway's own code instead of starting it."""

import io
from contextlib import redirect_stderr
from pathlib import Path

from gateway.cli.context import Opened
from gateway.cli.prepare import prepare_data
from gateway.cli.site import put_in_force
from gateway.settings import Settings
from gateway.store.installation import Installation, open_installation


def put_in_order(settings: Settings, site: str) -> None:
    """Make a data folder ready for `nadi up`, with a site of one's own.

    Args:
        settings: Folder, and database where it is not in it.
        site: The text of the site file.
    """
    with redirect_stderr(io.StringIO()):
        prepare_data(settings, sandbox=False)
    installation = open_installation(settings)
    opened = Opened(settings, installation.keys, installation.store)
    put_in_force(opened, site, "benchmark")
    installation.store.close()


def prepared(folder: Path) -> Installation:
    """Make a data folder with the site of the sandbox, where there is none, and open it."""
    with redirect_stderr(io.StringIO()):  # it would say each time that a witness is missing
        prepare_data(Settings(data_dir=folder), sandbox=True)
    return open_installation(Settings(data_dir=folder))
