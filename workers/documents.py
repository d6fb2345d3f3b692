"""(4.3) The image or text of one case → tensors, or a reasoned refusal.

`workers.pictures` and `workers.notes` know how; this module is what they have in common, and what
their callers see. They are loaded when a model first needs them: a worker whose models read only
numbers does without decoders and tokenizers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from adapters.fhir_rest.errors import EhrAnswerTooLarge, ForeignAddress
from gateway.core.attachments import MOST_REFERENCES, Form, references
from gateway.core.errors import ProcessingError
from gateway.core.event import facts, reference_of
from models.manifest import Manifest
from models.tensors import Tensors
from workers.features import FeatureInput, Refusal
from workers.reasons import Reason
from workers.shelf import Altered, Damaged, NotHere, Opened, Shelf, TooLargeToOpen

if TYPE_CHECKING:
    from models.texts import TextEncoder

Json = Mapping[str, Any]
DocumentKind = Literal["image", "text"]

_MISSING: Mapping[DocumentKind, Reason] = {"image": "image-missing", "text": "text-missing"}
_TOO_LARGE: Mapping[DocumentKind, Reason] = {"image": "image-too-large", "text": "text-too-long"}
_DAMAGED: Mapping[DocumentKind, Reason] = {"image": "image-unreadable", "text": "text-unreadable"}


class DocumentRefused(Exception):
    """An image or text is not given to the model.

    The message is a sentence's end for people ("… is damaged"), without any value.

    Attributes:
        reason: Why, as a code.
        is_there: False when it is nowhere, which may only be a matter of time.
    """

    def __init__(self, reason: Reason, text: str, *, is_there: bool = True) -> None:
        self.reason: Reason = reason
        self.is_there = is_there
        super().__init__(text)


@dataclass(frozen=True, eq=False)
class Document:
    """An image or text as the model is given it.

    Attributes:
        tensors: By the names of the graph's inputs, without the batch axis.
        input: What it is and where it comes from.
    """

    tensors: Tensors
    input: FeatureInput


def kind_of(manifest: Manifest) -> DocumentKind | None:
    """Say what a model reads beside numbers."""
    if manifest.image is not None:
        return "image"
    return None if manifest.text is None else "text"


def read_document(
    manifest: Manifest, encoder: "TextEncoder | None", content: Json, shelf: Shelf
) -> Document:
    """Read the image or text of an event.

    Args:
        manifest: Of a model that reads one.
        encoder: The model's tokenizer, where it reads texts.
        content: The event's resource.
        shelf: For what it points at.

    Raises:
        DocumentRefused: The model must not be asked.
        TransientError: The EHR or its archive is away.
    """
    if len(references(content)) > MOST_REFERENCES:
        raise _too_many(kind_of(manifest) or "text")
    # Imported when wanted, see above.
    if manifest.image is not None:
        from workers.pictures import read_image  # noqa: PLC0415

        return read_image(manifest.image, content, shelf)
    from workers.notes import read_text  # noqa: PLC0415

    if manifest.text is None or encoder is None:
        raise ValueError("the model reads neither images nor texts")
    return read_text(manifest.text, encoder, content, shelf)


def _too_many(kind: DocumentKind) -> DocumentRefused:
    reason: Reason = "image-ambiguous" if kind == "image" else "text-too-long"
    return DocumentRefused(reason, "is in more pieces than are followed")


def refusal_of(manifest: Manifest, refused: DocumentRefused, content: Json) -> Refusal:
    """Word a refusal for people: what the model needs, and what is wrong with it."""
    kind = kind_of(manifest) or "text"
    part = manifest.image or manifest.text
    label = part.label if part else ""
    source = _source(content)
    return Refusal(refused.reason, (kind,), source, f"{label}: the {kind} {refused}.")


def document_input(
    kind: DocumentKind, content: Json, sources: tuple[str, ...], note: str
) -> FeatureInput:
    """Describe what the model was given, for the audit trail and for `derivedFrom`.

    Args:
        kind: What it is.
        content: The event's resource, which says when it was true.
        sources: References of what it was read from.
        note: What it is, in words, without anything of its content.
    """
    named = tuple(dict.fromkeys(filter(None, (*_source(content), *sources))))
    return FeatureInput(kind, None, "", _moment(content), named, "present", note)


def open_form(kind: DocumentKind, form: Form, shelf: Shelf, *, max_bytes: int) -> Opened:
    """Give the bytes of a form.

    Raises:
        DocumentRefused: They are not there, too many, or not those that are described.
        TransientError: The EHR or its archive is away.
    """
    try:
        return shelf.open(form, max_bytes=max_bytes)
    except (TooLargeToOpen, EhrAnswerTooLarge):
        raise DocumentRefused(_TOO_LARGE[kind], "is larger than is accepted") from None
    except Damaged:
        raise DocumentRefused(_DAMAGED[kind], "is damaged") from None
    except Altered:
        text = "has another size or hash than the resource says"
        raise DocumentRefused("attachment-altered", text) from None
    except ForeignAddress:
        text = "is kept outside of the EHR; only the EHR's own addresses are followed"
        raise DocumentRefused(_MISSING[kind], text) from None
    except NotHere:
        text = "is not there, neither with the resource nor in the EHR"
        raise DocumentRefused(_MISSING[kind], text, is_there=False) from None
    except ProcessingError:
        raise DocumentRefused(_MISSING[kind], "is not given by the EHR") from None


def nothing_found(kind: DocumentKind, kinds: str) -> DocumentRefused:
    """Say that a resource holds and points at nothing that can be read."""
    return DocumentRefused(_MISSING[kind], f"is missing: the resource has none ({kinds})")


def _source(content: Json) -> tuple[str, ...]:
    reference = reference_of(content)
    return (reference,) if reference else ()


def _moment(content: Json) -> datetime | None:
    return facts(content).effective
