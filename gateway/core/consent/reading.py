"""Read a Consent resource into its compiled form. Nothing here fails: what can't be read denies.

The base rule is `provision.type` in the root, as IHE PCF and most systems write it, else that of
`policyRule` (OPTIN of v3-ActCode permits, OPTOUT denies), else that of its `policy.uri`, which
denies unless the site states that it permits: both are read (`under_policy`). Without a type of its
own the root provision may narrow the rule of its policy or be an exception to it, R4 does not tell;
so it may then state only purpose and period, or the Consent denies.

Source: FHIR R4 Consent (http://hl7.org/fhir/R4/consent.html); IHE PCF 3:5.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.core.consent.elements import Json, coding, codings, named_by, not_understood
from gateway.core.consent.limits import read_limits
from gateway.core.consent.matching import OF_RESOURCE, Condition, HoldsDuring, Labelled
from gateway.core.consent.periods import data_time
from gateway.core.consent.record import ConsentRecord, Rule, Scope, UnderPolicy, unreadable_consent
from gateway.core.consent.vocabulary import (
    ACT_CODE,
    CONSENT_SCOPE,
    OBLIGATIONS,
    REDACT,
    permitted_by_category,
)

# Every other policy rule denies. OPTINR and OPTOUTE carry limits that only their text tells.
_PERMITTING_RULE = (ACT_CODE, "OPTIN")
_DENYING_RULES = frozenset({(ACT_CODE, "OPTOUT"), (ACT_CODE, "OPTOUTE")})
_OTHER_SCOPES = frozenset({(CONSENT_SCOPE, "adr"), (CONSENT_SCOPE, "research")})
_PLAIN = frozenset({"period", "purpose"})
_PERMITS = {"permit": True, "deny": False}


def read_consent(
    content: Mapping[str, Any],
    ref: str,
    *,
    patient: str | None,
) -> ConsentRecord:
    """Read a Consent resource into a record.

    Args:
        content: The resource as decoded JSON.
        ref: How decisions shall name it.
        patient: Whom it is about, as the receiving step resolved the reference.
    """
    try:
        return _read(content, ref, patient)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return unreadable_consent(ref)


def _read(content: Json, ref: str, patient: str | None) -> ConsentRecord:
    provision = content.get("provision") or {}
    root = _root(content, provision)
    performers = [named_by(each) for each in content.get("performer", ())]
    return ConsentRecord(
        ref=ref,
        status=str(content.get("status", "unknown")),
        patient=patient,
        scope=_scope(content.get("scope")),
        only_purposes=_only_purposes(content.get("category", ())),
        rule=root,
        doubts=tuple(_doubts(content, provision, root)),
        silence="" if root.is_permit else _silence(content, provision),
        limiting=tuple(_limiting(root)),
        issued=data_time(content.get("dateTime"), content.get("dateTime")),
        performers=frozenset(name for each in performers for name in each if name),
        policies=frozenset(_policies(content)),
        under_policy=_under_policy(content, provision),
    )


# -- the whole Consent -----------------------------------------------------------------------


def _scope(concept: Json | None) -> Scope:
    named = set(codings(concept))
    if (CONSENT_SCOPE, "patient-privacy") in named:
        return "privacy"
    return "other" if named and named <= _OTHER_SCOPES else "unclear"


def _only_purposes(categories: Sequence[Json]) -> frozenset[str] | None:
    """Give what every category that limits lets a Consent permit."""
    found = [permitted_by_category(*pair) for each in categories for pair in codings(each)]
    limits = [each for each in found if each is not None]
    return frozenset.intersection(*limits) if limits else None


def _policies(content: Json) -> Iterator[str]:
    yield from (each["uri"] for each in content.get("policy", ()) if each.get("uri"))
    yield from (f"{system}|{code}" for system, code in codings(content.get("policyRule")))


def _base_rule(content: Json) -> bool:
    """Say whether the `policyRule` of a Consent permits."""
    rules = set(codings(content.get("policyRule")))
    if not rules:
        return False
    is_coded = len((content["policyRule"]).get("coding", ())) == len(rules)
    return rules == {_PERMITTING_RULE} and is_coded


def _under_policy(content: Json, provision: Json) -> UnderPolicy | None:
    """Read what a Consent says where its policies permit; None where they have no say."""
    policies = content.get("policy", ())
    if provision.get("type") is not None or content.get("policyRule") or not policies:
        return None
    if not all(each.get("uri") for each in policies):
        return None
    root = _rule(provision, "provision", is_permit=True, inherited=())
    doubts = tuple(_doubts(content, provision, root))
    return UnderPolicy(root, doubts, tuple(_limiting(root)))


def _silence(content: Json, provision: Json) -> str:
    if provision or not _DENYING_RULES.isdisjoint(codings(content.get("policyRule"))):
        return ""
    return "permits nothing (no provision)."


def _doubts(content: Json, provision: Json, root: Rule) -> Iterator[str]:
    """Give the reasons why a Consent can't be relied on."""
    yield from (f"{path} is not understood" for path in not_understood(content))
    if "type" not in provision:
        limits = [each.element for each in root.stated if each.element not in _PLAIN]
        if limits:
            yield f"provision has no type but limits ({', '.join(limits)})"
    yield from _doubts_of_rules(provision, "provision", is_root=True)


