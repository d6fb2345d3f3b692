"""What a site file names of this machine and this machine lacks: files, folders, variables.

A site file may be checked on another machine than the one it is for, and a secret is read when it
is used: so all of these are warnings, with file, line and key. Which texts name something, the
models of the site file say (`adapters.site_words`).
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from adapters.site_shape import values
from adapters.site_words import FILE, FOLDER, NEW_FILE, SECRET
from adapters.site_yaml import read_yaml
from gateway.settings import environment

_VARIABLE = "env:"
_NEEDED = "; the processes of Nadi need it where they run"


def lacking(text: str, source: str, *, with_variables: bool) -> Iterator[str]:
    """Point at everything that a valid site file names and that is not here.

    Args:
        text: The file as it was written.
        source: Its name.
        with_variables: Also look for the variables of secrets, which another shell would not have.
    """
    document = read_yaml(text, source)
    for place, written in values(document.value):
        look = _LOOKS.get(place.schema.get("format", ""))
        why = look(written) if look and isinstance(written, str) else None
        if why and (with_variables or not str(written).startswith(_VARIABLE)):
            yield str(document.problem(place.path, why + _NEEDED))


def _file(name: str) -> str | None:
    path = Path(name)
    if not path.is_file():
        return f"the file '{name}' is not here" + _from_where(path)
    if not os.access(path, os.R_OK):
        return f"the file '{name}' can't be read by {_who()}"
    return None if path.stat().st_size else f"the file '{name}' is empty"


def _folder(name: str) -> str | None:
    path = Path(name)
    if not path.is_dir():
        return f"the folder '{name}' is not here"
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return f"the folder '{name}' can't be written to by {_who()}"
    return None


def _new_file(name: str) -> str | None:
    return _folder(str(Path(name).parent))


def _secret(reference: str) -> str | None:
    kind, _, place = reference.partition(":")
    if kind == "file":
        return _file(place)
    return None if (environment(place) or "").strip() else f"the variable {place} is not set here"


def _from_where(path: Path) -> str:
    """Say where a relative path was looked for: every process may be started elsewhere."""
    return "" if path.is_absolute() else f" in {Path.cwd()} (write its whole path)"


def _who() -> str:
    return f"user {os.geteuid()}"


#: By `format` in the schema.
_LOOKS: Mapping[str, Callable[[str], str | None]] = {
    FILE: _file,
    FOLDER: _folder,
    NEW_FILE: _new_file,
    SECRET: _secret,
}
