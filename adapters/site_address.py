"""An HTTP address in a site file, with `${NAME}` and `${NAME:-default}` of the environment."""

import re
from typing import Annotated

from pydantic import AfterValidator

from gateway.core.errors import ConfigurationError
from gateway.settings import environment

_VARIABLE = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)(?::-([^}]*))?\}")
_ADDRESS = re.compile(r"^https?://[^\s/?#@$]+(/[^\s?#$]*)?$")


def variables(address: str) -> dict[str, str | None]:
    """List the `${NAME}` and `${NAME:-default}` of an address with their defaults."""
    return {found[1]: found[2] for found in _VARIABLE.finditer(address)}


def substitute(address: str, values: dict[str, str | None]) -> str:
    """Put values into the variables of an address; the default where there is none."""
    return _VARIABLE.sub(lambda found: values.get(found[1]) or found[2] or "", address)


def _check_address(address: str) -> str:
    stand_ins = {name: default or "1" for name, default in variables(address).items()}
    if not _ADDRESS.match(substitute(address, dict(stand_ins))):
        raise ValueError(
            "must be http:// or https://, a host and a path, without user, query or fragment; "
            "${NAME} and ${NAME:-default} stand for variables of the environment"
        )
    return address.rstrip("/")


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
        raise ConfigurationError(f"{whose} needs {', '.join(missing)} to be set.")
    return substitute(address, values).rstrip("/")
