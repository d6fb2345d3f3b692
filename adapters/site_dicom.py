"""The item `dicom` of a system's `receive`: a port that takes images by C-STORE."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from adapters.site_address import Host
from adapters.site_ports import Network, TlsEntry
from adapters.site_silence import SilentEntry

#: An AE title: 1 to 16 characters, no backslash, no space around it (DICOM PS3.5 6.2, VR AE).
AeTitle = Annotated[str, StringConstraints(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]


class DicomEntry(SilentEntry):
    """A port that takes images by C-STORE, and how studies are made of them."""

    port: int = Field(ge=1, le=65535, description="TCP port.")
    host: Host = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for other machines.")
    ae_title: AeTitle = Field("NADI", description="Our AE title; a caller has to call it so.")
    callers: list[AeTitle] = Field(
        min_length=1, description="AE titles that may send; others are rejected."
    )
    allow: list[Network] = Field(
        [], description="Addresses and networks that may connect; empty: whoever reaches the port."
    )
    tls: TlsEntry | None = Field(None, description="DICOM over TLS; absent: in clear.")
    quiet_s: float = Field(
        60,
        ge=0.5,
        le=86_400,
        description="A study is complete when no image of it came for so many seconds.",
    )
    keep_h: float = Field(
        24,
        gt=0,
        le=720,
        description="How many hours after its last image a study is kept, sealed, so that a late "
        "image makes a new version of the whole.",
    )
    slices: Literal["all", "middle"] = Field(
        "all",
        description="Which images of a series of several a model is given; `middle`: the one in "
        "the middle. A model that reads one image refuses several that fit.",
    )
    max_bytes: int = Field(
        64 * 2**20, ge=1024, le=2**30, description="Largest image; a larger one is refused."
    )
    max_pixels: int = Field(
        64_000_000,
        ge=1,
        le=2**30,
        description="Most pixels of all frames of an image, by its header.",
    )
    max_connections: int = Field(8, ge=1, le=256, description="Most associations at once.")
    idle_s: float = Field(
        60, ge=1, le=3600, description="After so many seconds without a word it is aborted."
    )
