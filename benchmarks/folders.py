"""Data folders for benchmarks that call the gateway's own code instead of starting it."""

import io
from contextlib import redirect_stderr
from pathlib import Path

from gateway.cli.prepare import prepare_data
from gateway.settings import Settings
from gateway.store.installation import Installation, open_installation


def prepared(folder: Path) -> Installation:
    """Make a data folder with the site of the sandbox, where there is none, and open it."""
    with redirect_stderr(io.StringIO()):  # it would say each time that a witness is missing
        prepare_data(Settings(data_dir=folder), sandbox=True)
    return open_installation(Settings(data_dir=folder))
