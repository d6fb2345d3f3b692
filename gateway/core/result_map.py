"""(5) A picture that belongs to a result: a Media with the PNG in it.

The picture is made by the same model and says nothing of its own, so it carries the same label, is
part of the result, and says in `note` how it is to be read. `completed`: there is nothing more of
it to come; the result itself stays `preliminary`.

Source: FHIR R4 Media; HL7 AI Transparency on FHIR (STU1 ballot).
"""

from base64 import b64encode
from hashlib import sha1

from gateway.core.result_frame import Frame, notes_for
from gateway.core.result_terms import (
    AIAST,
    RESULT_SYSTEM,
    TERMINOLOGY,
    Json,
    attachment_identifier,
    instant,
    result_urn,
)
from models.explained import Drawing

OCCLUSION_MAP = "occlusion-map"
HOW_TO_READ = (
    "Shows where hiding a part of the image changes the answer of the model: orange raises its "
    "value, blue lowers it. It is no segmentation and no outline of a finding."
)


def occlusion_map_of(frame: Frame, drawing: Drawing) -> Json:
    """Write an occlusion map as a Media.

    Args:
        frame: Of the result that it belongs to.
        drawing: The map.
    """
    context, manifest = frame.context, frame.manifest
    maker = "AI, demonstration only" if manifest.demonstration_only else "AI"
    own = attachment_identifier(context.identifier, OCCLUSION_MAP)
    made: Json = {
        "resourceType": "Media",
        "meta": {"security": [AIAST, *context.labels]},
        "identifier": [{"system": RESULT_SYSTEM, "value": own}],
        "partOf": [{"reference": result_urn(context.identifier)}],
        "status": "completed",
        "type": {"coding": [{"system": f"{TERMINOLOGY}/media-type", "code": "image"}]},
        "subject": {"reference": context.subject},
        "createdDateTime": instant(context.issued),
        "issued": instant(context.issued),
        "device": {"reference": frame.device},
        "height": drawing.height,
        "width": drawing.width,
        "content": _content(drawing, f"{manifest.title}: occlusion map ({maker})"),
        "note": [{"text": text} for text in (HOW_TO_READ, *notes_for(manifest))],
    }
    if context.encounter:
        made["encounter"] = {"reference": context.encounter}
    return made


def _content(drawing: Drawing, title: str) -> Json:
    # FHIR's `hash` is SHA-1: it finds damage, it is no signature.
    digest = sha1(drawing.png, usedforsecurity=False).digest()
    return {
        "contentType": "image/png",
        "data": b64encode(drawing.png).decode(),
        "size": len(drawing.png),
        "hash": b64encode(digest).decode(),
        "title": title,
    }
