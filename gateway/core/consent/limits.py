"""Read the elements of one provision into conditions.

Each element that is there becomes a condition; one that is absent means any.

Source: FHIR R4 Consent.provision (http://hl7.org/fhir/R4/consent.html).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from gateway.core.consent.elements import Json, coding, codings, named_by
from gateway.core.consent.matching import (
    ByActor,
    Condition,
    Datum,
    ForAction,
    ForPurpose,
    FromTime,
    HoldsDuring,
    Labelled,
    OfClass,
    OfCode,
    OfData,
    Party,
)
from gateway.core.consent.periods import Period, read_data_period, read_period
from gateway.core.consent.vocabulary import (
    ACT_CODE,
    ACT_REASON,
    ACTIONS,
    CONFIDENTIALITIES,
    CONFIDENTIALITY,
    CONSENT_ACTION,
    DENIED_BY,
    OBLIGATIONS,
    RESOURCE_TYPES,
    SENSITIVITY_DENIED_BY,
    label,
)

_PROFILE = "/StructureDefinition/"


def read_limits(provision: Json, *, is_denial: bool) -> Iterator[Condition]:
    """Read the conditions of a provision, in the order in which they are asked."""
    for element, read in _READERS.items():
        condition = read(provision[element], is_denial) if element in provision else None
        if condition is not None:
            yield condition


def _period(period: Json, _: bool) -> Condition:
    return HoldsDuring(_read_or_none(read_period, period))


def _data_period(period: Json, is_denial: bool) -> Condition:
    return FromTime(_read_or_none(read_data_period, period), is_denial=is_denial)


def _read_or_none(read: Callable[[Json], Period], period: Json) -> Period | None:
    try:
        return read(period)
    except ValueError:
        return None


def _purpose(purposes: Sequence[Json], is_denial: bool) -> Condition:
    found = [coding(each) for each in purposes]
    codes = {_purpose_code(*pair) for pair in found if pair}
    return ForPurpose(
        codes=frozenset(codes),
        has_unknown=None in found or not codes <= DENIED_BY.keys(),
        is_denial=is_denial,
    )


def _purpose_code(system: str, code: str) -> str:
    return code if system == ACT_REASON else f"{system}|{code}"


def _actor(actors: Sequence[Json], _: bool) -> Condition:
    return ByActor(tuple(map(_party, actors)))


def _party(actor: Json) -> Party:
    literal, identifier = named_by(actor.get("reference") or {})
    role = frozenset("|".join(pair) for pair in codings(actor.get("role")))
    return Party(role, literal, identifier)


def _action(concepts: Sequence[Json], is_denial: bool) -> Condition:
    found = [codings(concept) for concept in concepts]
    codes = {code for each in found for system, code in each if system == CONSENT_ACTION}
    is_known = all({(CONSENT_ACTION, code) for code in ACTIONS} & set(each) for each in found)
    return ForAction(frozenset(codes), has_unknown=not is_known, is_denial=is_denial)


def _class(classes: Sequence[Json], is_denial: bool) -> Condition:
    found = [coding(each) or ("", "") for each in classes]
    types = {code for system, code in found if system == RESOURCE_TYPES}
    profiles = {profile for pair in found if (profile := _profile(*pair))}
    return OfClass(
        types=frozenset(types),
        profiles=frozenset(profiles),
        has_unknown=len(types) + len(profiles) < len(found),
        is_denial=is_denial,
    )


def _profile(system: str, code: str) -> str | None:
    """Give the canonical of a profile, which some write as a code and some as system and code."""
    if _PROFILE in code:
        return code
    return f"{system}/{code}" if f"{system}/".endswith(_PROFILE) else None


def _code(concepts: Sequence[Json], is_denial: bool) -> Condition:
    found = [codings(concept) for concept in concepts]
    return OfCode(
        codes=frozenset("|".join(pair) for each in found for pair in each),
        systems=tuple(frozenset(system for system, _ in each) for each in found),
        has_unknown=not all(found),
        is_denial=is_denial,
    )


def _security_label(labels: Sequence[Json], is_denial: bool) -> Condition | None:
    found = [label(*pair) for each in labels if (pair := coding(each))]
    pairs = [each.rpartition("|")[::2] for each in found]
    data = [pair for pair in pairs if not (pair[0] == ACT_CODE and pair[1] in OBLIGATIONS)]
    if not data and len(found) == len(labels):
        # Only obligations: of whatever labels.
        return None
    levels = {code for system, code in data if system == CONFIDENTIALITY}
    sensitive = {code for system, code in data if system == ACT_CODE}
    others = {f"{s}|{c}" for s, c in data if s not in ("", CONFIDENTIALITY, ACT_CODE)}
    is_coded = len(found) == len(labels) and all(system for system, _ in data)
    is_known = levels <= set(CONFIDENTIALITIES) and sensitive <= SENSITIVITY_DENIED_BY.keys()
    return Labelled(
        levels=frozenset(CONFIDENTIALITIES.index(c) for c in levels & set(CONFIDENTIALITIES)),
        sensitivities=frozenset(sensitive),
        others=frozenset(others),
        has_unknown=not (is_coded and is_known),
        is_denial=is_denial,
    )


def _data(data: Sequence[Json], _: bool) -> Condition:
    return OfData(tuple(Datum(str(each.get("meaning")), _literal(each)) for each in data))


def _literal(datum: Json) -> str | None:
    return named_by(datum.get("reference") or {})[0]


_READERS: Mapping[str, Callable[..., Condition | None]] = {
    "period": _period,
    "purpose": _purpose,
    "actor": _actor,
    "action": _action,
    "class": _class,
    "code": _code,
    "securityLabel": _security_label,
    "dataPeriod": _data_period,
    "data": _data,
}
