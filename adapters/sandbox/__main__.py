"""Run the stand-in EHR: `python -m adapters.sandbox --port 8081`."""

import gc
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from adapters.sandbox.faults import Faults
from adapters.sandbox.server import SandboxOptions, create_app

#: In collections of the middle generation; so many that there is none.
_FULL_COLLECTIONS_EVERY = 1_000_000


def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8081,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the bearer token that clients need.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="File to keep everything in over a restart.")
    ] = None,
    faults: Annotated[
        Path | None, typer.Option(help="JSON file with the faults it has from the start.")
    ] = None,
) -> None:
    """Serve a FHIR R4 EHR with faults on request, until a signal ends it."""
    token = token_file.read_text().strip() if token_file else None
    had = Faults.model_validate_json(faults.read_bytes()) if faults else Faults()
    app = create_app(SandboxOptions(token=token, journal=journal, faults=had))
    _spare_what_is_kept()
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)


def _spare_what_is_kept() -> None:
    """Let no collection walk over every record: with a million of them this EHR would stand still.

    They hold no cycles; what a request leaves is still found among the young.
    """
    youngest, middle, _ = gc.get_threshold()
    gc.set_threshold(youngest, middle, _FULL_COLLECTIONS_EVERY)


if __name__ == "__main__":
    typer.run(serve)
