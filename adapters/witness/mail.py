"""A checkpoint as a mail: a text that a person can read and that a program can verify."""

import smtplib
from email.message import EmailMessage
from email.utils import format_datetime

from adapters.witness.entries import EmailEntry
from adapters.witness.publication import Publication, WitnessAway, WitnessUnreadable

_TIMEOUT_S = 20
_TEXT = """\
Keep this mail. It holds a checkpoint of the audit log of Nadi, with {size} entries.

If somebody at the hospital later changes, removes or cuts one of these entries, this text shows it:
save the mail as checkpoint.eml and have them run

    nadi audit verify --from checkpoint.eml

or verify a receipt yourself: python verify_receipt.py receipt.json --checkpoint checkpoint.txt,
where checkpoint.txt holds exactly the lines below.

{note}"""


def message_of(entry: EmailEntry, publication: Publication) -> EmailMessage:
    """Write the mail."""
    message = EmailMessage()
    message["From"], message["To"] = entry.sender, entry.to
    message["Subject"] = f"Nadi audit checkpoint: {publication.size} entries"
    message["Date"] = format_datetime(publication.at)
    message["Message-ID"] = f"<{publication.size}.{publication.origin.replace('/', '.')}@nadi>"
    text = _TEXT.format(size=publication.size, note=publication.note)
    # As it is, without folding: the lines of the note have to stay what they are.
    message.set_content(text, cte="8bit")
    return message


class SmtpWitness:
    """Sends mails by a server of the hospital's."""

    def __init__(self, entry: EmailEntry) -> None:
        self._entry = entry

    def publish(self, publication: Publication) -> None:
        """Send one mail."""
        host, _, port = (self._entry.smtp or "").rpartition(":")
        try:
            with smtplib.SMTP(host, int(port), timeout=_TIMEOUT_S) as server:
                server.send_message(message_of(self._entry, publication))
        except (OSError, smtplib.SMTPException) as error:
            message = (
                f"The mail server {self._entry.smtp} did not take it ({type(error).__name__})."
            )
            raise WitnessAway(message) from error

    def kept(self, origin: str) -> list[str]:  # noqa: ARG002 - the promise of a witness
        """Refuse: a mail is with whoever got it."""
        raise WitnessUnreadable("Save the mail as a file and name that with --from.")
