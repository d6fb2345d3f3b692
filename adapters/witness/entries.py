"""The shape of `witnesses` in a site file."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from adapters.site_address import Host, Url, check_host
from adapters.site_words import FolderPath, NewFilePath
from gateway.core.errors import GatewayError
from gateway.core.ledger import read_verifier_key

_DAY_S = 86_400

Mailbox = Annotated[str, StringConstraints(pattern=r"^[^\s@<>,]+@[^\s@<>,]+$")]


def _check_mail_server(written: str) -> str:
    host, _, port = written.rpartition(":")
    check_host(host)
    if not 0 < int(port) < 2**16:
        raise ValueError("must have a port from 1 to 65535")
    return written


MailServer = Annotated[
    str,
    StringConstraints(pattern=r"^[^\s/@:]+:[0-9]{1,5}$"),
    AfterValidator(_check_mail_server),
]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileEntry(_Entry):
    """Append each checkpoint to a file on another mount: a write-once share, another machine."""

    kind: Literal["file"]
    path: NewFilePath = Field(description="The file; its folder has to be there already.")
    every_s: int = Field(60, ge=1, description="Shortest time between two checkpoints.")


class HttpEntry(_Entry):
    """Send each checkpoint with its proof to another gateway, or to a C2SP witness."""

    kind: Literal["http"]
    url: Url = Field(description="Where to, such as https://other.example/witness/checkpoints.")
    timeout_s: float = Field(10, gt=0, le=60, strict=False, description="Longest wait, seconds.")
    every_s: int = Field(60, ge=1, description="Shortest time between two checkpoints.")


class SyslogEntry(_Entry):
    """Send each checkpoint as a line to a log server (RFC 5424)."""

    kind: Literal["syslog"]
    host: Host
    port: int = Field(514, ge=1, le=65535)
    transport: Literal["udp", "tcp"] = Field(
        "tcp", description="Over udp nobody says whether it arrived."
    )
    every_s: int = Field(3600, ge=1, description="Shortest time between two checkpoints.")


class EmailEntry(_Entry):
    """Mail each checkpoint to somebody outside."""

    kind: Literal["email"]
    to: Mailbox
    sender: Mailbox
    smtp: MailServer | None = Field(
        None, description="host:port of a mail server that takes mail without a password."
    )
    folder: FolderPath | None = Field(
        None, description="Folder for .eml files, where another program sends them."
    )
    every_s: int = Field(_DAY_S, ge=1, description="Shortest time between two checkpoints.")

    @model_validator(mode="after")
    def _one_way(self) -> "EmailEntry":
        if (self.smtp is None) == (self.folder is None):
            raise ValueError("needs either smtp or folder")
        return self


class QrEntry(_Entry):
    """Draw each checkpoint as a QR code, to be printed and kept on paper."""

    kind: Literal["qr"]
    folder: FolderPath = Field(description="Folder for the pictures; it has to be there already.")
    format: Literal["svg", "png"] = "svg"
    every_s: int = Field(_DAY_S, ge=1, description="Shortest time between two checkpoints.")


WitnessEntry = Annotated[
    FileEntry | HttpEntry | SyslogEntry | EmailEntry | QrEntry, Field(discriminator="kind")
]


def _check_verifier(line: str) -> str:
    try:
        read_verifier_key(line)
    except GatewayError as error:
        message = "must be the line of the other gateway's keys/audit.pub"
        raise ValueError(message) from error
    return line.strip()


VerifierKey = Annotated[str, AfterValidator(_check_verifier)]
