"""What a purpose of use means, in words: to the patient whose data it is, and to others.

Source: HL7 v3-ActReason (http://terminology.hl7.org/CodeSystem/v3-ActReason).
"""

import re

#: Code -> how it is told to the patient; how it stands in a record; in the midst of a sentence.
_WORDS = {
    "TREAT": ("your treatment", "treatment of the patient", "treatment"),
    "ETREAT": ("treatment in an emergency", "treatment in an emergency", "emergency treatment"),
    "BTG": (
        "an emergency, without asking",
        "an emergency, over her consent",
        "an emergency",
    ),
    "HRESCH": ("research", "research", "research"),
    "HPAYMT": ("billing", "billing", "billing"),
    "HOPERAT": ("running the hospital", "running the hospital", "running the hospital"),
    "PUBHLTH": ("public health", "public health", "public health"),
}
_CODES = re.compile(rf"\b(?:purpose )?({'|'.join(_WORDS)})\b")
_UNNAMED = "a use that is not named"


def told_to_patient(code: str | None) -> str:
    """Say to a patient what a v3-ActReason code means."""
    return _WORDS[code][0] if code in _WORDS else code or _UNNAMED


def in_words(code: str | None) -> str:
    """Say what a v3-ActReason code means, for a record."""
    return _WORDS[code][1] if code in _WORDS else code or _UNNAMED


def without_codes(sentence: str) -> str:
    """Put words for the codes in a sentence."""
    return _CODES.sub(lambda found: _WORDS[found[1]][2], sentence)
