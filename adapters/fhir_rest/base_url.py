"""Which addresses belong to an EHR: those under its base URL, compared strictly.

A link that an EHR gives is followed only within the same scheme, host, port and base path, without
user information, fragments, backslashes or dot segments in any spelling; so a credential can't be
led to `https://ehr.example.evil`, `https://ehr.example@evil` or `base/../admin`.

Source: RFC 3986 section 6; FHIR R4 RESTful API section 3.1.0.1.1 (service base URL).
"""

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

from adapters.fhir_rest.errors import ForeignAddress
from gateway.core.errors import ConfigurationError

_PORTS = {"http": 80, "https": 443}
_SAFE = re.compile(r"[!-\[\]-~]+")  # printable ASCII without space and backslash
_REFERENCE = re.compile(
    r"[A-Z][A-Za-z]{1,63}/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?"
)
_LOCATION = re.compile(
    r"(?:^|/)([A-Z][A-Za-z]{1,63}/[A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?$"
)


@dataclass(frozen=True)
class BaseUrl:
    """The service base URL of one EHR, without a trailing slash."""

    text: str
    origin: tuple[str, str, int]
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a base URL from the site file.

        Raises:
            ConfigurationError: It is no plain http or https URL.
        """
        try:
            parts = urlsplit(text)
            origin = _origin(parts)
        except ValueError:
            origin = None
        if origin is None or not _SAFE.fullmatch(text) or parts.query or parts.fragment:
            raise ConfigurationError("The base URL of a FHIR system has to be a plain http(s) URL.")
        return cls(text.rstrip("/"), origin, parts.path.rstrip("/"))

    def of(self, path: str) -> str:
        """Give the address of a path that Nadi itself made, such as `Observation/_search`."""
        return f"{self.text}/{path}" if path else self.text

    def resolve(self, address: str) -> str:
        """Give the absolute address of a link or reference that the EHR wrote.

        Args:
            address: Absolute, or relative to the base.

        Raises:
            ForeignAddress: It does not lie under this base.
        """
        is_absolute = "://" in address.partition("?")[0]
        absolute = address if is_absolute else self._from_relative(address)
        if not self._holds(absolute):
            raise ForeignAddress
        return absolute

    def resource(self, reference: str) -> str:
        """Give the address of a resource by its reference, relative or absolute.

        Raises:
            ForeignAddress: It is no literal reference to this EHR.
        """
        absolute = self.resolve(reference)
        if not _REFERENCE.fullmatch(absolute.removeprefix(f"{self.text}/")):
            raise ForeignAddress
        return absolute

    def _from_relative(self, address: str) -> str:
        scheme, host, port = self.origin
        if address.startswith("//"):
            return f"{scheme}:{address}"
        if address.startswith("/"):
            return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{address}"
        return f"{self.text}{'' if address.startswith('?') else '/'}{address}"

    def _holds(self, absolute: str) -> bool:
        try:
            parts = urlsplit(absolute)
            origin = _origin(parts)
        except ValueError:
            return False
        is_plain = bool(_SAFE.fullmatch(absolute)) and not parts.fragment
        is_inside = f"{parts.path}/".startswith(f"{self.path}/")
        return is_plain and origin == self.origin and is_inside and not _has_dots(parts.path)


def reference_in(location: str) -> str | None:
    """Shorten the location that an EHR gave to `Type/id`; None when it names no resource.

    The base is not compared: behind a proxy many EHRs name their inner address, and a location is
    noted, never followed.
    """
    found = _LOCATION.search(location)
    return found[1] if found else None


def _origin(parts: SplitResult) -> tuple[str, str, int] | None:
    """Give scheme, host and port; None when there is more or less to the authority.

    Raises:
        ValueError: The port is no number.
    """
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


def _has_dots(path: str) -> bool:
    """Say whether a path climbs or hides a separator, however often it is percent-encoded."""
    while (plain := unquote(path)) != path:
        path = plain
    return "\\" in path or any(each in {".", ".."} for each in path.split("/"))
