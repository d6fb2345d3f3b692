"""The examples of IHE Privacy Consent on FHIR, written anew: consents, data and actors.

What they say was taken from the text of the profile (volume 1, 1:53.4.2) and its examples' own
descriptions, so that the tests run where the published files are not at hand.
"""

from typing import Any

from gateway.core.consent import Actor
from tests.factories import ACT_REASON, LOINC, SCOPE

Json = dict[str, Any]

TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
ACT_CODE = f"{TERMINOLOGY}/v3-ActCode"
CONFIDENTIALITY = f"{TERMINOLOGY}/v3-Confidentiality"
IRCP = {"coding": [{"system": f"{TERMINOLOGY}/v3-ParticipationType", "code": "IRCP"}]}
FOOBAR = "http://example.org/policies/purposeOfUse"
PATIENT = "Patient/ex-patient"
TPO = ("TREAT", "HPAYMT", "HOPERAT")


def purposes(*codes: str, system: str = ACT_REASON) -> list[Json]:
    return [{"system": system, "code": code} for code in codes]


def labels(*codes: str) -> list[Json]:
    """Confidentiality has one letter here, sensitivities have more."""
    return [
        {"system": CONFIDENTIALITY if len(code) == 1 else ACT_CODE, "code": code} for code in codes
    ]


def actors(*references: str) -> list[Json]:
    return [{"role": IRCP, "reference": {"reference": each}} for each in references]


def data(meaning: str, *references: str) -> list[Json]:
    return [{"meaning": meaning, "reference": {"reference": each}} for each in references]


def pcf_consent(**provision: Any) -> Json:
    """A Consent as the profiles want it, with this root provision."""
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"system": SCOPE, "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": LOINC, "code": "59284-0"}]}],
        "patient": {"reference": PATIENT},
        "dateTime": "2022-06-13",
        "performer": [{"reference": PATIENT}],
        "organization": [{"reference": "Organization/ex-organization"}],
        "sourceReference": {"reference": "DocumentReference/ex-documentreference"},
        "policy": [{"uri": "http://example.org/policies/basePrivacyConsentPolicy.txt"}],
        "provision": provision,
    }


def agreed(*exceptions: Json, **limits: Any) -> Json:
    """Agree to treatment, payment and operations, within limits and with exceptions."""
    nested = {"provision": list(exceptions)} if exceptions else {}
    return pcf_consent(type="permit", purpose=purposes(*TPO), **limits, **nested)


def but(kind: str, **limits: Any) -> Json:
    """An exception."""
    return {"type": kind, **limits}


_2022 = {"start": "2022-01-01", "end": "2022-12-31"}
_ITEMIZED = ("Encounter/ex-encounter", "Observation/ex-weight", "Observation/ex-weight-2")
_PRACTITIONER = "Practitioner/ex-practitioner"
_PRIVILEGED = "Group/ex-privilegedUsers"

CONSENTS: dict[str, Json] = {
    "basic-treat": agreed(),
    "basic-ink": agreed(),
    "basic-reject": pcf_consent(type="deny", purpose=purposes(*TPO)),
    "basic-research": pcf_consent(type="permit", purpose=purposes("HRESCH")),
    "expired-treat": agreed(period={"end": "2022-12-31"}),
    "intermediate-timeframe": agreed(dataPeriod=_2022),
    "intermediate-not-timeframe": agreed(but("deny", dataPeriod=_2022)),
    "intermediate-data": agreed(data=data("instance", *_ITEMIZED)),
    "intermediate-not-data": agreed(
        but("deny", data=data("instance", "Observation/ex-alcoholUse"))
    ),
    "intermediate-authoredby": agreed(data=data("authoredby", _PRACTITIONER)),
    "intermediate-not-authoredby": agreed(but("deny", data=data("authoredby", _PRACTITIONER))),
    "intermediate-encounter": agreed(data=data("related", "Encounter/ex-encounter")),
    "intermediate-not-encounter": agreed(
        but("deny", data=data("related", "Encounter/ex-encounter"))
    ),
    "intermediate-purpose": pcf_consent(
        type="permit",
        purpose=purposes("FooBar", system=FOOBAR),
        actor=actors("Organization/ex-org-researcher"),
    ),
    "dissent-break-glass": pcf_consent(
        type="deny",
        provision=[but("permit", purpose=purposes("BTG"), actor=actors(_PRIVILEGED))],
    ),
    "advanced-normal": agreed(securityLabel=labels("N")),
    "advanced-normal-restricted": agreed(securityLabel=labels("N", "R")),
    "advanced-normal-not-restricted": agreed(
        but("deny", securityLabel=labels("R")), securityLabel=labels("N")
    ),
    "advanced-normal-focused-restricted": agreed(
        but("permit", securityLabel=labels("R"), actor=actors(_PRACTITIONER)),
        securityLabel=labels("N"),
    ),
    "advanced-normal-focused-psy": agreed(
        but("permit", securityLabel=labels("PSY"), actor=actors(_PRACTITIONER)),
        securityLabel=labels("N"),
    ),
    "advanced-normal-focused-psy-or-sdv": agreed(
        but("permit", securityLabel=labels("PSY", "SDV"), actor=actors(_PRACTITIONER)),
        securityLabel=labels("N"),
    ),
    "advanced-normal-break-glass-restricted": agreed(
        but(
            "permit",
            purpose=purposes("BTG"),
            securityLabel=labels("R"),
            actor=actors(_PRIVILEGED),
        ),
        securityLabel=labels("N"),
    ),
}


