"""The codes that consents are written in, and which of them stand under which.

A permit is read by the narrowest tree, a denial by the widest: where two releases of a code system
disagree about the parent of a code, a permit goes by the newer one and a denial by both.

Break-glass (BTG) stands alone here although v3-ActReason has it under ETREAT under TREAT: nobody
who agrees to treatment thereby agrees that the glass is broken.

Source: HL7 terminology v3-ActReason, v3-Confidentiality, v3-ActCode, v3-ParticipationType,
consentscope, consentcategorycodes, consentaction (https://terminology.hl7.org); IHE PCF volume 1,
1:53.4.2.7, for ETH as the parent of ETHUD and OPIOIDUD.
"""

from collections.abc import Iterable, Mapping

_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
ACT_REASON = f"{_TERMINOLOGY}/v3-ActReason"
ACT_CODE = f"{_TERMINOLOGY}/v3-ActCode"
CONFIDENTIALITY = f"{_TERMINOLOGY}/v3-Confidentiality"
PARTICIPATION = f"{_TERMINOLOGY}/v3-ParticipationType"
CONSENT_SCOPE = f"{_TERMINOLOGY}/consentscope"
CONSENT_CATEGORY = f"{_TERMINOLOGY}/consentcategorycodes"
CONSENT_ACTION = f"{_TERMINOLOGY}/consentaction"
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"

# The same code systems as older systems name them.
_ALIASES = {
    "urn:oid:2.16.840.1.113883.5.8": ACT_REASON,
    "urn:oid:2.16.840.1.113883.5.4": ACT_CODE,
    "urn:oid:2.16.840.1.113883.5.25": CONFIDENTIALITY,
    "urn:oid:2.16.840.1.113883.5.90": PARTICIPATION,
    "http://hl7.org/fhir/v3/ActReason": ACT_REASON,
    "http://hl7.org/fhir/v3/ActCode": ACT_CODE,
    "http://hl7.org/fhir/v3/Confidentiality": CONFIDENTIALITY,
    "http://hl7.org/fhir/v3/ParticipationType": PARTICIPATION,
}

BREAK_GLASS = "BTG"
RESEARCH = "HRESCH"

_PURPOSES: Mapping[str, str] = {
    "PurposeOfUse": "HMARKT HOPERAT HPAYMT HRESCH PATRQT PUBHLTH TREAT",
    "HOPERAT": "CAREMGT DONAT FRAUD GOV HACCRED HCOMPL HDECD HDIRECT HDM HLEGAL HOUTCOMS HPRGRP "
    "HQUALIMP HSYSADMIN MEMADMIN MILCDM MLTRAINING PATADMIN PATSFTY PERFMSR RECORDMGT SYSDEV TRAIN",
    "HSYSADMIN": "LABELING METAMGT",
    "SYSDEV": "HTEST",
    "HPAYMT": "CLMATTCH COVAUTH COVERAGE PMTDS REMITADV",
    "COVERAGE": "ELIGDTRM ELIGVER ENROLLM MILDCRG",
    "HRESCH": "BIORCH CLINTRCH DSRCH POARCH TRANSRCH",
    "CLINTRCH": "CLINTRCHNPC CLINTRCHPC PRECLINTRCH",
    "PATRQT": "FAMRQT PWATRNY SUPNWK",
    "PUBHLTH": "DISASTER THREAT",
    "TREAT": "CLINTRL COC ETREAT POPHLTH TREATDS",
    "ETREAT": "ERTREAT",
}
# Care management was treatment before it was operations.
_PURPOSES_ONCE = {"TREAT": "CAREMGT"}

#: Lowest first.
CONFIDENTIALITIES = ("U", "L", "M", "N", "R", "V")
NORMAL = CONFIDENTIALITIES.index("N")
RESTRICTED = CONFIDENTIALITIES.index("R")

_SENSITIVITIES: Mapping[str, str] = {
    "_InformationSensitivityPolicy": "_ActInformationSensitivityPolicy _EntitySensitivityPolicyType"
    " _RoleInformationSensitivityPolicy ADOL CEL DIA DRGIS EMP PDS PHY PRS VIP",
    "_ActInformationSensitivityPolicy": "ETH GDIS HIV IDS MST PREGNANT SCA SDV SEX SICKLE SPI STD "
    "TBOO VIO",
    "_EntitySensitivityPolicyType": "DEMO DOB GENDER LIVARG MARST PATLOC RACE REL",
    "_RoleInformationSensitivityPolicy": "B EMPL LOCIS SSP",
    "SPI": "BH MH PSY PSYTHPN SUD",
    "BH": "COGN DVD EMOTDIS",
    "SUD": "ETHUD OPIOIDUD",
    "ETH": "ETHUD OPIOIDUD",
}
# Mental health and substance use stood under behavioural health before they stood beside it.
_SENSITIVITIES_ONCE = {"BH": "MH PSY PSYTHPN SUD", "ETH": "SUD"}

