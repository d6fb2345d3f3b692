"""`nadi dicom send`: try a port with files, as a scanner or an archive would send them."""

from pathlib import Path
from typing import Annotated

import typer

from adapters.dicom.sender import Answer, NoAssociation, Target
from adapters.dicom.sender import send as sent
from gateway.cli.context import AsJson, explained, fail, noun
from gateway.cli.sending import (
    Answered,
    Authority,
    Certificate,
    Host,
    Key,
    Port,
    ServerName,
    TimeoutS,
    by_options,
    show,
    tls_of,
)

app = noun("DICOM: send images to a port, and see how they are answered.")


@app.callback()
def dicom() -> None:
    """DICOM: send images to a port, and see how they are answered."""


@app.command()
@explained
def send(  # noqa: PLR0913 (one parameter per option)
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="DICOM files.")],
    *,
    host: Host = "127.0.0.1",
    port: Port = 11112,
    aet: Annotated[str, typer.Option(help="The AE title that is called.")] = "NADI",
    calling: Annotated[str, typer.Option(help="The AE title that calls.")] = "NADI-SEND",
    timeout_s: TimeoutS = 30.0,
    authority: Authority = None,
    certificate: Certificate = None,
    key: Key = None,
    server_name: ServerName = None,
    as_json: AsJson = False,
) -> None:
    """Send files one after the other on one association; ends with 1 if one was not taken."""
    target = Target(
        host=host,
        port=port,
        called=aet,
        calling=calling,
        timeout_s=timeout_s,
        tls=tls_of(authority, certificate, key, server_name),
        server_name=server_name,
    )
    try:
        answers = list(zip(files, sent(target, files), strict=True))
    except NoAssociation as error:
        fail(by_options(error.message))
    show([_answered(file, answer) for file, answer in answers], as_json=as_json)


def _answered(file: Path, answer: Answer) -> Answered:
    status = "none" if answer.status is None else f"{answer.status:04X}"
    return Answered(
        answer.is_taken,
        {"FILE": str(file), "STATUS": status, "SAYS": answer.says},
        {"file": str(file), "status": status, "is_taken": answer.is_taken, "says": answer.says},
    )
