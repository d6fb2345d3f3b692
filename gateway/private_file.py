"""Write a new file that only its owner may read: a key, a token, what names patients.

- It is mode 0600 from its first moment and whatever the umask is.
- It is new: what has the name already, be it a link to nowhere, is not written over or followed.
- It is there whole, and on disk when the writing has ended; where that fails, nothing is left.

Everything of the gateway that makes such a file makes it here. Only the key of a maker of models is
made by `models.signature`, since the models import nothing of the gateway.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_ONLY_ITS_OWNER = 0o600


@contextmanager
def private_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for writing; it is on disk when the block ends, and gone when that fails.

    Raises:
        FileExistsError: The name is taken.
        OSError: It can't be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _ONLY_ITS_OWNER)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, _ONLY_ITS_OWNER)  # the umask may have taken from the owner
            yield file
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    _keep_name(path.parent)


def write_private(path: Path, content: bytes) -> None:
    """Write a new file as a whole.

    Raises:
        FileExistsError: The name is taken.
        OSError: It can't be written.
    """
    with private_file(path) as file:
        file.write(content)


def replace_private(path: Path, content: bytes) -> None:
    """Write a file as a whole into the place of the one that may be there.

    Whoever reads meanwhile finds the old one or the new one. A link is replaced itself, and what it
    led to stays as it was.

    Raises:
        OSError: It can't be written; then the old one is as it was.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.draft")
    try:
        write_private(draft, content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _keep_name(path.parent)


def _keep_name(folder: Path) -> None:
    """Bring a name in a folder to disk, where the folder may be read and its file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
