"""(4.3) Why a model is not asked: the reasons of a refusal, and what each says to people."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Reason = Literal[
    "masked",
    "patient-unknown",
    "unit-unknown",
    "unit-not-convertible",
    "input-unreadable",
    "input-censored",
    "input-implausible",
    "outside-intended-use",
    "input-stale",
    "input-missing",
    "too-few-inputs",
    "image-missing",
    "image-unreadable",
    "image-too-large",
    "image-blank",
    "image-ambiguous",
    "image-implausible",
    "wrong-modality",
    "wrong-body-part",
    "wrong-view",
    "text-missing",
    "text-unreadable",
    "text-foreign",
    "text-too-long",
    "attachment-altered",
]

REASONS: Mapping[Reason, str] = MappingProxyType(
    {
        "masked": "the patient's consent does not permit all data that the model would read",
        "patient-unknown": "the Patient resource or its birth date or gender is not known",
        "unit-unknown": "the unit is absent, is not UCUM, or contradicts itself",
        "unit-not-convertible": "the unit can't be converted to the one the model needs",
        "input-unreadable": "the newest result is not one number or code that the model knows",
        "input-censored": "the newest result is only a bound (below or above a limit)",
        "input-implausible": "the newest result is outside what a living person can have",
        "outside-intended-use": "the model was not made for such a patient",
        "input-stale": "the newest result is too old, or carries no date",
        "input-missing": "there is no result",
        "too-few-inputs": "too few of the results the model uses are there",
        "image-missing": "there is no image that can be read",
        "image-unreadable": "the image is damaged, or of a kind that can't be read",
        "image-too-large": "the image has more bytes or pixels than are accepted",
        "image-blank": "on the image is nothing to be seen",
        "image-ambiguous": "there are several images that the model could read",
        "image-implausible": "the image does not look like those that the model was made for",
        "wrong-modality": "the image is of another modality, or does not say of which",
        "wrong-body-part": "the image shows another part of the body, or does not say which",
        "wrong-view": "the image is another view, or does not say which",
        "text-missing": "there is no text that can be read, or it is empty",
        "text-unreadable": "the text is damaged, or not in the encoding that it says",
        "text-foreign": "the text is in a language or script that the model does not read",
        "text-too-long": "the text is longer than one note is",
        "attachment-altered": "the content is not the one that was described",
    }
)
"""What each reason says to people; in order of weight: the first that applies is given."""

OUTSIDE_USE: frozenset[Reason] = frozenset(
    {
        "outside-intended-use",
        "image-implausible",
        "wrong-modality",
        "wrong-body-part",
        "wrong-view",
        "text-foreign",
    }
)
"""Reasons that say that the model was not made for this; the others, that it could not be asked."""
