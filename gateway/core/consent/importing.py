"""The consent documents in a file: ABDM notifications, FHIR Consents, an export of another site.

Each document is cut out byte for byte: what is kept of one patient holds nothing of another.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from gateway.core.consent.abdm_artefact import read_notification
from gateway.core.consent.acts import Form
from gateway.core.consent.local import read_local
from gateway.core.errors import ContentError

#: What an export of consents that staff recorded says of itself.
EXPORT = "nadi-consents/1"
MOST_DOCUMENTS = 10_000


class NothingToImport(ContentError):
    """The file holds no consent: neither an ABDM notification nor a FHIR Consent nor an export."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One consent in a file.

    Attributes:
        foreign_id: Its own id; empty where it has none.
        patient: The patient it names, `Patient/<id>`; None where it names none in this form.
        content: Its bytes.
    """

    form: Form
    foreign_id: str
    patient: str | None
    content: bytes


class _Entry(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw(b"null")


class _File(msgspec.Struct, rename={"resource_type": "resourceType"}):
    resource_type: str = ""
    format: str = ""
    entry: list[_Entry] = []
    consents: list[msgspec.Raw] = []


def documents_in(raw: bytes) -> list[Document]:
    """Give the consents in a file, in its order.

    Raises:
        NothingToImport: There are none, or too many for one file.
        ArtefactUnreadable: It looks like a notification of ABDM and can't be read as one.
        ConsentNotRecordable: It is an export, and one of its consents can't be read.
    """
    try:
        found = _documents(msgspec.json.decode(raw, type=_File), raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        # What msgspec passes over unread may be broken or nested without end.
        raise NothingToImport from error
    if not found or len(found) > MOST_DOCUMENTS:
        raise NothingToImport
    return found


def _documents(file: _File, raw: bytes) -> list[Document]:
    if file.resource_type == "Bundle":
        inner = [bytes(entry.resource) for entry in file.entry]
        return [_fhir(each) for each in inner if _type_of(each) == "Consent"]
    if file.resource_type:
        return [_fhir(raw)] if file.resource_type == "Consent" else []
    if file.format == EXPORT:
        return [_local(bytes(each)) for each in file.consents]
    read = read_notification(raw)
    return [Document(form="abdm", foreign_id=read.consent_id, patient=None, content=raw)]


def _type_of(resource: bytes) -> object:
    found = orjson.loads(resource)
    return found.get("resourceType") if isinstance(found, dict) else None


def _fhir(raw: bytes) -> Document:
    content: dict[str, Any] = orjson.loads(raw)
    patient = content.get("patient")
    reference = patient.get("reference") if isinstance(patient, dict) else None
    is_relative = isinstance(reference, str) and reference.startswith("Patient/")
    own_id = content.get("id")
    return Document(
        form="fhir",
        foreign_id=own_id if isinstance(own_id, str) else "",
        patient=reference if is_relative else None,
        content=raw,
    )


def _local(raw: bytes) -> Document:
    content = orjson.loads(raw)
    if not isinstance(content, dict) or not isinstance(content.get("id"), str):
        raise NothingToImport
    consent = read_local(content.get("local") or {})
    return Document(form="local", foreign_id=content["id"], patient=consent.patient, content=raw)
