"""What the connections of a site file share: who may connect, and the certificates."""

from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, Field

from adapters.site_words import FileName, Part


def _check_network(written: str) -> str:
    try:
        ip_network(written)
    except ValueError as error:
        message = "must be an address or a network, such as 10.1.2.3 or 10.1.2.0/24"
        raise ValueError(message) from error
    return written


Network = Annotated[str, AfterValidator(_check_network)]


class TlsEntry(Part):
    """The certificates of a port that speaks TLS."""

    certificate: FileName = Field(
        description="File with the certificate of this port and its chain, PEM."
    )
    key: FileName = Field(description="File with its private key, PEM.")
    clients: FileName | None = Field(
        None,
        description="File with the authorities whose client certificates are asked for, PEM; "
        "absent: a client needs none.",
    )


class PeerTlsEntry(Part):
    """The certificates of a connection to a system."""

    authority: FileName = Field(description="File with the authorities to trust, PEM.")
    certificate: FileName | None = Field(
        None, description="File with our own certificate and its key, PEM."
    )

    @property
    def files(self) -> tuple[str, str | None]:
        """Both files, as connections are made from."""
        return self.authority, self.certificate
