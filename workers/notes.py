"""(4.3) One patient's note → what a model of texts is given, or a reasoned refusal.

The parts of a text are read one after the other and joined by line breaks. Of a part's forms the
first counts that is of a type the model reads. The characters are those of the charset that the
content type names, UTF-8 where it names none; what can't be read so is refused, never guessed.

No text that is read here is ever logged or put on record.

Source: FHIR R4 Attachment; RFC 2046 section 4.1.2 and RFC 6657 (charset of text types).
"""

from email.message import Message

from gateway.core.attachments import Form, Part, text_parts
from models.manifest_inputs import TextInput
from models.texts import TextEncoder, TextRefused, primary_language
from workers.documents import (
    Document,
    DocumentRefused,
    Json,
    document_input,
    nothing_found,
    open_form,
)
from workers.markup import text_of_markup
from workers.shelf import Shelf

_MARKUP = frozenset({"text/html", "application/xhtml+xml"})
#: Charsets of notes; of others Python knows some that are none, or slow.
_CHARSETS = {
    "utf-8": "utf-8-sig",
    "utf8": "utf-8-sig",
    "us-ascii": "utf-8-sig",
    "ascii": "utf-8-sig",
    "iso-8859-1": "cp1252",  # what is called so is windows-1252 on the web, and a superset
    "latin1": "cp1252",
    "windows-1252": "cp1252",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
}
#: Bytes per character that is read: letters of four bytes, and markup around them.
_BYTES_PER_CHARACTER = 8


def read_text(spec: TextInput, encoder: TextEncoder, content: Json, shelf: Shelf) -> Document:
    """Read the note of an event.

    Args:
        spec: What the model was made for.
        encoder: The model's tokenizer.
        content: The event's resource.
        shelf: For what it points at.

    Raises:
        DocumentRefused: There is none, or it is not one that the model was made for.
        TransientError: The EHR is away.
    """
    parts = text_parts(content, shelf, spec.sections)
    chosen = [form for part in parts if (form := _readable(part, spec))]
    if not chosen:
        raise nothing_found("text", ", ".join(spec.content_types))
    read = [_read(form, spec, shelf) for form in chosen]
    text = "\n".join(each for each, _ in read)
    try:
        tensors = encoder.encode(text, language=_language(chosen, spec))
    except TextRefused as refused:
        raise DocumentRefused(refused.reason, str(refused)) from None
    sources = tuple(source for _, named in read for source in named)
    return Document(tensors, document_input("text", content, sources, f"{len(text)} characters"))


def _readable(part: Part, spec: TextInput) -> Form | None:
    """Give the first form that the model reads; what a narrative or a person wrote always is."""
    known = {*spec.content_types, ""}
    return next((form for form in part if form.text is not None or _type(form) in known), None)


def _language(forms: list[Form], spec: TextInput) -> str | None:
    """Give what is said of the language: a foreign one first, so that it is seen."""
    said = [form.language for form in forms if form.language]
    foreign = [each for each in said if primary_language(each) not in spec.languages]
    return next(iter([*foreign, *said]), None)


def _read(form: Form, spec: TextInput, shelf: Shelf) -> tuple[str, tuple[str, ...]]:
    if form.text is not None:
        text = text_of_markup(form.text) if form.is_markup else form.text
        return text, (form.source,)
    limit = spec.max_characters * _BYTES_PER_CHARACTER
    opened = open_form("text", form, shelf, max_bytes=limit)
    kind, charset = _media(opened.content_type)
    if kind not in {*spec.content_types, ""}:
        raise nothing_found("text", ", ".join(spec.content_types))
    text = _characters(opened.body, charset)
    return text_of_markup(text) if kind in _MARKUP else text, opened.sources


def _characters(body: bytes, charset: str) -> str:
    codec = _CHARSETS.get(charset)
    if codec is None:
        raise DocumentRefused("text-unreadable", "is in a charset that can't be read here")
    try:
        text = body.decode(codec)
    except UnicodeDecodeError:
        raise DocumentRefused("text-unreadable", "is not in the charset that it says") from None
    if "\0" in text:
        raise DocumentRefused("text-unreadable", "is no text")
    return text


def _type(form: Form) -> str:
    return _media(form.content_type)[0]


def _media(content_type: str) -> tuple[str, str]:
    """Give type and charset of a content type, in lower case; no type where nothing is said."""
    if not content_type:
        return "", "utf-8"
    media = Message()
    media["content-type"] = " ".join(content_type.split())
    return media.get_content_type(), str(media.get_param("charset", "utf-8")).lower()
