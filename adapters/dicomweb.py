"""The client of one DICOM archive: lists the images of a study (QIDO-RS), fetches one (WADO-RS).

* Credentials go to the archive's base URL only; what an EHR's Endpoint says is never followed.
* An answer is read up to a limit of bytes and seconds.
* The image is asked for as it is stored, so that nothing is lost in a conversion.

Source: DICOM PS3.18 sections 10.4 (Retrieve Transaction), 10.6 (Search Transaction), 8.7.3.1
(multipart/related); RFC 2046.
"""

import re
from email.message import Message
from ssl import SSLContext
from typing import Any

import orjson

from adapters.authorization import Login
from adapters.fhir_rest.answers import expect
from adapters.fhir_rest.base_url import BaseUrl
from adapters.fhir_rest.errors import EhrAnswerUnreadable, ForeignAddress
from adapters.fhir_rest.transport import Transport
from gateway.core.attachments import Instance, Listed
from models.shown import Shown

DICOM = "application/dicom"
# Nothing after it: Orthanc takes all that follows for the name of the transfer syntax.
_ACCEPT = {"Accept": f'multipart/related; type="{DICOM}"; transfer-syntax=*'}
_JSON = "application/dicom+json"
_ABSENT, _NOTHING = frozenset({404, 410}), 204
_SERIES, _INSTANCE, _MODALITY = "0020000E", "00080018", "00080060"
_BODY_PART, _VIEW = "00180015", "00185101"
#: A worker looks at a few only; that there are more than these says that there are several.
_MOST_LISTED = 64
_QUERY = "&".join(
    [f"limit={_MOST_LISTED}", *(f"includefield={tag}" for tag in (_MODALITY, _BODY_PART, _VIEW))]
)
_UID = re.compile(r"[0-9.]{1,64}")
_AROUND_PART = 64 * 1024


class DicomWebClient:
    """Reads from one DICOM archive; safe to share among threads."""

    def __init__(
        self,
        base_url: str,
        *,
        login: Login,
        timeout_s: float,
        max_response_bytes: int,
        verify: SSLContext | bool = True,
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            base_url: Of the archive's DICOMweb services, for example `https://pacs.local/dicom-web`.
            login: How Nadi identifies itself.
            timeout_s: For every step of a request and for the whole of it.
            max_response_bytes: Of one answer.
            verify: How the archive's certificate is checked.

        Raises:
            ConfigurationError: The base URL can't be used.
        """
        self._base = BaseUrl.parse(base_url)
        self._transport = Transport(
            login=login,
            timeout_s=timeout_s,
            max_response_bytes=max_response_bytes,
            verify=verify,
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._transport.close()

    def instance(self, study: str, series: str, instance: str, *, max_bytes: int) -> bytes | None:
        """Fetch one image as a DICOM file; None when the archive does not have it.

        Args:
            study: Study Instance UID.
            series: Series Instance UID.
            instance: SOP Instance UID.
            max_bytes: Largest file that is read.

        Raises:
            ForeignAddress: What is given is no UID.
            TransientError: The archive is away.
            EhrRefused: It refuses.
            EhrAnswerTooLarge: The file is larger than allowed.
            EhrAnswerUnreadable: It answers something else.
        """
        _insist_on_uids(study, series, instance)
        path = f"studies/{study}/series/{series}/instances/{instance}"
        answer = self._transport.send(
            "GET", self._base.of(path), headers=_ACCEPT, max_bytes=max_bytes + _AROUND_PART
        )
        if answer.status in _ABSENT:
            return None
        expect(answer)
        return _file(answer.headers.get("content-type", ""), answer.body)

    def instances(self, study: str) -> list[Listed]:
        """Ask which instances of a study the archive has (QIDO-RS); a few of many.

        Args:
            study: Study Instance UID.

        Raises:
            ForeignAddress: What is given is no UID.
            TransientError: The archive is away.
            EhrRefused: It refuses.
            EhrAnswerTooLarge: Its answer is larger than allowed.
            EhrAnswerUnreadable: It answers something else.
        """
        _insist_on_uids(study)
        address = f"{self._base.of(f'studies/{study}/instances')}?{_QUERY}"
        answer = self._transport.send("GET", address, headers={"Accept": _JSON})
        if answer.status in _ABSENT | {_NOTHING}:
            return []
        return _listed(study, expect(answer).body)


def _insist_on_uids(*uids: str) -> None:
    if not all(_UID.fullmatch(uid) for uid in uids):
        raise ForeignAddress


def _listed(study: str, body: bytes) -> list[Listed]:
    """Read a list of instances (DICOM PS3.18 annex F, the JSON model)."""
    try:
        found = orjson.loads(body)
        return [_one(study, each) for each in found]
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, IndexError):
        raise EhrAnswerUnreadable from None


def _one(study: str, found: dict[str, Any]) -> Listed:
    def text(tag: str) -> str | None:
        values = found.get(tag, {}).get("Value") or (None,)
        return str(values[0]).strip().upper() if values[0] is not None else None

    series, instance = (str(found[tag]["Value"][0]) for tag in (_SERIES, _INSTANCE))
    shown = Shown(text(_MODALITY), text(_BODY_PART), text(_VIEW))
    return Listed(Instance(study, series, instance), shown)


def _file(content_type: str, body: bytes) -> bytes:
    """Take the file out of an answer: the whole of it, or the first part of several."""
    media = Message()
    media["content-type"] = content_type
    if media.get_content_type() == DICOM:
        return body
    try:
        boundary = media.get_boundary()
    except TypeError:  # a parameter in pieces (RFC 2231), some numbered and some not
        raise EhrAnswerUnreadable from None
    if media.get_content_type() != "multipart/related" or not boundary:
        raise EhrAnswerUnreadable
    return first_part(body, boundary.encode("ascii", "replace"))


def first_part(body: bytes, boundary: bytes) -> bytes:
    """Give the content of the first part of a multipart body, byte for byte.

    Raises:
        EhrAnswerUnreadable: It has no part, or the part does not end.
    """
    # The first boundary may stand at the very start, without a line break before it.
    whole = b"\r\n" + body
    mark = b"\r\n--" + boundary
    start = whole.find(mark)
    end = whole.find(mark, start + len(mark))
    headers_end = whole.find(b"\r\n\r\n", start + len(mark))
    if start < 0 or not 0 <= headers_end <= end:
        raise EhrAnswerUnreadable
    return whole[headers_end + 4 : end]
