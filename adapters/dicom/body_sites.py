"""Body parts as images name them, and their codes in SNOMED CT; others go by their name alone.

Source: DICOM PS3.16 annex L (Body Part Examined); SNOMED CT body structures.
"""

from collections.abc import Mapping

BODY_SITES: Mapping[str, str] = {
    "ANKLE": "70258002",
    "BRAIN": "12738006",
    "BREAST": "76752008",
    "CHEST": "51185008",
    "FOOT": "56459004",
    "HAND": "85562004",
    "HEAD": "69536005",
    "HEART": "80891009",
    "KNEE": "72696002",
    "LUNG": "39607008",
    "NECK": "45048000",
    "SHOULDER": "16982005",
}
