"""What a purpose of use means, in words: to the patient whose data it is, and to others.

Source: HL7 v3-ActReason (http://terminology.hl7.org/CodeSystem/v3-ActReason).
"""

#: Code -> how it is told to the patient; how it stands in a record.
_WORDS = {
    "TREAT": ("your treatment", "treatment of the patient"),
    "ETREAT": ("treatment in an emergency", "treatment in an emergency"),
    "BTG": ("an emergency, without asking", "an emergency, over the patient's consent"),
    "HRESCH": ("research", "research"),
    "HPAYMT": ("billing", "billing"),
    "HOPERAT": ("running the hospital", "running the hospital"),
    "PUBHLTH": ("public health", "public health"),
}
_UNNAMED = "a use that is not named"


def told_to_patient(code: str | None) -> str:
    """Say to a patient what a v3-ActReason code means."""
    return _WORDS.get(code or "", (code or _UNNAMED, ""))[0]


def in_words(code: str | None) -> str:
    """Say what a v3-ActReason code means, for a record."""
    return _WORDS.get(code or "", ("", code or _UNNAMED))[1]
