"""From an entry of the site file to the witness it describes."""

from adapters.witness.entries import (
    EmailEntry,
    FileEntry,
    HttpEntry,
    SyslogEntry,
    WitnessEntry,
)
from adapters.witness.files import FileWitness, MailFolderWitness, QrWitness
from adapters.witness.http import HttpWitness
from adapters.witness.mail import SmtpWitness
from adapters.witness.publication import Witness
from adapters.witness.syslog import SyslogWitness


def witness_of(entry: WitnessEntry) -> Witness:
    """Give the witness of an entry."""
    if isinstance(entry, FileEntry):
        return FileWitness(entry)
    if isinstance(entry, HttpEntry):
        return HttpWitness(entry)
    if isinstance(entry, SyslogEntry):
        return SyslogWitness(entry)
    if isinstance(entry, EmailEntry):
        return SmtpWitness(entry) if entry.smtp else MailFolderWitness(entry)
    return QrWitness(entry)


def place_of(entry: WitnessEntry) -> str:
    """Say in a few words where an entry sends to."""
    if isinstance(entry, FileEntry):
        return entry.path
    if isinstance(entry, HttpEntry):
        return entry.url
    if isinstance(entry, SyslogEntry):
        return f"{entry.host}:{entry.port} ({entry.transport})"
    if isinstance(entry, EmailEntry):
        return entry.to
    return entry.folder
