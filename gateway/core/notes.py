"""Find signed notes in texts that people and programs keep: files, mails, lines of a system log.

Nothing is believed here: whoever finds a note verifies it (`ledger.verify_checkpoint`).

Source: C2SP signed-note (https://c2sp.org/signed-note).
"""

import base64
import contextlib
import re

#: What looks like a signed checkpoint.
NOTE = re.compile(r"[^\n]+\n[0-9]+\n[^\n]+\n(?:[^\n]+\n)*?\n(?:\u2014 [^\n]+\n)+")

#: A note where lines can't be kept: in a line of a system log.
ONE_LINE = "nadi-checkpoint"
_IN_ONE_LINE = re.compile(ONE_LINE + r" ([A-Za-z0-9+/]+={0,2})")


def notes_in(text: str) -> list[str]:
    """Find the signed notes in a text: a file of notes, a mail, lines of a system log."""
    text = text.replace("\r\n", "\n")
    notes = NOTE.findall(text if text.endswith("\n") else text + "\n")
    for encoded in _IN_ONE_LINE.findall(text):
        with contextlib.suppress(ValueError):
            notes += NOTE.findall(base64.b64decode(encoded, validate=True).decode())
    return notes
