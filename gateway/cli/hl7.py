"""`nadi hl7`: try a feed with messages from files, and see who was refused by one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from adapters.hl7v2.framing import END, START
from adapters.hl7v2.message import header_alone, split_batch
from adapters.hl7v2.sender import (
    NoAnswer,
    NoConnection,
    Sender,
    acknowledged,
    connected,
    speaks_tls,
)
from adapters.obstacles import Obstacle
from gateway.cli.context import (
    AsJson,
    DataDir,
    explained,
    fail,
    noun,
    opened,
    out,
    print_json,
    table,
)
from gateway.cli.refused_view import cells, for_scripts
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
from gateway.refused_peers import refused_peers

_TAKEN = frozenset({"AA", "CA"})

app = noun("HL7 v2: send messages to a port; see who a port of ours refused.")


@app.callback()
def hl7() -> None:
    """HL7 v2: send messages to a port; see who a port of ours refused."""


@app.command()
@explained
def send(  # noqa: PLR0913 (one parameter per option)
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="Messages or batches.")
    ],
    *,
    host: Host = "127.0.0.1",
    port: Port = 2575,
    timeout_s: TimeoutS = 30.0,
    authority: Authority = None,
    certificate: Certificate = None,
    key: Key = None,
    server_name: ServerName = None,
    as_json: AsJson = False,
) -> None:
    """Send messages one after the other on one connection; ends with 1 if one was not taken.

    In clear, or by TLS (MLLPS): nadi hl7 send oru.hl7 --host HOST --port 2576 --tls ca.pem
    --certificate ours.pem --key ours.key
    """
    tls = tls_of(authority, certificate, key, server_name)
    try:
        with connected(host, port, timeout_s=timeout_s, tls=tls, server_name=server_name) as sender:
            answers = [answer for file in files for answer in _sent(sender, file)]
    except NoConnection as error:
        fail(by_options(error.message))
    is_silent = not any(each.is_taken or each.told["codes"] for each in answers)
    if is_silent and tls is None and speaks_tls(host, port, timeout_s=timeout_s):
        fail(by_options(f"{host}:{port} {Obstacle.SPEAKS_TLS.says}"))
    show(answers, as_json=as_json)


@app.command()
@explained
def refused(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the machines that our ports refused within a week, and why; the newest first."""
    with opened(data_dir) as nadi:
        site = nadi.site()
        with nadi.store.read() as uow:
            found = refused_peers(uow, site, since_ms=0)
    if as_json:
        print_json([for_scripts(each) for each in found])
        return
    if not found:
        out.print("Nobody was refused.")
        return
    listing = table("LAST", "FEED", "PEER", "TIMES", "WHY")
    for each in found:
        listing.add_row(*map(escape, cells(each)))
    out.print(listing)


def _sent(sender: Sender, file: Path) -> Iterator[Answered]:
    content = file.read_bytes().strip(START + END + b"\n ")
    for message in split_batch(content):
        header = header_alone(message)
        if header is None:
            fail(f"{file} is no HL7 v2 message: it does not begin with MSH.")
        kind, control_id = f"{header.kind}^{header.event}", header.control_id
        codes, says = _acknowledged(sender, message)
        told = {"file": str(file), "kind": kind, "control_id": control_id}
        is_taken = codes is not None and all(code in _TAKEN for code in codes)
        yield Answered(
            is_taken,
            {
                "FILE": str(file),
                "MESSAGE": kind,
                "CONTROL ID": control_id,
                "ANSWER": ", ".join(codes or ()) or "none",
                "SAYS": says,
            },
            {**told, "codes": codes or [], "is_taken": is_taken, "says": says},
        )


def _acknowledged(sender: Sender, message: bytes) -> tuple[list[str] | None, str]:
    """Send a message; give the codes that answered it, None where nothing did, and what is said."""
    try:
        answers = [acknowledged(each) for each in sender.send(message)]
    except NoAnswer as error:
        return None, by_options(error.message)
    says = "; ".join(dict.fromkeys(text for _, text in answers if text))
    return [code for code, _ in answers], says if answers else "It asks for no answer."
