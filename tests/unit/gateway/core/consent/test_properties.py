"""What must hold of any consents and any request."""

import copy
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.consent import (
    READ,
    STRICT,
    About,
    Actor,
    Asks,
    ConsentRequest,
    ConsentSettings,
    ConsentTerms,
    Model,
    ResourceFacts,
    decide,
    explain,
    question,
    read_consent,
    resource_facts,
)
from gateway.core.consent.abdm import read_artefact
from gateway.core.consent.abdm_artefact import read_notification
from tests import abdm
from tests.pcf import (
    ACTORS,
    CONSENTS,
    PATIENT,
    RESOURCES,
    TERMINOLOGY,
    Json,
    actors,
    data,
    labels,
    pcf_consent,
    purposes,
)

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
SETTINGS = (
    STRICT,
    ConsentSettings(fulfils=frozenset({"REDACT"})),
    ConsentSettings(newer_supersedes=True, fulfils=frozenset({"REDACT", "MASK"})),
)
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
PEOPLE = (
    "Practitioner/ex-practitioner",
    "Group/ex-privilegedUsers",
    "Organization/ex-org-researcher",
)
LISTED = {
    "purpose": st.lists(st.sampled_from(["TREAT", "ETREAT", "HRESCH", "BTG"]), min_size=1).map(
        lambda codes: purposes(*codes)
    ),
    "actor": st.lists(st.sampled_from(PEOPLE), min_size=1).map(lambda who: actors(*who)),
    "action": st.sampled_from(["use", "disclose"]).map(
        lambda code: [{"coding": [{"system": f"{TERMINOLOGY}/consentaction", "code": code}]}]
    ),
    "class": st.sampled_from(["Observation", "Encounter"]).map(
        lambda code: [{"system": RESOURCE_TYPES, "code": code}]
    ),
    "code": st.sampled_from(["29463-7", "2160-0"]).map(
        lambda code: [{"coding": [{"system": "http://loinc.org", "code": code}]}]
    ),
    "securityLabel": st.lists(
        st.sampled_from(["N", "R", "V", "PSY", "ETHUD", "SUD", "MASK", "REDACT"]), min_size=1
    ).map(lambda codes: labels(*codes)),
    "dataPeriod": st.sampled_from([{"start": "2022"}, {"end": "2021-12-31"}]),
    "data": st.tuples(
        st.sampled_from(["instance", "related", "dependents", "authoredby"]),
        st.sampled_from(["Encounter/ex-encounter", "Observation/ex-weight", "CarePlan/1"]),
    ).map(lambda each: data(*each)),
    "period": st.sampled_from([{"end": "2025"}, {"start": "2020"}, {"start": "soon"}]),
}


# "Permit, but redact these" is a permit with a denial in it.
PLAIN = LISTED | {
    "securityLabel": LISTED["securityLabel"].filter(
        lambda each: "REDACT" not in {x["code"] for x in each}
    )
}


def rules(
    kinds: st.SearchStrategy[str], limits: dict[str, st.SearchStrategy[Any]] = LISTED
) -> st.SearchStrategy[Json]:
    """Provisions with exceptions to some depth."""
    alone = st.fixed_dictionaries({"type": kinds}, optional=limits)
    return st.recursive(
        alone,
        lambda inner: st.builds(
            lambda rule, nested: {**rule, "provision": nested},
            alone,
            st.lists(inner, min_size=1, max_size=3),
        ),
        max_leaves=5,
    )


ISSUED = st.sampled_from(["2020-01-01", "2022-01-01", "2024-01-01"])


