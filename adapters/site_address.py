"""A host in a site file, and an HTTP address with `${NAME}` and `${NAME:-default}`.

Source: RFC 1123, section 2.1 (names of hosts; underscores, as containers have them, are let pass).
"""

import re
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints

from gateway.core.errors import ConfigurationError
from gateway.settings import environment

_VARIABLE = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)(?::-([^}]*))?\}")
_ADDRESS = re.compile(r"^https?://[^\s/?#@$]+(/[^\s?#$]*)?$")

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LONGEST_NAME = 253


def check_host(name: str) -> str:
    """Insist on an address, IPv4 or IPv6, or on what may be the name of a host.

    Raises:
        ValueError: It is neither; `10.1.2.300` is no name.
    """
    if not _is_host(name):
        raise ValueError("must be the name or the address of a host, without a port")
    return name


def _is_host(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        labels = name.removesuffix(".").split(".")
        is_name = len(name) <= _LONGEST_NAME and all(map(_LABEL.fullmatch, labels))
        return is_name and not labels[-1].isdigit()
    return True


Host = Annotated[str, AfterValidator(check_host)]


def variables(address: str) -> dict[str, str | None]:
    """List the `${NAME}` and `${NAME:-default}` of an address with their defaults."""
    return {found[1]: found[2] for found in _VARIABLE.finditer(address)}


def substitute(address: str, values: dict[str, str | None]) -> str:
    """Put values into the variables of an address; the default where there is none."""
    return _VARIABLE.sub(lambda found: values.get(found[1]) or found[2] or "", address)


def _check_address(address: str) -> str:
    wanted = variables(address)
    stand_in = substitute(address, {name: default or "1" for name, default in wanted.items()})
    # What a variable will bring is not known here, so neither is whether it makes a host.
    if not _ADDRESS.match(stand_in) or (all(wanted.values()) and not _has_host(stand_in)):
        raise ValueError(
            "must be http:// or https://, a host and a path, without user, query or fragment; "
            "${NAME} and ${NAME:-default} stand for variables of the environment"
        )
    return address.rstrip("/")


def _has_host(url: str) -> bool:
    """Say whether an address names a host, and a port that there is, if any."""
    try:
        parts = urlsplit(url)
        return parts.port != 0 and _is_host(parts.hostname or "")
    except ValueError:
        return False


def _check_url(url: str) -> str:
    if not _has_host(url):
        raise ValueError("must have the name or the address of a host, and a port that there is")
    return url


#: Of something that is no FHIR API; without variables.
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#@]+$"), AfterValidator(_check_url)]
Address = Annotated[str, AfterValidator(_check_address)]


def completed(address: str, whose: str) -> str:
    """Read the variables of an address; give it without a slash at its end.

    Args:
        address: As it stands in the site file.
        whose: What needs it, for the message.

    Raises:
        ConfigurationError: A variable without default is not set.
    """
    wanted = variables(address)
    values = {name: environment(name) or default for name, default in wanted.items()}
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise ConfigurationError(
            f"{whose} needs {', '.join(missing)} to be set for Nadi's processes."
        )
    return substitute(address, values).rstrip("/")
