"""Body parts as images name them, and their codes in SNOMED CT; others go by their name alone.

DICOM had another code for the chest before (51185008, thoracic structure), which older senders
still write: a model for chest films accepts both.

Source: DICOM PS3.16 annex L, table L-1 (Body Part Examined), and CID 4, 4030 and 4031; a test
compares these codes with the tables of these CIDs that pydicom brings.
"""

from collections.abc import Mapping

BODY_SITES: Mapping[str, str] = {
    "ANKLE": "70258002",
    "BRAIN": "12738006",
    "BREAST": "76752008",
    "CHEST": "816094009",
    "FOOT": "56459004",
    "HAND": "85562004",
    "HEAD": "69536005",
    "HEART": "80891009",
    "KNEE": "72696002",
    "LUNG": "39607008",
    "NECK": "45048000",
    "SHOULDER": "16982005",
}
