"""(4.3) One patient's image → what a model of images is given, or a reasoned refusal.

Of several images the one is taken that the model was made for, by what the record and the file
say: modality, body part, view. When more than one fits, none is taken: which one the clinician
means can't be told. Only a few are looked at; of a larger series nobody could say either.

What then looks like no image of the model's kind is refused too, where the manifest says what one
looks like. Nothing that the record says to be of another modality or body part is fetched at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.attachments import Form, Part, image_parts, listed_parts, unlisted_study
from gateway.core.errors import ProcessingError
from models.images import (
    CONTENT_TYPES,
    UNSAID,
    ImageRefused,
    Picture,
    check,
    decode,
    plain_type,
    to_tensors,
)
from models.likeness import is_alike
from models.manifest_inputs import ImageInput
from models.pictures import check_shown
from workers.documents import (
    Document,
    DocumentRefused,
    Json,
    document_input,
    nothing_found,
    open_form,
)
from workers.shelf import Shelf

#: Most images of one event that are fetched and looked at.
MOST_IMAGES = 4


@dataclass(frozen=True)
class _Found:
    picture: Picture
    sources: tuple[str, ...]


def read_image(spec: ImageInput, content: Json, shelf: Shelf) -> Document:
    """Read the image of an event.

    Args:
        spec: What the model was made for.
        content: The event's resource.
        shelf: For what it points at.

    Raises:
        DocumentRefused: There is none, it is not what the model was made for, or several are.
        TransientError: The EHR or its archive is away.
    """
    parts = [part for each in _parts(content, shelf) if (part := _images_of(each))]
    if not parts:
        raise nothing_found("image", "DICOM, PNG or JPEG")
    found = _the_one([_attempt(part, spec, shelf) for part in _promising(parts, spec)])
    tensors = to_tensors(found.picture, spec)
    if spec.likeness and not is_alike(tensors[spec.input_name], spec.likeness):
        text = "does not look like those that the model was made for"
        raise DocumentRefused("image-implausible", text)
    return Document(tensors, document_input("image", content, found.sources, _note(found.picture)))


def _parts(content: Json, shelf: Shelf) -> Sequence[Part]:
    """Give the images that the resource has; those of a bare study as its archive lists them."""
    parts, study = image_parts(content, shelf), unlisted_study(content)
    if parts or study is None:
        return parts
    try:
        listed = listed_parts(content, shelf.keeper.instances(study))
    except ProcessingError:
        raise DocumentRefused("image-missing", "is not given by the archive") from None
    if not listed:
        raise DocumentRefused("image-missing", "is not in the archive", is_there=False)
    return listed


def _images_of(part: Part) -> Part:
    """Leave out the forms that are called something else, such as a PDF."""
    known = CONTENT_TYPES | UNSAID
    return tuple(form for form in part if plain_type(form.content_type) in known)


def _promising(parts: Sequence[Part], spec: ImageInput) -> Sequence[Part]:
    """Leave out what is said to be something else; if that is all, the first tells why."""
    lenient = spec.model_copy(update={"if_unstated": "accept"})
    fitting = [part for part in parts if _is_fitting(part[0], lenient)]
    if len(fitting) > MOST_IMAGES:
        raise _several()
    return fitting or parts[:1]


def _is_fitting(form: Form, spec: ImageInput) -> bool:
    try:
        check_shown((form.shown,), spec)
    except ImageRefused:
        return False
    return True


def _the_one(attempts: Sequence[_Found | DocumentRefused]) -> _Found:
    """Insist on exactly one image that the model can be given.

    One that is not there (yet) could be a second that fits: no choice is made without it.
    """
    refusals = [each for each in attempts if isinstance(each, DocumentRefused)]
    for each in refusals:
        if not each.is_there:
            raise each
    found = [each for each in attempts if isinstance(each, _Found)]
    if len(found) > 1:
        raise _several()
    if not found:
        raise refusals[0]
    return found[0]


def _several() -> DocumentRefused:
    text = "can't be told: there are several that the model could read"
    return DocumentRefused("image-ambiguous", text)


def _attempt(part: Part, spec: ImageInput, shelf: Shelf) -> _Found | DocumentRefused:
    """Read the first form that can be read; tell of the first what is wrong with it."""
    first: DocumentRefused | None = None
    for form in part[:MOST_IMAGES]:
        try:
            return _read(form, spec, shelf)
        except DocumentRefused as refused:
            first = first or refused
    return first or nothing_found("image", "DICOM, PNG or JPEG")


def _read(form: Form, spec: ImageInput, shelf: Shelf) -> _Found:
    # What is said to be something else is neither fetched nor decoded.
    lenient = spec.model_copy(update={"if_unstated": "accept"})
    try:
        check_shown((form.shown,), lenient)
        opened = open_form("image", form, shelf, max_bytes=spec.max_bytes)
        picture = decode(opened.body, opened.content_type, spec)
        check(picture, spec, form.shown)
    except ImageRefused as refused:
        raise DocumentRefused(refused.reason, str(refused)) from None
    if form.instance is not None and picture.instance != form.instance.instance:
        text = "that the archive gave is not the one that was asked for"
        raise DocumentRefused("attachment-altered", text)
    return _Found(picture, opened.sources)


def _note(picture: Picture) -> str:
    """Say what was found: kind of file, modality and size; nothing of what is on it."""
    said = (picture.kind.upper(), picture.shown.modality, picture.shown.body_part)
    return ", ".join([*filter(None, said), f"{picture.columns} x {picture.rows} pixels"])
