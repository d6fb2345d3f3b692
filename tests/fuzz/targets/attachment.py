"""Where the images and texts of a resource are: found in whatever is valid FHIR."""

from gateway.core.attachments import image_parts, references, text_parts
from gateway.core.errors import ContentError
from gateway.core.fhir import parse_resource
from tests.factories import raw
from tests.fuzz.target import Target, shared
from tests.toy_documents import (
    attachment,
    communication,
    composition,
    document,
    imaging_study,
    media,
    report,
    section,
)


class _Mirror:
    """Gives for every reference the resource itself: the longest way that there can be."""

    def __init__(self, content: dict) -> None:
        self._content = content

    def resource(self, _reference: str) -> dict:
        return self._content


def run(data: bytes) -> None:
    """Find images and texts."""
    content = parse_resource(data).content
    library = _Mirror(content)
    image_parts(content, library)
    text_parts(content, library)
    references(content)


def seeds() -> list[bytes]:
    """Give a resource of each kind that holds any."""
    part = attachment(b"x", "text/plain")
    made = [
        media(part),
        document(part),
        imaging_study(("1.2.3.4", "1.2.3.5")),
        report(),
        composition(section("<p>x</p>")),
        communication({"contentString": "x"}),
    ]
    kinds = ("Media", "DocumentReference", "ImagingStudy", "DiagnosticReport", "Composition")
    return [
        *map(raw, made),
        *(each for kind in kinds for each in shared(f"r4-examples/{kind}*", most=4)),
    ]


TARGET = Target(run, seeds, (ContentError,))
