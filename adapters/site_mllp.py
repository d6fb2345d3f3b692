"""The item `mllp` of a system's `receive`: a port that takes HL7 v2 messages."""

from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from adapters.hl7v2.charsets import CODECS
from adapters.site_address import Host
from adapters.site_hours import check_zone
from adapters.site_ports import Network, TlsEntry
from adapters.site_silence import SilentEntry
from adapters.site_words import Uri


def _check_charset(name: str) -> str:
    if name.upper() not in CODECS:
        known = ", ".join(CODECS)
        raise ValueError(f"unknown character set; write it as HL7 table 0211 does: {known}")
    return name


class MllpEntry(SilentEntry):
    """A port that takes HL7 v2 messages, and how they are to be understood."""

    port: int = Field(ge=1, le=65535, description="TCP port.")
    host: Host = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for other machines.")
    allow: list[Network] = Field(
        [], description="Addresses and networks that may connect; empty: whoever reaches the port."
    )
    tls: TlsEntry | None = Field(None, description="MLLPS; absent: MLLP in clear.")
    timezone: Annotated[str, AfterValidator(check_zone)] = Field(
        description="IANA name of the time zone of times without one, such as Asia/Kolkata."
    )
    charset: Annotated[str, AfterValidator(_check_charset)] = Field(
        "UNICODE UTF-8",
        min_length=1,
        description="Character set of messages that name none in MSH-18, by its name in HL7 "
        "table 0211.",
    )
    accept: list[Literal["P", "T", "D"]] = Field(
        ["P"],
        min_length=1,
        description="Processing ids (MSH-11) that are taken; others get AR, and none counts as P.",
    )
    authorities: dict[str, Uri] = Field(
        {}, description="Assigning authorities (CX.4.1) of this feed and their URIs."
    )
    code_systems: dict[str, Uri] = Field(
        {}, description="Names of coding systems (CWE.3) of this feed and their URIs."
    )
    max_bytes: int = Field(
        4 * 2**20, ge=1024, le=16 * 2**20, description="Largest message; a larger one is refused."
    )
    max_connections: int = Field(64, ge=1, le=1024, description="Most connections at once.")
    idle_s: int = Field(
        3600, ge=10, description="After so many seconds without a byte a connection is closed."
    )

    @property
    def zone(self) -> ZoneInfo:
        """The time zone, ready for use."""
        return ZoneInfo(self.timezone)
