"""What is sent by DICOM and not taken, and what it is answered: a table of docs/dicom.md."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydicom import uid
from pydicom.dataset import Dataset

from tests.dicom import ECHO_CLASS, associate, ct_slice, film, send, study_uid

MOST_BYTES = MOST_PIXELS = 100_000
#: Larger than any PDU that is agreed on.
_HUGE_PDU = b"\x01\0" + (2**20).to_bytes(4) + b"\0" * 64
_REASONS = {(1, 3): "reason 3", (1, 7): "reason 7", (3, 2): "local limit exceeded"}


@dataclass(frozen=True)
class BadImage:
    """One case.

    Attributes:
        what: For the table; unique.
        answer: Status of the answer with its comment, or what becomes of the association.
        send: Sends it to a port; gives the answer.
        more: What the site says of the port besides.
        has_room: Whether the disk has room.
    """

    what: str
    answer: str
    send: Callable[[int], str]
    more: str = ""
    has_room: bool = True


def cases() -> Iterator[BadImage]:
    """Give every case."""
    yield from _senders()
    yield from _images()


def _senders() -> Iterator[BadImage]:
    rejected = "association rejected, reason {}"
    yield BadImage("a caller that is not known", rejected.format(3), _associated(caller="STRANGER"))
    yield BadImage("another AE title called", rejected.format(7), _associated(called="PACS"))
    yield BadImage(
        "one association too many",
        "association rejected, local limit exceeded",
        _second,
        more=", max_connections: 1",
    )
    yield BadImage(
        "an address that is not in `allow`",
        "the connection is closed",
        _associated(),
        more=", allow: [192.0.2.0/24]",
    )
    yield BadImage("a PDU longer than agreed on", "the connection is closed", _flooded)
    unread = [uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.MPEG4HP41]
    yield BadImage(
        "a transfer syntax that can't be read here: JPEG-LS, JPEG lossless, video",
        "its presentation context is not accepted",
        _associated(syntaxes=unread),
    )
    yield BadImage(
        "a SOP class that is no image",
        "its presentation context is not accepted",
        _associated(classes=[str(uid.BasicTextSRStorage)]),
    )


def _images() -> Iterator[BadImage]:
    def of(image: Dataset) -> Callable[[int], str]:
        return lambda port: _told(send(port, image)[0])

    yield BadImage("an image that is cut off", "C001: The image is cut off.", of(film(Rows=128)))
    yield BadImage(
        "no image in it", "C001: It is cut off, or holds no image.", of(film(PixelData=None))
    )
    yield BadImage("a damaged header", "C001: The data set is damaged.", of(film(Rows=None)))
    whose = "C002: PatientID (0010,0020) is empty: whose is it?"
    yield BadImage("no PatientID", whose, of(film(PatientID="")))
    no_uid = "C003: A UID of study, series or instance is none."
    yield BadImage("no UID of the study", no_uid, of(film(StudyInstanceUID="")))
    yield BadImage("a UID of the series that is none", no_uid, of(film(SeriesInstanceUID="1..2")))
    large = f"C004: It has more than {MOST_BYTES} bytes."
    yield BadImage("more bytes than `max_bytes`", large, of(ct_slice(size=(300, 300))))
    many = f"C005: It has more than {MOST_PIXELS} pixels."
    yield BadImage("more pixels than `max_pixels`", many, of(film(NumberOfFrames="100")))
    yield BadImage(
        "another instance than the command says",
        "A900: The data set is of another SOP class or instance than said.",
        _misnamed,
    )
    yield BadImage(
        "no room on the disk (`NADI_MIN_DISK_FREE_BYTES`)",
        "A700: There is too little room on the disk.",
        of(film()),
        has_room=False,
    )


def _told(answer: Dataset) -> str:
    return f"{answer.Status:04X}: {answer.ErrorComment}"


def _associated(**how: Any) -> Callable[[int], str]:
    def ask(port: int) -> str:
        association = associate(port, **how)
        said = _became(association)
        if association.is_established:
            association.release()
        return said

    return ask


def _became(association: Any) -> str:
    if association.is_established:
        contexts = association.accepted_contexts
        taken = [each for each in contexts if each.abstract_syntax != ECHO_CLASS]
        return "accepted" if taken else "its presentation context is not accepted"
    if not association.is_rejected:
        return "the connection is closed"
    said = association.acceptor.primitive
    return f"association rejected, {_REASONS[said.result_source, said.diagnostic]}"


def _second(port: int) -> str:
    first = associate(port)
    said = _associated()(port)
    first.release()
    return said


def _flooded(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as hostile:
        hostile.sendall(_HUGE_PDU)
        # An abort (type 7), or nothing.
        return "the connection is closed" if hostile.recv(1024)[:1] in (b"", b"\x07") else "kept"


def _misnamed(port: int) -> str:
    association, image = associate(port), film()
    image.ensure_file_meta()
    image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    say = association.dimse.send_msg

    def say_another(primitive: Any, context_id: int) -> None:
        primitive.AffectedSOPInstanceUID = study_uid("other")
        say(primitive, context_id)

    association.dimse.send_msg = say_another
    answer = association.send_c_store(image)
    association.release()
    return _told(answer)


def table() -> str:
    """Write the table."""
    lines = ["| what | answer |", "|---|---|"]
    return "\n".join([*lines, *(f"| {case.what} | {case.answer} |" for case in cases())]) + "\n"
