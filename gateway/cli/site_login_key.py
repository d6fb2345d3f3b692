"""`nadi site login-key`: make the key with which Nadi logs in to an EHR."""

from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.markup import escape

from gateway.cli.context import err, explained, fail, out
from gateway.private_file import write_private


@explained
def login_key(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="Where the private key is put.")],
) -> None:
    """Make a key for SMART Backend Services; the public half, to be registered, is printed.

    The private key is a JWK (RFC 7517) for ES384 in a new file that nobody else may read.
    """
    from joserfc.jwk import ECKey  # noqa: PLC0415 - only needed here

    key = ECKey.generate_key("P-384", {"alg": "ES384", "use": "sig"}, auto_kid=True)
    try:
        write_private(file, orjson.dumps(key.as_dict(private=True)) + b"\n")
    except FileExistsError:
        fail(f"{file} is there already; a key in use is not written over. Name another file.")
    except OSError as error:
        fail(f"{file} can't be written: {error.strerror}.")
    err.print(
        f"[green]✓[/] {escape(str(file))} holds the private key. Register this with the EHR "
        f"(a JWK Set), and name the file: key: file:{escape(str(file.absolute()))}",
        soft_wrap=True,
    )
    public = {"keys": [key.as_dict(private=False)]}
    out.print_json(orjson.dumps(public).decode())