def _doubts_of_rules(provision: Json, path: str, *, is_root: bool) -> Iterator[str]:
    written = provision.get("type")
    if written not in _PERMITS and not (is_root and written is None):
        yield f"{path} has no type" if written is None else f"the type of {path} is not known"
    labels = [each["code"] for each in provision.get("securityLabel", ()) if each.get("code")]
    if written == "permit" and REDACT in labels and OBLIGATIONS.issuperset(labels):
        yield f"{path} does not tell what to redact"
    for index, nested in enumerate(provision.get("provision", ())):
        yield from _doubts_of_rules(nested, f"{path}.provision[{index}]", is_root=False)


# -- its rules -------------------------------------------------------------------------------


def _root(content: Json, provision: Json) -> Rule:
    written = provision.get("type")
    is_permit = _base_rule(content) if written is None else written == "permit"
    return _rule(provision, "provision", is_permit, ())


def _rule(provision: Json, path: str, is_permit: bool, inherited: tuple[Condition, ...]) -> Rule:
    stated = tuple(read_limits(provision, is_denial=not is_permit))
    conditions = _merged(inherited, stated)
    found = [coding(each) for each in provision.get("securityLabel", ())]
    obligations = tuple(
        pair[1] for pair in found if pair and pair[0] == ACT_CODE and pair[1] in OBLIGATIONS
    )
    exceptions = tuple(
        _rule(nested, f"{path}.provision[{index}]", nested.get("type") == "permit", conditions)
        for index, nested in enumerate(provision.get("provision", ()))
    )
    if is_permit and REDACT in obligations:
        # "Permit, with these labels redacted" is a permit with a denial of these labels in it.
        redacted = tuple(read_limits(provision, is_denial=True))
        joined = _merged(inherited, redacted)
        denial = Rule(path, is_permit=False, stated=redacted, conditions=joined)
        exceptions = (denial, *exceptions)
        stated = tuple(each for each in stated if not isinstance(each, Labelled))
    periods = tuple(each for each in inherited if isinstance(each, HoldsDuring))
    return Rule(
        path=path,
        is_permit=is_permit,
        stated=(*periods, *stated),
        conditions=_merged(inherited, stated),
        obligations=tuple(each for each in obligations if is_permit and each != REDACT),
        rules=exceptions,
    )


def _merged(
    inherited: tuple[Condition, ...], stated: tuple[Condition, ...]
) -> tuple[Condition, ...]:
    """Join the conditions of a parent with its exception's own, which stand in for their like.

    Only periods add up: no exception outlives the rule it stands in.
    """
    anew = {each.element for each in stated} - {HoldsDuring.element}
    kept = [each for each in inherited if each.element not in anew]
    # `period` and `purpose` come first: a rule that fails on them says nothing at all.
    return tuple(sorted((*kept, *stated), key=lambda each: _ORDER[each.element]))


_ELEMENTS = (
    *("period", "purpose", "actor", "action"),
    *("class", "code", "securityLabel", "dataPeriod", "data"),
)
_ORDER = {name: place for place, name in enumerate(_ELEMENTS)}


def _limiting(rule: Rule) -> Iterator[Rule]:
    if any(each.element in OF_RESOURCE for each in rule.stated):
        yield rule
    for exception in rule.rules:
        yield from _limiting(exception)
