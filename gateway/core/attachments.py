"""(4.3) What a resource holds that a model can look at or read, and where the rest is kept.

A resource gives parts; a part comes in one or several forms of which any will do: the contents of
a DocumentReference are the same document in several formats, and so are the presented forms of a
DiagnosticReport. Several parts are several images, or the pieces of one text.

| resource | images | text |
|---|---|---|
| Binary, DocumentReference | yes | yes |
| Media, ImagingStudy | yes | |
| DiagnosticReport | `media`, `presentedForm` | `presentedForm`, else `conclusion` |
| Composition | | the sections' narratives, nested ones too |
| Communication | | every `payload` |

Pure: what is kept elsewhere is asked of a `Library`.

Source: FHIR R4 Attachment (http://hl7.org/fhir/R4/datatypes.html#Attachment) and these resources.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.core.event import is_made_by_ai, reference_of
from models.manifest import CodeRef
from models.shown import NOTHING_STATED, Shown

Json = Mapping[str, Any]

DCM = "http://dicom.nema.org/resources/ontology/DCM"
_UID_SYSTEM = "urn:dicom:uid"
_UIDS = "urn:oid:"
#: How far from the resource something may be: a report's Media, and that Media's Binary.
DEEPEST = 3
#: How much a resource may point at: each may have to be fetched.
MOST_REFERENCES = 16
#: Resources that may be pointed at for what they hold.
HOLDERS = frozenset({"Binary", "Media", "DocumentReference"})


@dataclass(frozen=True)
class Instance:
    """The DICOM UIDs by which an image is kept in an archive."""

    study: str
    series: str
    instance: str


@dataclass(frozen=True)
class Listed:
    """An instance as an archive lists it, and what it says that is on it."""

    instance: Instance
    shown: Shown


@dataclass(frozen=True, eq=False)
class Form:
    """One form of a part: plain text, content in base64, or the place where it is kept.

    Attributes:
        source: Reference of the resource that it stands in, with the version where there is one.
        content_type: What it is called; empty where nothing is said.
        text: The text itself.
        is_markup: Whether `text` is XHTML.
        data: The content, base64.
        url: Where the content is, as the resource writes it.
        instance: Where the image is in a DICOM archive.
        language: BCP 47 tag.
        sha1: Base64 of the SHA-1 of the content.
        size: Bytes of the content.
        shown: What the resource says of the image.
    """

    source: str
    content_type: str = ""
    text: str | None = None
    is_markup: bool = False
    data: str | None = None
    url: str | None = None
    instance: Instance | None = None
    language: str | None = None
    sha1: str | None = None
    size: int | None = None
    shown: Shown = NOTHING_STATED


Part = tuple[Form, ...]
"""The same content in several forms, in the order in which the resource names them."""


class Library(Protocol):
    """Where resources are that others point at."""

    def resource(self, reference: str) -> Json | None:
        """Give a resource of the same patient by its reference; None when there is none."""


def image_parts(resource: Json, library: Library, *, depth: int = DEEPEST) -> list[Part]:
    """Find the images of a resource.

    Args:
        resource: Of any type; one that holds no images gives none.
        library: For what it points at.
        depth: How far to follow.
    """
    match resource["resourceType"]:
        case "Media":
            return [(_form(resource, resource["content"], shown=_media_shows(resource)),)]
        case "ImagingStudy":
            return _contained_images(resource) or _instances(resource)
        case "DiagnosticReport":
            links = (each.get("link") for each in resource.get("media") or ())
            linked = _linked(resource, links, library, depth)
            found = [
                part for each in linked for part in image_parts(each, library, depth=depth - 1)
            ]
            return found or _documents(resource)
    return _documents(resource)


def text_parts(
    resource: Json, library: Library, sections: Sequence[CodeRef] = (), *, depth: int = DEEPEST
) -> list[Part]:
    """Find the text of a resource, in pieces to be read one after the other.

    Args:
        resource: Of any type; one that holds no text gives none.
        library: For what it points at.
        sections: Codes of the sections of a Composition that are wanted; empty for all.
        depth: How far to follow.
    """
    match resource["resourceType"]:
        case "Composition":
            wanted = {code.key for code in sections}
            return [
                (_narrative(resource, section),)
                for section in _sections(resource.get("section") or (), wanted)
            ]
        case "Communication":
            return [
                part
                for payload in resource.get("payload") or ()
                for part in _payload(resource, payload, library, depth)
            ]
        case "DiagnosticReport" if conclusion := resource.get("conclusion"):
            forms = [form for part in _documents(resource) for form in part]
            return [(*forms, _plain(resource, conclusion))]
        case "Media" | "ImagingStudy":
            return []
    return _documents(resource)


def references(resource: Json) -> list[str]:
    """Give every literal reference of a resource to what it is about to be read with."""
    attachments = (
        *(each.get("attachment") for each in _list(resource, "content")),
        *_list(resource, "presentedForm"),
        *(each.get("contentAttachment") for each in _list(resource, "payload")),
        resource.get("content"),
    )
    links = (
        *(each.get("link") for each in _list(resource, "media")),
        *(each.get("contentReference") for each in _list(resource, "payload")),
    )
    return [
        *(str(each["url"]) for each in attachments if isinstance(each, dict) and each.get("url")),
        *(str(each["reference"]) for each in links if each and each.get("reference")),
    ]


def _list(resource: Json, name: str) -> Sequence[dict[str, Any]]:
    found = resource.get(name)
    return found if isinstance(found, list) else ()


# --- attachments ----------------------------------------------------------------------------


def _documents(resource: Json) -> list[Part]:
    if resource["resourceType"] == "Binary":
        return [(_form(resource, resource),)]
    attachments = [
        *(each.get("attachment") or {} for each in _list(resource, "content")),
        *_list(resource, "presentedForm"),
    ]
    forms = tuple(_form(resource, each) for each in attachments)
    return [forms] if forms else []


def _form(resource: Json, attachment: Json, *, shown: Shown = NOTHING_STATED) -> Form:
    return Form(
        source=reference_of(resource),
        content_type=str(attachment.get("contentType", "")),
        data=attachment.get("data"),
        url=attachment.get("url"),
        language=attachment.get("language") or resource.get("language"),
        sha1=attachment.get("hash"),
        size=attachment.get("size"),
        shown=shown,
    )


def _plain(resource: Json, text: str) -> Form:
    return Form(reference_of(resource), "text/plain", text, language=resource.get("language"))


def _linked(
    resource: Json, links: Iterable[Json | None], library: Library, depth: int
) -> Iterator[Json]:
    """Give what a resource points at, its contained resources too; never what an AI made."""
    for link in links:
        literal = str((link or {}).get("reference", ""))
        if not literal or not depth:
            continue
        found = _inside(resource, literal) or library.resource(literal)
        if found is not None and not is_made_by_ai(found):
            yield found


def _inside(resource: Json, literal: str) -> Json | None:
    """Give a contained resource by `#id`."""
    contained = _list(resource, "contained")
    return next((each for each in contained if f"#{each.get('id')}" == literal), None)


# --- images ---------------------------------------------------------------------------------


def _media_shows(media: Json) -> Shown:
    modalities = (media.get("modality") or {}).get("coding")
    return _shown(modalities, media.get("bodySite"), media.get("view"))


def _shown(
    modalities: Iterable[Json] | None, body_site: Json | None, view: Json | None = None
) -> Shown:
    codes = [each.get("code") for each in modalities or () if each.get("system") == DCM]
    return Shown(
        modality=str(codes[0]) if codes else None,
        body_sites=_keys(body_site),
        view_codes=_keys(view),
    )


def _keys(concept: Json | None) -> tuple[tuple[str, str], ...]:
    codings = (concept or {}).get("coding") or ()
    return tuple(
        (str(each.get("system", "")), str(each["code"])) for each in codings if "code" in each
    )


def _contained_images(study: Json) -> list[Part]:
    inside = (each for each in _list(study, "contained") if each.get("resourceType") == "Binary")
    return [(_form(study, each),) for each in inside]


def _instances(study: Json) -> list[Part]:
    study_uid = _study_uid(study)
    return [
        (_instance(study, study_uid, series, instance),)
        for series in study.get("series") or ()
        for instance in series.get("instance") or ()
        if study_uid
    ]


def unlisted_study(resource: Json) -> str | None:
    """Give the UID of a study whose resource names no instance; None for any other resource."""
    if resource["resourceType"] != "ImagingStudy":
        return None
    named = (series.get("instance") for series in resource.get("series") or ())
    return None if any(named) else _study_uid(resource) or None


def listed_parts(study: Json, found: Iterable[Listed]) -> list[Part]:
    """Give the images of a study as its archive lists them.

    Args:
        study: The ImagingStudy; where it names series, those of others are left out.
        found: What the archive has.
    """
    wanted = {str(series.get("uid")) for series in study.get("series") or ()}
    return [
        (_form_of(study, each.instance, each.shown),)
        for each in found
        if not wanted or each.instance.series in wanted
    ]


def _study_uid(study: Json) -> str:
    uids = (
        str(each.get("value", "")).removeprefix(_UIDS)
        for each in study.get("identifier") or ()
        if each.get("system") == _UID_SYSTEM
    )
    return next(uids, "")


def _instance(study: Json, study_uid: str, series: Json, instance: Json) -> Form:
    shown = _shown([series.get("modality") or {}], {"coding": [series.get("bodySite") or {}]})
    place = Instance(study_uid, str(series.get("uid")), str(instance.get("uid")))
    return _form_of(study, place, shown)


def _form_of(study: Json, place: Instance, shown: Shown) -> Form:
    return Form(
        source=reference_of(study),
        content_type="application/dicom",
        instance=place,
        shown=shown,
    )


# --- text -----------------------------------------------------------------------------------


def _sections(
    sections: Iterable[Json], wanted: set[tuple[str, str]], *, is_inside: bool = False
) -> Iterator[Json]:
    """Give the sections that are wanted, each before those in it; what is in one is wanted too."""
    for section in sections:
        codings = (section.get("code") or {}).get("coding") or ()
        keys = {(str(each.get("system", "")), str(each.get("code", ""))) for each in codings}
        is_wanted = is_inside or not wanted or bool(keys & wanted)
        if is_wanted and (section.get("text") or {}).get("div"):
            yield section
        yield from _sections(section.get("section") or (), wanted, is_inside=is_wanted)


def _narrative(composition: Json, section: Json) -> Form:
    return Form(
        reference_of(composition),
        "application/xhtml+xml",
        section["text"]["div"],
        is_markup=True,
        language=section["text"].get("language") or composition.get("language"),
    )


def _payload(resource: Json, payload: Json, library: Library, depth: int) -> list[Part]:
    if text := payload.get("contentString"):
        return [(_plain(resource, text),)]
    if attachment := payload.get("contentAttachment"):
        return [(_form(resource, attachment),)]
    linked = _linked(resource, [payload.get("contentReference")], library, depth)
    return [part for each in linked for part in text_parts(each, library, depth=depth - 1)]
