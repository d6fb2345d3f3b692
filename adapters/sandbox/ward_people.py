"""Synthetic people of several Indian regions: names, ages, addresses, identifiers.

Nobody here exists. Names are common given and family names combined by dice; an ABHA number of
this ward starts with `00`, a mobile number with `+91 00`, neither of which is ever issued.

Source: NRCeS FHIR implementation guide for ABDM 2.0.1 (Patient), for the form of identifiers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from random import Random
from typing import Any

ABHA_SYSTEM = "https://healthid.ndhm.gov.in"
MRN_SYSTEM = "https://hospital.example/mrn"
_V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"
_YOUNGEST_DAYS = 20 * 365
_AGE_SPAN_DAYS = 58 * 365


@dataclass(frozen=True)
class _Region:
    """A region: where its people live and what they are called.

    Attributes:
        pin: First three digits of its PIN codes.
        female: Given names as written in Latin script -> in the region's own, "" where not known.
    """

    state: str
    city: str
    pin: str
    female: Mapping[str, str]
    male: Mapping[str, str]
    family: Mapping[str, str]


def _latin(names: str) -> Mapping[str, str]:
    return dict.fromkeys(names.split(), "")


_REGIONS = (
    _Region(
        "Tamil Nadu",
        "Karaikudi",
        "630",
        {"Lakshmi": "லட்சுமி", "Meenakshi": "மீனாட்சி", "Kavitha": "கவிதா", "Selvi": "செல்வி"},
        {"Murugan": "முருகன்", "Senthil": "செந்தில்", "Karthik": "கார்த்திக்", "Rajan": "ராஜன்"},
        {"Subramanian": "சுப்பிரமணியன்", "Pandian": "பாண்டியன்", "Arumugam": "ஆறுமுகம்"},
    ),
    _Region(
        "Uttar Pradesh",
        "Varanasi",
        "221",
        {"Sunita": "सुनीता", "Pooja": "पूजा", "Geeta": "गीता", "Shabana": "शबाना"},
        {"Ramesh": "रमेश", "Suresh": "सुरेश", "Imran": "इमरान", "Vijay": "विजय"},
        {"Sharma": "शर्मा", "Yadav": "यादव", "Ansari": "अंसारी", "Mishra": "मिश्रा"},
    ),
    _Region(
        "West Bengal",
        "Bardhaman",
        "713",
        {"Mousumi": "মৌসুমী", "Rina": "রীনা", "Sharmila": "শর্মিলা"},
        {"Subrata": "সুব্রত", "Anirban": "অনির্বাণ", "Tapan": "তপন"},
        {"Mukherjee": "মুখার্জী", "Das": "দাস", "Ghosh": "ঘোষ"},
    ),
    _Region(
        "Kerala",
        "Thrissur",
        "680",
        _latin("Anitha Bindu Fathima Mary Sreeja"),
        _latin("Biju Rajesh Shaji Thomas Unnikrishnan"),
        _latin("Nair Menon Varghese Kurian Pillai"),
    ),
    _Region(
        "Punjab",
        "Ludhiana",
        "141",
        _latin("Harpreet Gurleen Jaspreet Manjit Simran"),
        _latin("Gurpreet Baljit Harjinder Sukhdev Rajinder"),
        _latin("Singh Brar Gill Sandhu Dhillon"),
    ),
    _Region(
        "Maharashtra",
        "Satara",
        "415",
        _latin("Snehal Vaishali Sangeeta Ashwini Rohini"),
        _latin("Sachin Prakash Nilesh Dattatray Ganesh"),
        _latin("Patil Deshmukh Jadhav Kulkarni Shinde"),
    ),
    _Region(
        "Andhra Pradesh",
        "Guntur",
        "522",
        _latin("Padmavathi Sujatha Ramadevi Swathi Lalitha"),
        _latin("Venkatesh Srinivas Nageswara Ravi Krishna"),
        _latin("Reddy Naidu Rao Chowdary Varma"),
    ),
    _Region(
        "Assam",
        "Jorhat",
        "785",
        _latin("Rupali Jonali Minati Nilakshi Barnali"),
        _latin("Bhaskar Dipankar Hemanta Pranjal Rituraj"),
        _latin("Borah Saikia Gogoi Kalita Hazarika"),
    ),
)


def patient(dice: Random, patient_id: str, today: date) -> dict[str, Any]:
    """Make up one adult.

    Args:
        dice: Seeded by the ward.
        patient_id: Logical id.
        today: From which ages are counted.

    Returns:
        An R4 Patient without `meta`.
    """
    region = dice.choice(_REGIONS)
    gender = dice.choice(("female", "male"))
    born = today.toordinal() - _YOUNGEST_DAYS - dice.randrange(_AGE_SPAN_DAYS)
    return {
        "resourceType": "Patient",
        "id": patient_id,
        "identifier": _identifiers(dice),
        "active": True,
        "name": _names(dice, region, gender),
        "telecom": [{"system": "phone", "value": f"+91 00{_digits(dice, 8)}", "use": "mobile"}],
        "gender": gender,
        "birthDate": date.fromordinal(born).isoformat(),
        "address": [
            {
                "use": "home",
                "line": [f"{dice.randint(1, 240)}, {dice.choice(_STREETS)}"],
                "city": region.city,
                "state": region.state,
                "postalCode": f"{region.pin}{_digits(dice, 3)}",
                "country": "IN",
            }
        ],
    }


_STREETS = ("Gandhi Road", "Station Road", "Temple Street", "Nehru Nagar", "Market Road")


def _identifiers(dice: Random) -> list[dict[str, Any]]:
    abha = f"00-{_digits(dice, 4)}-{_digits(dice, 4)}-{_digits(dice, 4)}"
    medical_record = {"coding": [{"system": _V2_0203, "code": "MR"}]}
    return [
        {"system": ABHA_SYSTEM, "value": abha},
        {"type": medical_record, "system": MRN_SYSTEM, "value": f"MRN{_digits(dice, 8)}"},
    ]


def _names(dice: Random, region: _Region, gender: str) -> list[dict[str, Any]]:
    """Give the name in Latin script and, where known, in the region's own."""
    names = region.female if gender == "female" else region.male
    given, given_native = dice.choice(list(names.items()))
    family, family_native = dice.choice(list(region.family.items()))
    official = {
        "use": "official",
        "text": f"{given} {family}",
        "family": family,
        "given": [given],
    }
    if not given_native:
        return [official]
    return [official, {"use": "usual", "text": f"{given_native} {family_native}"}]


def _digits(dice: Random, count: int) -> str:
    return f"{dice.randrange(10**count):0{count}d}"
