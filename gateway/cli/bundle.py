"""A folder or ZIP of files for others, with a manifest that is signed by the key of the log.

The name appears when all of it is complete; an existing one is never overwritten.
"""

import hashlib
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from gateway.cli import verify_receipt
from gateway.cli.context import EXIT_USAGE, Opened, fail
from gateway.core.errors import StoreUnavailable
from gateway.core.ledger import sign_note
from gateway.private_file import private_file


def insist_on_new(to: Path) -> None:
    """Insist that nothing is there yet; it ends here if something is."""
    if to.exists():
        fail(f"{to} is there already; name a new folder or file.", code=EXIT_USAGE)


def write_bundle(nadi: Opened, to: Path, name: str, fill: Callable[[Path], None]) -> str:
    """Write a bundle; give the SHA-256 of its manifest.

    Args:
        nadi: Whose key signs.
        to: A new folder, or a new file ending in .zip.
        name: What the signed note calls this kind of bundle.
        fill: Writes the files into a folder that only its owner may read.

    Raises:
        StoreUnavailable: It can't be written.
    """
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".bundle-", dir=to.parent) as drafts:
            folder = Path(drafts) / "bundle"
            folder.mkdir(mode=0o700)
            fill(folder)
            _give_verifier(nadi, folder)
            digest = _sign(nadi, name, folder)
            if to.suffix == ".zip":
                _zip(folder, to)
            else:
                folder.rename(to)
    except OSError as error:
        raise StoreUnavailable(f"{to} can't be written: {error.strerror}.") from error
    return digest


def _give_verifier(nadi: Opened, folder: Path) -> None:
    (folder / "audit.pub").write_text(nadi.keys.verifier + "\n", encoding="ascii")
    script = Path(verify_receipt.__file__).read_bytes()
    (folder / "verify_receipt.py").write_bytes(script)


def _sign(nadi: Opened, name: str, folder: Path) -> str:
    """Write the SHA-256 of every file, and a signed note over that."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    manifest = "\n".join(lines) + "\n"
    (folder / "MANIFEST").write_text(manifest, encoding="utf-8")
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    note = sign_note(nadi.keys.signing, nadi.keys.origin, f"{name}\n{len(lines)}\n{digest}\n")
    (folder / "MANIFEST.note").write_text(note, encoding="utf-8")
    return digest


def _zip(folder: Path, to: Path) -> None:
    with private_file(to) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{to.stem}/{path.relative_to(folder)}")
