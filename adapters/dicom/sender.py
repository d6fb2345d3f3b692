"""The other side of a port: says C-ECHO, and sends files by C-STORE."""

import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association

from adapters.dicom.sockets import close_in_the_end
from adapters.obstacles import why_unreached
from gateway.core.errors import ProcessingError

ECHO, _IMPLICIT = "1.2.840.10008.1.1", "1.2.840.10008.1.2"
_MOST_CONTEXTS = 127
_NO_ANSWER = -1
T = TypeVar("T")

#: Kind of image (SOP class) and transfer syntax.
_Context = tuple[str, str]

_NOT_TAKEN = "its kind of image or transfer syntax is not taken there"
_NO_DICOM = "it is no DICOM file (part 10), and was not sent"
_DAMAGED = "it is damaged, and was not sent"
# The filters of warnings belong to the whole process, so one thread at a time changes them.
_quiet = threading.Lock()
_REASONS = {
    3: "it does not know our AE title (callers in the site file)",
    7: "it has another AE title (ae_title in the site file)",
    2: "it has as many associations as it takes",
}


class NoAssociation(ProcessingError):
    """There is nobody at the port, or they don't want to talk."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Whom to talk to.

    Attributes:
        called: Their AE title.
        calling: Our AE title.
        tls: DICOM over TLS.
        server_name: Name that stands in their certificate, where it is not that of the host.
    """

    host: str
    port: int
    called: str
    calling: str
    timeout_s: float = 30.0
    tls: ssl.SSLContext | None = None
    server_name: str | None = None


@dataclass(frozen=True)
class Answer:
    """What was answered to a file.

    Attributes:
        status: DICOM status; None when there was no answer.
        says: The error comment, or why it was not sent.
    """

    status: int | None
    says: str = ""

    @property
    def is_taken(self) -> bool:
        """Whether it is stored there."""
        return self.status == 0


def echo(target: Target) -> None:
    """Say C-ECHO.

    Raises:
        NoAssociation: It was not answered.
    """
    with _associated(target, []) as association:
        answer = association.send_c_echo()
    if getattr(answer, "Status", _NO_ANSWER) != 0:
        raise NoAssociation("C-ECHO was not answered.")


def send(target: Target, files: Sequence[Path]) -> Iterator[Answer]:
    """Send files one after the other on one association; give the answer to each.

    What is no DICOM file is answered here: it is not sent, and holds up nothing else.

    Raises:
        NoAssociation: They don't want to talk.
    """
    contexts = [_context(file) for file in files]
    wanted = sorted({each for each in contexts if not isinstance(each, Answer)})
    if not wanted:
        yield from (each for each in contexts if isinstance(each, Answer))
        return
    with _associated(target, wanted[:_MOST_CONTEXTS]) as association:
        for file, context in zip(files, contexts, strict=True):
            yield context if isinstance(context, Answer) else _sent(association, file, context)


def _context(file: Path) -> _Context | Answer:
    """Give the kind of image of a file and its transfer syntax, or why it can't be sent."""
    return _read(file, _context_of, _NO_DICOM)


def _context_of(file: Path) -> _Context:
    meta = read_file_meta_info(file)
    found = UID(meta.MediaStorageSOPClassUID), UID(meta.TransferSyntaxUID)
    if not all(each.is_valid for each in found):
        raise ValueError
    return found


def _whole(file: Path) -> Dataset:
    dataset = dcmread(file)
    if not dataset:  # the library takes it for a name, and falls over it
        raise EOFError
    return dataset


def _read(file: Path, read: Callable[[Path], T], says: str) -> T | Answer:
    """Read something of a file, or say why that can't be."""
    try:
        with _hushed():
            return read(file)
    except OSError as error:
        return Answer(None, f"it can't be read, and was not sent: {error.strerror or error}")
    except Exception:  # noqa: BLE001 - what a damaged file raises can't be foreseen
        return Answer(None, says)


def _sent(association: Association, file: Path, context: _Context) -> Answer:
    dataset = _read(file, _whole, _DAMAGED)
    if isinstance(dataset, Answer):
        return dataset
    try:
        with _hushed():
            answer: Any = association.send_c_store(dataset)
    except Exception:  # noqa: BLE001 - as above, for what is written anew
        if not association.is_established:
            return Answer(None, "the association ended before")
        return Answer(None, _DAMAGED if _takes(association, context) else _NOT_TAKEN)
    status = getattr(answer, "Status", None)
    return Answer(status, str(getattr(answer, "ErrorComment", "")) or _plain(status))


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep the library's warnings from the terminal: they quote the file."""
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _takes(association: Association, context: _Context) -> bool:
    """Say whether this kind of image in this syntax was agreed on."""
    agreed = association.accepted_contexts
    return context in [(each.abstract_syntax, each.transfer_syntax[0]) for each in agreed]


def _plain(status: int | None) -> str:
    return {None: "no answer came", 0: "stored"}.get(status, "refused")


@contextmanager
def _associated(target: Target, contexts: Sequence[tuple[str, str]]) -> Iterator[Association]:
    _insist_on_a_listener(target)
    entity = ApplicationEntity(target.calling)
    entity.acse_timeout = entity.dimse_timeout = target.timeout_s
    entity.network_timeout = entity.connection_timeout = target.timeout_s
    # With it there is an association also where no kind of image is taken, and each is told so.
    for abstract, syntax in {(ECHO, _IMPLICIT), *contexts}:
        entity.add_requested_context(abstract, syntax)
    association = entity.associate(
        target.host,
        target.port,
        ae_title=target.called,
        tls_args=(target.tls, target.server_name or target.host) if target.tls else None,
        evt_handlers=[(evt.EVT_CONN_OPEN, close_in_the_end)],
    )
    if not association.is_established:
        raise NoAssociation(_why(association, target))
    try:
        yield association
    finally:
        association.release()


def _insist_on_a_listener(target: Target) -> None:
    """Try whether anybody listens: the library leaves a socket open where nobody does."""
    try:
        socket.create_connection((target.host, target.port), target.timeout_s).close()
    except (OSError, UnicodeError) as error:
        place = f"{target.host}:{target.port}"
        raise NoAssociation(why_unreached(place, error)) from error


def _why(association: Association, target: Target) -> str:
    where = f"{target.called} at {target.host}:{target.port}"
    if not association.is_rejected:
        return f"{where} ends the connection: try with or without TLS, and see its `allow`."
    said: Any = association.acceptor.primitive
    reason = _REASONS.get(int(getattr(said, "diagnostic", 0) or 0), "it does not say why")
    return f"{where} rejects the association: {reason}."
