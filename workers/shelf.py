"""(4.3) What one case may open: what was received for its patient, and the EHR behind that.

* What stands in the resource itself comes first, then what was received, then what the EHR or its
  image archive keeps; nothing is ever fetched from anywhere else.
* What belongs to another patient is not there.
* Where the resource says size or hash of a content, the content must have them.
* Nothing is decoded that is larger than allowed.

Source: FHIR R4 Attachment (`size` and `hash` are those of the bytes before base64), Binary.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from adapters.fhir_rest.answers import Content
from gateway.core.attachments import HOLDERS, Form, Instance, Listed
from gateway.core.errors import ContentError, ProcessingError
from gateway.core.event import facts, reference_of, relative_reference
from gateway.core.fhir import parse_resource

Json = Mapping[str, Any]


class NotHere(ProcessingError):
    """What a resource points at is nowhere, not yet or not any more."""


class TooLargeToOpen(ProcessingError):
    """A content is larger than the model accepts."""


class Damaged(ProcessingError):
    """A content is not base64."""


class Altered(ProcessingError):
    """A content is not the one that the resource describes: its size or hash differs."""


class Keeper(Protocol):
    """The EHR of a case and its image archive."""

    def read(self, reference: str) -> Json | None:
        """Read a resource; None when the EHR does not have it."""

    def content(self, address: str, *, max_bytes: int) -> Content | None:
        """Fetch what an attachment points at; None when the EHR does not have it."""

    def instance(self, at: Instance, *, max_bytes: int) -> bytes | None:
        """Fetch a DICOM file; None when the archive does not have it."""

    def instances(self, study: str) -> Sequence[Listed]:
        """Ask the archive which instances of a study it has."""


@dataclass(frozen=True)
class Opened:
    """The bytes of a form; they stay out of its representation.

    Attributes:
        content_type: What it is called; empty where nothing is said.
        sources: References of the resources that it was read from.
    """

    content_type: str
    sources: tuple[str, ...]
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Shelf:
    """What may be opened for one case; it is the `Library` of its resource.

    Attributes:
        patient: `Patient/<id>`.
        base_url: FHIR base of the EHR; absolute references below it are its own.
        received: Resources by the reference they are pointed at with.
        keeper: The EHR; it is asked only for what is not here.
    """

    patient: str
    base_url: str | None
    received: Mapping[str, Json]
    keeper: Keeper

    def resource(self, reference: str) -> Json | None:
        """Give a resource of the patient by a reference; None when there is none."""
        found = self.received.get(reference) or self._read(reference)
        if found is None or facts(found, base_url=self.base_url).patient != self.patient:
            return None
        return found

    def open(self, form: Form, *, max_bytes: int) -> Opened:
        """Give the bytes of a form.

        Raises:
            NotHere: There is no content, or it is nowhere.
            TooLargeToOpen: It is larger than allowed.
            Damaged: It is not base64.
            Altered: It is not the content that the resource describes.
            TransientError: The EHR or its archive is away.
            ProcessingError: It does not give the content.
        """
        opened = self._find(form, max_bytes)
        if form.size is not None and form.size != len(opened.body):
            raise Altered
        if form.sha1 is not None and form.sha1 != _sha1(opened.body):
            raise Altered
        return opened

    def _find(self, form: Form, max_bytes: int) -> Opened:
        if form.data is not None:
            return Opened(form.content_type, (form.source,), _decoded(form.data, max_bytes))
        if form.instance is not None:
            body = self.keeper.instance(form.instance, max_bytes=max_bytes)
            return Opened(form.content_type, (form.source,), _there(body))
        if form.url is None:
            raise NotHere
        binary = self.received.get(form.url)
        if binary is not None:
            return self._received(form, binary, max_bytes)
        content = _there(self.keeper.content(form.url, max_bytes=max_bytes))
        self._insist_own(content.owner)
        name = relative_reference(form.url, base_url=self.base_url)
        sources = (form.source, *([name] if name else []))
        return Opened(form.content_type or content.content_type, sources, content.body)

    def _received(self, form: Form, binary: Json, max_bytes: int) -> Opened:
        self._insist_own((binary.get("securityContext") or {}).get("reference"))
        content_type = form.content_type or str(binary.get("contentType", ""))
        sources = tuple(filter(None, (form.source, reference_of(binary))))
        return Opened(content_type, sources, _decoded(str(binary.get("data", "")), max_bytes))

    def _read(self, reference: str) -> Json | None:
        """Read from the EHR what another resource points at; what is no valid R4 is none."""
        name = relative_reference(reference, base_url=self.base_url)
        is_holder = name is not None and name.partition("/")[0] in HOLDERS
        found = self.keeper.read(name) if name and is_holder else None
        try:
            return None if found is None else parse_resource(orjson.dumps(found)).content
        except ContentError:
            return None

    def _insist_own(self, owner: str | None) -> None:
        """Refuse a Binary whose rules are those of another patient."""
        name = relative_reference(owner, base_url=self.base_url) if owner else None
        if name and name.startswith("Patient/") and name != self.patient:
            raise NotHere


def _there(found: Any) -> Any:  # noqa: ANN401 - bytes or Content
    if found is None:
        raise NotHere
    return found


def _decoded(data: str, max_bytes: int) -> bytes:
    if len(data) * 3 // 4 > max_bytes + 2:
        raise TooLargeToOpen
    try:
        return base64.b64decode(data)
    except ValueError:  # broken, or letters that are no ASCII
        raise Damaged from None


def _sha1(content: bytes) -> str:
    # SHA-1 is what FHIR R4 prescribes here; it tells a slip from the truth, no forgery.
    return base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()