REDACT = "REDACT"
_OBLIGATIONS = (
    "ANONY AOD AUDIT AUDTR CPLYPOL CPLYCC CPLYCD CPLYCUI CPLYJPP CPLYJSP CPLYOPP CPLYOSP "
    "DECLASSIFYLABEL DEID DELAU DOWNGRDLABEL DRIVLABEL ENCRYPT ENCRYPTR ENCRYPTT ENCRYPTU HUAPRV "
    "LABEL MASK MINEC PERSISTLABEL PRIVMARK CUIMark PSEUD REDACT UPGRDLABEL PROCESSINLINELABEL"
)
_REFRAINS = (
    "NOAUTH NOCOLLECT NODSCLCD NODSCLCDS NOINTEGRATE NOLIST NOMOU NOORGPOL NOPAT NOPERSISTP "
    "NORDSCLCD NORDSLCD NORDSCLCDS NORDSCLW NORELINK NOREUSE NOVIP ORCON"
)
#: What a consent can ask of whoever uses the data: obligations and refrains of v3-ActCode.
OBLIGATIONS = frozenset((*_OBLIGATIONS.split(), *_REFRAINS.split()))

#: Roles in which somebody gets information; a rule that names another speaks of who holds it.
RECIPIENTS = frozenset(f"{PARTICIPATION}|{code}" for code in ("IRCP", "PRCP"))
ACTIONS = frozenset({"access", "collect", "correct", "disclose", "use"})

# What a consent of one of these categories can permit at all.
_CATEGORY_PURPOSES: Mapping[str, frozenset[str]] = {
    "acd": frozenset(),
    "dnr": frozenset(),
    "hcd": frozenset(),
    "npp": frozenset(),
    "polst": frozenset(),
    "emrgonly": frozenset({"ETREAT", BREAK_GLASS}),
    "research": frozenset({RESEARCH}),
    "rsdid": frozenset({RESEARCH}),
    "rsreid": frozenset({RESEARCH}),
}

# Confidentiality once had codes for kinds of information; they are sensitivities now.
_SENSITIVITIES_IN_CONFIDENTIALITY = frozenset({"ETH", "HIV", "PSY", "SDV"})


def system_of(written: object) -> str:
    """Give the canonical address of a code system; empty when none is written."""
    return _ALIASES.get(written, written) if isinstance(written, str) else ""


def label(system: object, code: str) -> str:
    """Write a security label as `system|code`, in the code system that it belongs to today."""
    canonical = system_of(system)
    if canonical == CONFIDENTIALITY and code in _SENSITIVITIES_IN_CONFIDENTIALITY:
        canonical = ACT_CODE
    return f"{canonical}|{code}"


def permitted_by_category(system: object, code: object) -> frozenset[str] | None:
    """Give the purposes a consent of this category can permit; None when it limits nothing."""
    if system_of(system) != CONSENT_CATEGORY or not isinstance(code, str):
        return None
    return _CATEGORY_PURPOSES.get(code)


def _covering(*trees: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Give for each code the codes that cover it: itself and all that stand above it."""
    parents: dict[str, set[str]] = {}
    for tree in trees:
        for parent, children in tree.items():
            parents.setdefault(parent, set())
            for child in children.split():
                parents.setdefault(child, set()).add(parent)
    return {code: frozenset(_upwards(code, parents)) for code in parents}


def _upwards(code: str, parents: Mapping[str, Iterable[str]]) -> set[str]:
    return {code}.union(*(_upwards(parent, parents) for parent in parents[code]))


_ALONE = {BREAK_GLASS: frozenset({BREAK_GLASS})}
#: Purpose to the purposes whose permit covers it, and to those whose denial does.
PERMITTED_BY = _covering(_PURPOSES) | _ALONE
DENIED_BY = _covering(_PURPOSES, _PURPOSES_ONCE) | _ALONE
#: What data can be used for; break-glass by its name alone, and not whatever there is.
PURPOSES = tuple(sorted(PERMITTED_BY.keys() - {"PurposeOfUse"}))
#: Sensitivity to those whose permit covers it, and to those whose denial does.
SENSITIVITY_PERMITTED_BY = _covering(_SENSITIVITIES)
SENSITIVITY_DENIED_BY = _covering(_SENSITIVITIES, _SENSITIVITIES_ONCE)
