"""Witnesses that are files: on another mount, mails to be sent, pictures to be printed.

A folder that is not there is not made: where a mount is away, the file would land on the very disk
that the checkpoint has to leave.
"""

import io
from email.policy import SMTP
from pathlib import Path

from adapters.witness.entries import EmailEntry, FileEntry, QrEntry
from adapters.witness.mail import message_of
from adapters.witness.publication import Publication, WitnessAway, WitnessUnreadable
from gateway.core.notes import notes_in
from gateway.note_file import append_note


class FileWitness:
    """Appends to a file."""

    def __init__(self, entry: FileEntry) -> None:
        self._path = Path(entry.path)

    def publish(self, publication: Publication) -> None:
        """Append the note; it is on disk when this returns."""
        try:
            append_note(self._path, publication.note, 0o644)
        except OSError as error:
            raise WitnessAway(f"{self._path} can't be written: {error.strerror}.") from error

    def kept(self, origin: str) -> list[str]:
        """Read the notes of a log in the file."""
        return _of_log(origin, [self._path])


class MailFolderWitness:
    """Writes mails into a folder."""

    def __init__(self, entry: EmailEntry) -> None:
        self._entry = entry
        self._folder = Path(entry.folder or "")

    def publish(self, publication: Publication) -> None:
        """Write one mail."""
        content = message_of(self._entry, publication).as_bytes(policy=SMTP)
        _write(self._folder, f"checkpoint-{publication.size}.eml", content)

    def kept(self, origin: str) -> list[str]:
        """Read the notes in the mails that are still there."""
        return _of_log(origin, sorted(self._folder.glob("checkpoint-*.eml")))


class QrWitness:
    """Draws pictures into a folder."""

    def __init__(self, entry: QrEntry) -> None:
        self._folder, self._format = Path(entry.folder), entry.format

    def publish(self, publication: Publication) -> None:
        """Draw one picture."""
        content = picture(publication.note, self._format)
        _write(self._folder, f"checkpoint-{publication.size}.{self._format}", content)

    def kept(self, origin: str) -> list[str]:  # noqa: ARG002 - the promise of a witness
        """Refuse: a picture is read with a camera."""
        message = (
            "A QR code is read with a camera; put its text into a file and name it with --from."
        )
        raise WitnessUnreadable(message)


def picture(note: str, form: str) -> bytes:
    """Draw the text of a note as a QR code, large enough to be read from paper.

    Args:
        note: The signed note.
        form: `svg` or `png`.
    """
    import segno  # noqa: PLC0415 - only who prints needs it

    made = io.BytesIO()
    # Level M: a quarter of an A4 page may be smudged a little.
    segno.make_qr(note, error="m", encoding="utf-8").save(made, kind=form, scale=6, border=4)
    return made.getvalue()


def _write(folder: Path, name: str, content: bytes) -> None:
    """Write a file as a whole, so that nobody sends or prints half of it."""
    draft = folder / f".{name}.draft"
    try:
        draft.write_bytes(content)
        draft.replace(folder / name)
    except OSError as error:
        raise WitnessAway(f"{folder} can't be written: {error.strerror}.") from error


def _of_log(origin: str, paths: list[Path]) -> list[str]:
    notes: list[str] = []
    for path in paths:
        try:
            notes += notes_in(path.read_text("utf-8", errors="replace"))
        except OSError as error:
            raise WitnessAway(f"{path} can't be read: {error.strerror}.") from error
    return [note for note in notes if note.startswith(f"{origin}\n")]
