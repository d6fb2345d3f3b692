"""Run the stand-in EHR: `python -m adapters.sandbox --port 8081`."""

from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from adapters.sandbox.server import SandboxOptions, create_app


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
) -> None:
    """Serve a FHIR R4 EHR with faults on request, until a signal ends it."""
    token = token_file.read_text().strip() if token_file else None
    app = create_app(SandboxOptions(token=token, journal=journal))
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    typer.run(serve)