def consents(provisions: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.builds(lambda rule, at: {**pcf_consent(**rule), "dateTime": at}, provisions, ISSUED)


ANY = consents(rules(st.sampled_from(["permit", "deny"])))
DENYING = rules(st.just("deny"))
PERMITTING = rules(st.just("permit"), PLAIN)
DENIES = consents(DENYING)
PERMITS = consents(PERMITTING)
REQUESTS = st.builds(
    lambda purpose, actor, resource, actions: ConsentRequest(
        PATIENT,
        purpose,
        NOW,
        actor=ACTORS[actor],
        resource=resource_facts(RESOURCES[resource]),
        actions=actions,
    ),
    st.sampled_from(["TREAT", "ETREAT", "HRESCH", "CLINTRCH", "BTG", "http://x|y"]),
    st.sampled_from(sorted(ACTORS)),
    st.sampled_from(sorted(RESOURCES)),
    st.sampled_from([None, frozenset({"use"}), frozenset({"use", "disclose"})]),
)
MANY = st.lists(ANY, max_size=2)
DEFAULTS = st.sampled_from(["deny", "permit"])


def is_permitted(request: ConsentRequest, contents: list[Json], **how: Any) -> bool:
    records = [
        read_consent(content, f"Consent/{number}", patient=PATIENT)
        for number, content in enumerate(contents)
    ]
    return decide(request, records, **how).is_permitted


def places(provision: Json) -> list[Json]:
    """Every provision in which an exception can stand."""
    nested = provision.get("provision", [])
    return [provision, *(place for each in nested for place in places(each))]


@given(REQUESTS, MANY, DENIES, DEFAULTS, st.sampled_from(SETTINGS))
def test_another_consent_that_only_denies_never_permits_more(
    request: ConsentRequest, contents: list[Json], denial: Json, default: Any, how: ConsentSettings
):
    more = is_permitted(request, [*contents, denial], default=default, settings=how)

    assert not more or is_permitted(request, contents, default=default, settings=how)


@given(REQUESTS, MANY, ANY, DENYING, DEFAULTS, st.sampled_from(SETTINGS), st.data())
def test_another_provision_that_only_denies_never_permits_more(  # noqa: PLR0913, PLR0917 - all of it given
    request: ConsentRequest,
    contents: list[Json],
    content: Json,
    denial: Json,
    default: Any,
    how: ConsentSettings,
    draw: st.DataObject,
):
    carved = copy.deepcopy(content)
    place = draw.draw(st.sampled_from(places(carved["provision"])))
    place["provision"] = [*place.get("provision", []), denial]

    more = is_permitted(request, [*contents, carved], default=default, settings=how)

    assert not more or is_permitted(request, [*contents, content], default=default, settings=how)


@given(REQUESTS, MANY, PERMITS, st.sampled_from(SETTINGS[:2]))
def test_without_a_consent_that_only_permits_no_more_is_permitted(
    request: ConsentRequest, contents: list[Json], permit: Json, how: ConsentSettings
):
    less = is_permitted(request, contents, settings=how)

    assert not less or is_permitted(request, [*contents, permit], settings=how)


@given(REQUESTS, MANY, ANY, PERMITTING, st.sampled_from(SETTINGS[:2]), st.data())
def test_without_a_provision_that_only_permits_no_more_is_permitted(
    request: ConsentRequest,
    contents: list[Json],
    content: Json,
    permit: Json,
    how: ConsentSettings,
    draw: st.DataObject,
):
    widened = copy.deepcopy(content)
    place = draw.draw(st.sampled_from(places(widened["provision"])))
    place["provision"] = [*place.get("provision", []), permit]

    less = is_permitted(request, [*contents, content], settings=how)

    assert not less or is_permitted(request, [*contents, widened], settings=how)


def elements(part: Any) -> list[Json]:
    """Every JSON object in a provision whose meaning counts."""
    if isinstance(part, dict):
        return [part, *(each for value in part.values() for each in elements(value))]
    return [each for value in part for each in elements(value)] if isinstance(part, list) else []


@given(
    REQUESTS,
    MANY,
    ANY,
    DEFAULTS,
    st.sampled_from(SETTINGS),
    st.data(),
)
def test_an_unknown_field_never_permits(
    request: ConsentRequest,
    contents: list[Json],
    content: Json,
    default: Any,
    how: ConsentSettings,
    draw: st.DataObject,
):
    strange = copy.deepcopy(content)
    field = draw.draw(st.sampled_from(["except", "modifierExtension", "implicitRules", "_purpose"]))
    draw.draw(st.sampled_from([strange, *elements(strange["provision"])]))[field] = [{"url": "x"}]

    permitted = is_permitted(request, [*contents, strange], default=default, settings=how)

    assert not permitted or is_permitted(request, contents, default=default, settings=how)
    assert not is_permitted(request, [strange])


@given(REQUESTS, MANY, DEFAULTS, st.sampled_from(SETTINGS), st.randoms())
def test_the_order_of_consents_does_not_matter(
    request: ConsentRequest, contents: list[Json], default: Any, how: ConsentSettings, dice: Any
):
    records = [
        read_consent(each, f"Consent/{n}", patient=PATIENT) for n, each in enumerate(contents)
    ]
    shuffled = list(records)
    dice.shuffle(shuffled)

    one = decide(request, records, default=default, settings=how)
    other = decide(request, shuffled, default=default, settings=how)

    assert one.is_permitted == other.is_permitted
    assert set(one.consents) == set(other.consents)
    assert set(one.reasons) == set(other.reasons)
    assert set(one.obligations) == set(other.obligations)


@given(REQUESTS, MANY, ANY, DEFAULTS, st.sampled_from(SETTINGS[:2]), st.data())
def test_a_fact_less_never_permits_more(
    request: ConsentRequest,
    contents: list[Json],
    content: Json,
    default: Any,
    how: ConsentSettings,
    draw: st.DataObject,
):
    asked = [*contents, content]
    kind = draw.draw(st.sampled_from([Actor, ResourceFacts, ConsentRequest]))
    names = ["actions"] if kind is ConsentRequest else [each.name for each in fields(kind)]
    gone = {draw.draw(st.sampled_from(names)): None}
    less = {
        Actor: lambda: replace(request, actor=replace(request.actor, **gone)),
        ResourceFacts: lambda: replace(request, resource=replace(request.resource, **gone)),
        ConsentRequest: lambda: replace(request, **gone),
    }[kind]()

    permitted = is_permitted(less, asked, default=default, settings=how)

    assert not permitted or is_permitted(request, asked, default=default, settings=how)


@given(MANY, ANY, st.sampled_from(sorted(RESOURCES)), DEFAULTS, st.booleans(), st.booleans())
def test_what_no_rule_looks_at_makes_no_difference(
    contents: list[Json],
    content: Json,
    resource: str,
    default: Any,
    is_normal: bool,
    is_artefact: bool,
):
    records = [
        read_consent(each, f"Consent/{number}", patient=PATIENT)
        for number, each in enumerate([*contents, content])
    ]
    if is_artefact:
        said = read_notification(abdm.raw(abdm.notification()))
        records.append(read_artefact([said], "Consent/a", patient=PATIENT, policy=abdm.POLICY))
    asks = Asks("TREAT", default, ConsentTerms(unlabelled_is_normal=is_normal))
    about = About(PATIENT, "event-1", NOW)
    asked = question(asks, about, records, Model("toy@1", "d" * 64), READ)

    assert asked.decide(RESOURCES[resource]) == asked.of(asked.facts(RESOURCES[resource]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(ANY, JSON, st.data())
def test_whatever_stands_in_a_consent_is_read_without_an_error(
    content: Json, junk: Any, draw: st.DataObject
):
    broken = copy.deepcopy(content)
    place = draw.draw(st.sampled_from([broken, *elements(broken["provision"])]))
    place[draw.draw(st.sampled_from(sorted(place)))] = junk

    record = read_consent(broken, "Consent/1", patient=PATIENT)

    request = ConsentRequest(PATIENT, "TREAT", NOW)
    assert decide(request, [record]).reasons


@settings(max_examples=40)
@given(REQUESTS, MANY, DEFAULTS, st.sampled_from(SETTINGS))
def test_an_explanation_tells_of_every_rule_and_agrees_with_the_decision(
    request: ConsentRequest, contents: list[Json], default: Any, how: ConsentSettings
):
    records = [
        read_consent(each, f"Consent/{n}", patient=PATIENT) for n, each in enumerate(contents)
    ]

    explanation = explain(request, records, default=default, settings=how)

    assert explanation.decision == decide(request, records, default=default, settings=how)
    assert {rule.rule.split()[0] for rule in explanation.rules} == {each.ref for each in records}


@pytest.mark.parametrize("name", CONSENTS)
def test_a_compiled_consent_can_be_kept_as_a_value(name: str):
    once, again = (read_consent(CONSENTS[name], "Consent/1", patient=PATIENT) for _ in range(2))

    assert once == again
    assert hash(once) == hash(again)