def observation(name: str, at: str | None, *security: str, **changed: Any) -> Json:
    """An Observation by ex-author in ex-encounter; None takes an element away."""
    content = {
        "resourceType": "Observation",
        "id": f"ex-{name}",
        "meta": {"security": [*purposes("HTEST"), *labels(*security)]},
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "29463-7"}]},
        "subject": {"reference": PATIENT},
        "performer": [{"reference": "Practitioner/ex-author"}],
        "encounter": {"reference": "Encounter/ex-encounter"},
        "effectiveDateTime": at,
        **changed,
    }
    return {key: value for key, value in content.items() if value is not None}


_BY_PRACTITIONER = [{"reference": _PRACTITIONER}]
_ELSEWHERE = {"reference": "Encounter/ex-other"}

RESOURCES: dict[str, Json] = {
    "alcoholUse": observation("alcoholUse", "2022-06-13", "ETHUD", "R"),
    "bloodSugar": observation("bloodSugar", "2020-12-04T23:50:50-05:00", "N"),
    "weight": observation("weight", "2004-12-25T23:50:50-05:00", "N"),
    "weight-2": observation("weight-2", "2016-03-28", "N"),
    "first of 2022": observation("first", "2022-01-01", "N"),
    "last of 2022": observation("last", "2022-12-31T23:30:00+05:30", "N"),
    "first of 2023": observation("after", "2023-01-01", "N"),
    "some day of 2022": observation("some", "2022", "N"),
    "2022 or 2023": observation("span", None, "N", effectivePeriod={"start": "2022-12-01"}),
    "without time": observation("timeless", None, "N"),
    "by practitioner": observation("by", "2022-06-13", "N", performer=_BY_PRACTITIONER),
    "by nobody named": observation("anonymous", "2022-06-13", "N", performer=None),
    "of other encounter": observation("other", "2022-06-13", "N", encounter=_ELSEWHERE),
    "of no encounter named": observation("stray", "2022-06-13", "N", encounter=None),
    "restricted": observation("restricted", "2022-06-13", "R"),
    "very restricted": observation("very", "2022-06-13", "V"),
    "low": observation("low", "2022-06-13", "L"),
    "psychiatry": observation("psy", "2022-06-13", "PSY", "R"),
    "violence": observation("sdv", "2022-06-13", "SDV", "R"),
    "psychiatry and alcohol": observation("both", "2022-06-13", "PSY", "ETHUD", "R"),
    "psychiatry, very restricted": observation("psyv", "2022-06-13", "PSY", "V"),
    "sensitive without level": observation("hiv", "2022-06-13", "HIV"),
    "unlabelled": observation("unlabelled", "2022-06-13"),
    "encounter": {
        "resourceType": "Encounter",
        "id": "ex-encounter",
        "meta": {"security": labels("N")},
        "status": "finished",
        "class": {"system": ACT_CODE, "code": "HH"},
        "subject": {"reference": PATIENT},
    },
    "the patient": {
        "resourceType": "Patient",
        "id": PATIENT.removeprefix("Patient/"),
        "meta": {"security": labels("N")},
        "birthDate": "1950-01-01",
    },
}


def _actor(reference: str, organization: str, *groups: str) -> Actor:
    return Actor(
        references=frozenset({reference}),
        identifiers=frozenset(),
        groups=frozenset(groups),
        organizations=frozenset({organization}),
        roles=frozenset(),
    )


ACTORS: dict[str, Actor] = {
    "practitioner": _actor(_PRACTITIONER, "Organization/ex-organization", _PRIVILEGED),
    "clerk": _actor("Practitioner/ex-clerk", "Organization/ex-organization"),
    "researcher": _actor("Practitioner/ex-researcher", "Organization/ex-org-researcher"),
    "unknown": Actor(),
}
