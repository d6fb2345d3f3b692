"""One consent: nested rules, every kind of condition, and what is not known."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.core.consent import (
    Actor,
    ConsentRecord,
    ConsentRequest,
    ConsentSettings,
    decide,
    read_consent,
    resource_facts,
)
from gateway.core.consent.record import under_policies
from tests.pcf import (
    ACTORS,
    PATIENT,
    RESOURCES,
    TERMINOLOGY,
    TPO,
    Json,
    actors,
    agreed,
    but,
    data,
    labels,
    observation,
    pcf_consent,
    purposes,
)

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
ONE_BY_ONE = ConsentSettings(fulfils=frozenset({"REDACT"}))
PRACTITIONER, CLERK = ACTORS["practitioner"], ACTORS["clerk"]
ME = "Practitioner/ex-practitioner"
ENCOUNTER = "Encounter/ex-encounter"


def read(content: Json) -> ConsentRecord:
    return read_consent(content, "Consent/1", patient=PATIENT)


def asked(purpose: str = "TREAT", resource: Json | None = None, **known: Any) -> ConsentRequest:
    facts = {} if resource is None else {"resource": resource_facts(resource)}
    return ConsentRequest(PATIENT, purpose, NOW, **facts, **known)


def is_permitted(request: ConsentRequest, *contents: Json, default: Any = "deny") -> bool:
    records = [read(content) for content in contents]
    return decide(request, records, default=default, settings=ONE_BY_ONE).is_permitted


# -- exceptions ------------------------------------------------------------------------------


def test_exceptions_to_exceptions_are_followed_to_any_depth():
    # All may, but not the practitioner, though she may use what is normal, but not of 2022.
    deepest = but("deny", dataPeriod={"start": "2022", "end": "2022"})
    normal = but("permit", securityLabel=labels("N"), provision=[deepest])
    content = agreed(but("deny", actor=actors(ME), provision=[normal]))

    def permits(actor: Actor, name: str) -> bool:
        return is_permitted(asked(actor=actor, resource=RESOURCES[name]), content)

    assert permits(CLERK, "restricted")
    assert not permits(PRACTITIONER, "restricted")
    assert permits(PRACTITIONER, "weight")
    assert not permits(PRACTITIONER, "first of 2022")


@pytest.mark.parametrize("depth", [2, 3, 60, 61])
def test_the_deepest_exception_that_holds_decides(depth: int):
    kinds = ["deny" if level % 2 else "permit" for level in range(depth)]
    provision: Json = {"type": kinds[-1]}
    for kind in reversed(kinds[:-1]):
        provision = {"type": kind, "provision": [provision]}

    assert is_permitted(asked(), pcf_consent(**provision)) == (kinds[-1] == "permit")


def test_exceptions_nested_beyond_any_sense_deny():
    provision: Json = {"type": "permit"}
    for _ in range(150):
        provision = {"type": "permit", "provision": [provision]}

    decision = decide(asked(), [read(pcf_consent(**provision))])

    assert not decision.is_permitted
    assert "nested too deeply" in decision.reasons[0]


def test_exceptions_nested_beyond_what_can_be_read_deny():
    provision: Json = {"type": "permit"}
    for _ in range(20_000):
        provision = {"type": "permit", "provision": [provision]}

    record = read(pcf_consent(**provision))

    assert not record.is_readable
    while provision:
        # Taken apart from outside: to free it at once would recurse as deep.
        provision = provision.pop("provision", [None])[0]


def test_of_two_exceptions_that_hold_the_denial_wins():
    content = agreed(
        but("permit", securityLabel=labels("R"), actor=actors(ME)),
        but("deny", securityLabel=labels("ETHUD")),
        securityLabel=labels("N"),
    )

    # Restricted, and no label tells why: it may be for alcohol use.
    assert not is_permitted(asked(actor=PRACTITIONER, resource=RESOURCES["restricted"]), content)
    assert is_permitted(asked(actor=PRACTITIONER, resource=RESOURCES["psychiatry"]), content)
    assert not is_permitted(asked(actor=PRACTITIONER, resource=RESOURCES["alcoholUse"]), content)


def test_a_denial_beside_a_permit_that_widens_carves_out_of_that_too():
    content = agreed(
        but("permit", purpose=purposes("BTG"), actor=actors(ME)),
        but("deny", data=data("related", ENCOUNTER)),
    )
    breaking = asked("BTG", RESOURCES["weight"], actor=PRACTITIONER)

    assert not is_permitted(breaking, content)
    assert is_permitted(asked("BTG", RESOURCES["of other encounter"], actor=PRACTITIONER), content)
    # It takes back what the exception gave, and is no denial of what another consent gives.
    assert is_permitted(breaking, content, pcf_consent(type="permit", purpose=purposes("BTG")))


def test_an_exception_keeps_the_purpose_of_its_parent_unless_it_states_one():
    content = agreed(but("permit", actor=actors(ME)), actor=actors("Practitioner/ex-clerk"))

    assert is_permitted(asked(actor=PRACTITIONER), content)
    assert not is_permitted(asked("HRESCH", actor=PRACTITIONER), content)


def test_an_exception_that_denies_another_purpose_denies_it():
    content = agreed(but("deny", purpose=purposes("HRESCH")))
    research = pcf_consent(type="permit", purpose=purposes("HRESCH"))

    assert is_permitted(asked("HRESCH"), research)
    assert not is_permitted(asked("CLINTRCH"), research, content)
    assert is_permitted(asked("TREAT"), research, content)


def test_no_exception_outlives_its_parent():
    content = pcf_consent(
        type="deny", period={"end": "2025"}, provision=[but("permit", purpose=purposes("BTG"))]
    )

    decision = decide(asked("BTG"), [read(content)])

    assert not decision.is_permitted
    assert decision.reasons[0] == "Consent/1: has expired."


def test_an_exception_has_a_period_of_its_own():
    past = agreed(but("deny", actor=actors(ME), period={"end": "2025"}))
    unreadable = agreed(but("deny", actor=actors(ME), period={"end": "soon"}))

    assert is_permitted(asked(actor=PRACTITIONER), past)
    assert not is_permitted(asked(actor=PRACTITIONER), unreadable)


def test_a_permit_whose_period_cant_be_read_still_denies_by_its_exceptions():
    content = agreed(but("deny", actor=actors(ME)), period={"start": "soon"})

    assert not is_permitted(asked(actor=PRACTITIONER), content, agreed())
    assert is_permitted(asked(actor=CLERK), content, agreed())


def test_an_exception_without_a_type_makes_the_whole_consent_deny():
    decision = decide(asked("HMARKT"), [read(agreed({"actor": actors(ME)}))], default="permit")

    assert not decision.is_permitted
    assert "provision.provision[0] has no type" in decision.reasons[0]


def test_a_type_that_is_not_known_makes_the_whole_consent_deny():
    decision = decide(asked(), [read(pcf_consent(type="maybe"))], default="permit")

    assert not decision.is_permitted
    assert "the type of provision is not known" in decision.reasons[0]


def test_what_cant_be_relied_on_denies_only_while_it_holds():
    content = agreed({"actor": actors(ME)}, period={"end": "2025"})

    assert is_permitted(asked(), content, agreed())


def test_limits_without_a_type_may_be_an_exception_and_deny():
    rule = {"coding": [{"system": f"{TERMINOLOGY}/v3-ActCode", "code": "OPTIN"}]}
    content = {**pcf_consent(actor=actors(ME)), "policyRule": rule}

    decision = decide(asked(actor=PRACTITIONER), [read(content)])

    assert not decision.is_permitted
    assert "provision has no type but limits (actor)" in decision.reasons[0]


# -- explicit consent before the default of the route ----------------------------------------


@pytest.mark.parametrize(
    ("content", "purpose"),
    [
        pytest.param(agreed(actor=actors(ME)), "TREAT", id="for another actor"),
        pytest.param(agreed(securityLabel=labels("N")), "TREAT", id="of other data"),
        pytest.param(
            pcf_consent(
                type="deny",
                purpose=purposes("TREAT"),
                provision=[but("permit", purpose=purposes("BTG"), actor=actors(ME))],
            ),
            "BTG",
            id="in an exception",
        ),
    ],
)
def test_what_a_permit_does_not_reach_is_withheld_whatever_the_default(content: Json, purpose: str):
    request = asked(purpose, RESOURCES["restricted"], actor=CLERK)

    assert not is_permitted(request, content, default="permit")
    # It is no denial: another consent may permit.
    assert is_permitted(request, content, pcf_consent(type="permit"))


def test_a_denial_of_other_data_leaves_the_default():
    content = pcf_consent(type="deny", securityLabel=labels("R"))

    assert is_permitted(asked(resource=RESOURCES["weight"]), content, default="permit")
    assert not is_permitted(asked(resource=RESOURCES["restricted"]), content, default="permit")


# -- conditions ------------------------------------------------------------------------------


def identified(system: str, value: str) -> list[Json]:
    return [
        {"role": {"text": "nurse"}, "reference": {"identifier": {"system": system, "value": value}}}
    ]


KNOWN = replace(
    PRACTITIONER,
    identifiers=frozenset({"http://council.example|4711"}),
    groups=frozenset({"CareTeam/7"}),
)


@pytest.mark.parametrize(
    ("listed", "actor", "permits", "denies"),
    [
        pytest.param(actors(ME), KNOWN, True, True, id="reference"),
        pytest.param(actors(f"{ME}/_history/3"), KNOWN, True, True, id="version of it"),
        pytest.param(actors("Practitioner/x"), KNOWN, False, False, id="somebody else"),
        pytest.param(actors(f"http://x.example/{ME}"), KNOWN, False, True, id="other server"),
        pytest.param(actors("#inner"), KNOWN, False, True, id="contained"),
        pytest.param(actors("urn:uuid:1"), KNOWN, False, True, id="of a Bundle"),
        pytest.param(actors("Practitioner?identifier=1"), KNOWN, False, True, id="search"),
        pytest.param(actors("CareTeam/7"), KNOWN, True, True, id="care team"),
        pytest.param(actors("Group/7"), KNOWN, False, False, id="no group of hers"),
        pytest.param(actors("Group/7"), Actor(), False, True, id="groups unknown"),
        pytest.param(actors("Organization/ex-organization"), KNOWN, True, True, id="works for it"),
        pytest.param(actors("Organization/x"), KNOWN, False, False, id="works elsewhere"),
        pytest.param(
            identified("http://council.example", "4711"), KNOWN, False, True, id="role as text"
        ),
        pytest.param(
            [{**actors(ME)[0], **identified("http://council.example", "4711")[0], "role": r}]
            if (r := actors(ME)[0]["role"])
            else [],
            KNOWN,
            True,
            True,
            id="identifier",
        ),
        pytest.param(
            identified("http://council.example", "1"), KNOWN, False, False, id="other identifier"
        ),
        pytest.param(
            identified("http://council.example", "1"),
            Actor(),
            False,
            True,
            id="no identifier known",
        ),
        pytest.param(
            [{"role": {"text": "x"}, "reference": {"display": "Nurse Ann"}}],
            KNOWN,
            False,
            True,
            id="a name only",
        ),
    ],
)
def test_who_an_actor_is(listed: list[Json], actor: Actor, permits: bool, denies: bool):
    assert is_permitted(asked(actor=actor), agreed(actor=listed)) == permits
    assert is_permitted(asked(actor=actor), agreed(but("deny", actor=listed))) != denies


@pytest.mark.parametrize(
    ("held", "expected"),
    [(None, False), (frozenset(), False), (frozenset({"http://r|nurse"}), True)],
)
def test_a_role_that_is_no_recipient_has_to_be_held(held: frozenset[str] | None, expected: bool):
    role = {"coding": [{"system": "http://r", "code": "nurse"}]}
    content = agreed(actor=[{"role": role, "reference": {"reference": ME}}])

    assert is_permitted(asked(actor=replace(PRACTITIONER, roles=held)), content) == expected


def action(code: str, system: str = f"{TERMINOLOGY}/consentaction") -> list[Json]:
    return [{"coding": [{"system": system, "code": code}]}]


@pytest.mark.parametrize(
    ("listed", "actions", "permits", "denies"),
    [
        (action("use"), {"use"}, True, True),
        (action("use"), {"use", "disclose"}, False, True),
        (action("use"), {"disclose"}, False, False),
        (action("use"), None, False, True),
        (action("use", "http://x"), {"use"}, False, True),
        ([{"text": "use"}], {"use"}, False, True),
        (action("use") + action("disclose"), {"use", "disclose"}, True, True),
    ],
)
def test_a_permit_covers_all_actions_and_a_denial_any(
    listed: list[Json], actions: set[str] | None, permits: bool, denies: bool
):
    request = asked(actions=None if actions is None else frozenset(actions))

    assert is_permitted(request, agreed(action=listed)) == permits
    assert is_permitted(request, agreed(but("deny", action=listed))) != denies


TYPES = "http://hl7.org/fhir/resource-types"
PROFILES = "http://hl7.org/fhir/StructureDefinition"
WEIGHT = observation(
    "weight",
    "2020",
    "N",
    meta={"profile": [f"{PROFILES}/bodyweight"], "security": labels("N")},
)


@pytest.mark.parametrize(
    ("coding", "resource", "permits", "denies"),
    [
        pytest.param({"system": TYPES, "code": "Observation"}, WEIGHT, True, True, id="type"),
        pytest.param({"system": TYPES, "code": "Encounter"}, WEIGHT, False, False, id="other type"),
        pytest.param({"system": TYPES, "code": "Observation"}, None, False, True, id="unknown"),
        pytest.param({"system": PROFILES, "code": "bodyweight"}, WEIGHT, True, True, id="profile"),
        pytest.param(
            {"system": "urn:ietf:rfc:3986", "code": f"{PROFILES}/bodyweight"},
            WEIGHT,
            True,
            True,
            id="profile as address",
        ),
        pytest.param(
            {"system": PROFILES, "code": "bp"}, WEIGHT, False, True, id="profile not claimed"
        ),
        pytest.param({"system": "http://x", "code": "y"}, WEIGHT, False, True, id="foreign"),
        pytest.param({"display": "labs"}, WEIGHT, False, True, id="not coded"),
    ],
)
def test_of_what_class_data_is(coding: Json, resource: Json | None, permits: bool, denies: bool):
    content = {"class": [coding]}

    assert is_permitted(asked(resource=resource), agreed(**content)) == permits
    assert is_permitted(asked(resource=resource), agreed(but("deny", **content))) != denies


def concept(*pairs: tuple[str, str]) -> list[Json]:
    return [{"coding": [{"system": system, "code": code} for system, code in pairs]}]


PANEL = observation(
    "bp",
    "2020",
    "N",
    code={"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
    component=[{"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}}],
)
LOCAL = observation("local", "2020", "N", code={"coding": [{"system": "http://x", "code": "BP"}]})
IN_WORDS = observation("words", "2020", "N", code={"text": "blood pressure"})
PERSON = {"resourceType": "Patient", "id": "ex-patient", "meta": {"security": labels("N")}}


@pytest.mark.parametrize(
    ("listed", "resource", "permits", "denies"),
    [
        pytest.param(concept(("http://loinc.org", "85354-9")), PANEL, True, True, id="code"),
        pytest.param(
            concept(("http://loinc.org", "8480-6")), PANEL, False, True, id="a part of it"
        ),
        pytest.param(concept(("http://loinc.org", "1-1")), PANEL, False, False, id="other"),
        pytest.param(concept(("http://loinc.org", "1-1")), LOCAL, False, True, id="local code"),
        pytest.param(concept(("http://loinc.org", "1-1")), IN_WORDS, False, True, id="in words"),
        pytest.param(concept(("http://loinc.org", "1-1")), PERSON, False, False, id="has no code"),
        pytest.param(concept(("http://loinc.org", "1-1")), None, False, True, id="unknown"),
        pytest.param([{"text": "blood pressure"}], PANEL, False, True, id="consent in words"),
        pytest.param(
            concept(("http://x", "BP"), ("http://loinc.org", "85354-9")),
            LOCAL,
            True,
            True,
            id="both",
        ),
    ],
)
def test_what_data_is_about(listed: list[Json], resource: Json | None, permits: bool, denies: bool):
    assert is_permitted(asked(resource=resource), agreed(code=listed)) == permits
    assert is_permitted(asked(resource=resource), agreed(but("deny", code=listed))) != denies


def labelled(*written: Json) -> Json:
    return observation("x", "2020", meta={"security": list(written)})


OID = "urn:oid:2.16.840.1.113883.5"


@pytest.mark.parametrize(
    ("listed", "resource", "permits", "denies"),
    [
        pytest.param(labels("N"), labelled(*labels("N")), True, True, id="the same"),
        pytest.param(labels("N"), labelled(*labels("M")), True, False, id="lower"),
        pytest.param(labels("N"), labelled(*labels("R")), False, True, id="higher"),
        pytest.param(
            labels("N"), labelled(*labels("N", "R")), False, True, id="the highest counts"
        ),
        pytest.param(labels("R"), labelled(*labels("N")), True, False, id="denied from R"),
        pytest.param(labels("N"), labelled(*labels("PSY")), False, True, id="sensitive is R"),
        pytest.param(labels("N"), labelled(*labels("PSY", "N")), True, True, id="level stated"),
        pytest.param(labels("N"), labelled(), False, True, id="not labelled"),
        pytest.param(labels("N"), labelled(*labels("X")), False, True, id="no such level"),
        pytest.param(labels("N"), labelled(*labels("N", "X")), False, True, id="one is unknown"),
        pytest.param(labels("N"), None, False, True, id="unknown"),
        pytest.param(labels("SUD"), labelled(*labels("ETHUD", "R")), True, True, id="kind of it"),
        pytest.param(
            labels("ETH"), labelled(*labels("ETHUD", "R")), True, True, id="as PCF has it"
        ),
        pytest.param(labels("BH"), labelled(*labels("PSY", "R")), False, True, id="as it once was"),
        pytest.param(labels("ETHUD"), labelled(*labels("SUD", "R")), False, False, id="wider"),
        pytest.param(
            labels("PSY"), labelled(*labels("R")), False, True, id="restricted, no reason"
        ),
        pytest.param(labels("PSY"), labelled(*labels("N")), False, False, id="normal"),
        pytest.param(labels("PSY"), labelled(*labels("NEWCODE")), False, True, id="unknown code"),
        pytest.param(
            labels("NEWCODE"), labelled(*labels("NEWCODE")), True, True, id="same unknown"
        ),
        pytest.param(labels("NEWCODE"), labelled(*labels("N")), False, True, id="unknown listed"),
        pytest.param(labels("X"), labelled(*labels("N")), False, True, id="unknown level listed"),
        pytest.param([{"display": "secret"}], labelled(*labels("N")), False, True, id="not coded"),
        pytest.param([{"code": "N"}], labelled(*labels("N")), False, True, id="no vocabulary"),
        pytest.param(
            [{"system": "http://x", "code": "vip"}],
            labelled({"system": "http://x", "code": "vip"}, *labels("R")),
            True,
            True,
            id="label of the house",
        ),
        pytest.param(
            [{"system": "http://x", "code": "vip"}],
            labelled(*labels("N")),
            False,
            False,
            id="without label of the house",
        ),
        pytest.param(
            [{"system": f"{OID}.25", "code": "N"}], labelled(*labels("N")), True, True, id="as OID"
        ),
        pytest.param(
            labels("PSY"),
            labelled({"system": f"{TERMINOLOGY}/v3-Confidentiality", "code": "PSY"}),
            True,
            True,
            id="sensitivity in confidentiality",
        ),
        pytest.param(
            labels("PSY"),
            labelled(*labels("PSY", "R", "PERSISTLABEL")),
            True,
            True,
            id="obligation",
        ),
    ],
)
def test_how_sensitive_data_is(
    listed: list[Json], resource: Json | None, permits: bool, denies: bool
):
    request = asked(resource=resource)

    assert is_permitted(request, agreed(securityLabel=listed)) == permits
    assert is_permitted(request, agreed(but("deny", securityLabel=listed))) != denies


def test_a_site_that_labels_all_sensitive_data_takes_the_rest_for_normal():
    facts = resource_facts(RESOURCES["unlabelled"], unlabelled_is_normal=True)
    request = ConsentRequest(PATIENT, "TREAT", NOW, resource=facts)

    assert is_permitted(request, agreed(securityLabel=labels("N")))


CARE_PLAN = "CarePlan/1"


def planned(**changed: Any) -> Json:
    return observation("planned", "2020", "N", **changed)


@pytest.mark.parametrize(
    ("listed", "resource", "permits", "denies"),
    [
        (data("instance", "Observation/ex-planned"), planned(), True, True),
        (data("instance", "Observation/x"), planned(), False, False),
        (data("instance", "http://x/Observation/ex-planned"), planned(), False, True),
        (data("instance", "Observation/ex-planned"), planned(id=None), False, True),
        (data("instance", "Encounter/x"), planned(id=None), False, False),
        (data("dependents", CARE_PLAN), planned(basedOn=[{"reference": CARE_PLAN}]), True, True),
        (data("dependents", CARE_PLAN), planned(), False, False),
        (data("dependents", "Observation/ex-planned"), planned(), True, True),
        (data("related", CARE_PLAN), planned(basedOn=[{"reference": CARE_PLAN}]), True, True),
        # The plan may name the Observation, which does not know of it.
        (data("related", CARE_PLAN), planned(), False, True),
        (data("related", ENCOUNTER), planned(), True, True),
        (data("related", "Encounter/x"), planned(), False, False),
        (data("related", "EpisodeOfCare/x"), planned(), False, True),
        (data("related", "EpisodeOfCare/x"), PERSON, False, False),
        (data("authoredby", "Practitioner/ex-author"), planned(), True, True),
        (data("authoredby", "Practitioner/x"), planned(), False, False),
        (data("authoredby", "Practitioner/x"), planned(performer=[{"display": "X"}]), False, True),
        (
            data("authoredby", "Practitioner/x"),
            planned(performer=[{"reference": "#x"}]),
            False,
            True,
        ),
        (data("authoredby", "Practitioner/x"), None, False, True),
        ([{"meaning": "instance", "reference": {"display": "x"}}], planned(), False, True),
    ],
)
def test_which_data_it_is(listed: list[Json], resource: Json | None, permits: bool, denies: bool):
    assert is_permitted(asked(resource=resource), agreed(data=listed)) == permits
    assert is_permitted(asked(resource=resource), agreed(but("deny", data=listed))) != denies


def test_what_is_known_to_refer_to_the_data_is_related_to_it():
    facts = resource_facts(planned())
    known = asked()
    content = agreed(data=data("related", CARE_PLAN))

    def permits(*referrers: str) -> bool:
        told = replace(facts, referrers=frozenset(referrers))
        return is_permitted(replace(known, resource=told), content)

    assert permits(CARE_PLAN)
    assert not permits("CarePlan/2")


@pytest.mark.parametrize(
    ("period", "permits", "denies"),
    [
        ({"start": "2020-01-01", "end": "2020-12-31"}, True, True),
        ({"start": "2020-06-01"}, False, True),
        ({"start": "2021"}, False, False),
        ({"start": "2019-12-31T00:00:00Z", "end": "2021-01-02T00:00:00Z"}, True, True),
        # In some time zone the year begins before this instant.
        ({"start": "2020-01-01T00:00:00Z"}, False, True),
        ({"start": "some day"}, False, True),
        ({"_start": {"extension": [{"url": "http://x"}]}}, False, True),
    ],
)
def test_when_data_is_from(period: Json, permits: bool, denies: bool):
    request = asked(resource=observation("x", "2020", "N"))

    assert is_permitted(request, agreed(dataPeriod=period)) == permits
    assert is_permitted(request, agreed(but("deny", dataPeriod=period))) != denies


def test_a_permit_of_some_time_does_not_keep_back_who_the_patient_is():
    herself = asked(resource=RESOURCES["the patient"])
    period = {"start": "2022", "end": "2022"}
    widening = but("permit", dataPeriod=period, securityLabel=labels("N"))

    assert is_permitted(herself, agreed(dataPeriod=period))
    assert is_permitted(herself, agreed(widening, securityLabel=labels("U")))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(agreed(but("deny", dataPeriod={"start": "2022"})), id="denied within"),
        pytest.param(
            pcf_consent(type="deny", dataPeriod={"start": "2022"}, provision=[but("permit")]),
            id="a permit in a denial of some time",
        ),
        pytest.param(agreed(dataPeriod={"start": "some day"}), id="time that can't be read"),
        pytest.param(
            agreed(dataPeriod={"start": "2022"}, data=data("instance", "Observation/1")),
            id="limited in another way too",
        ),
    ],
)
def test_in_any_other_limit_of_time_a_doubt_keeps_the_patient_back(content: Json):
    assert not is_permitted(asked(resource=RESOURCES["the patient"]), content)


@pytest.mark.parametrize("gone", ["id", "other"])
def test_another_patient_is_data_like_any_other(gone: str):
    other = {**RESOURCES["the patient"], "id": "ex-mother"}
    if gone == "id":
        del other["id"]

    assert not is_permitted(asked(resource=other), agreed(dataPeriod={"start": "2022"}))


# -- purposes and categories -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "purpose", "permits", "denies"),
    [
        ("HOPERAT", "CAREMGT", True, True),
        ("TREAT", "CAREMGT", False, True),
        ("TREAT", "TREATDS", True, True),
        ("PurposeOfUse", "HMARKT", True, True),
        ("PurposeOfUse", "BTG", False, False),
        ("ETREAT", "BTG", False, False),
        ("BTG", "BTG", True, True),
        ("NEWCODE", "NEWCODE", True, True),
        ("NEWCODE", "TREAT", False, True),
        ("TREAT", "NEWCODE", False, True),
    ],
)
def test_which_purposes_cover_which(listed: str, purpose: str, permits: bool, denies: bool):
    only = pcf_consent(type="permit", purpose=purposes(listed))
    denial = pcf_consent(type="deny", purpose=purposes(listed))

    assert is_permitted(asked(purpose), only) == permits
    assert is_permitted(asked(purpose), pcf_consent(type="permit"), denial) != denies


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (["research"], {"HRESCH", "CLINTRCH"}),
        (["rsdid"], {"HRESCH", "CLINTRCH"}),
        (["emrgonly"], {"ETREAT", "ERTREAT", "BTG"}),
        (["dnr"], set()),
        (["npp"], set()),
        (["research", "emrgonly"], set()),
        (["unheard-of"], {"TREAT", "ETREAT", "ERTREAT", "BTG", "HRESCH", "CLINTRCH"}),
    ],
)
def test_a_category_limits_what_a_consent_permits_and_not_what_it_denies(
    codes: list[str], expected: set[str]
):
    system = f"{TERMINOLOGY}/consentcategorycodes"
    category = [{"coding": [{"system": system, "code": code}]} for code in codes]
    permit = {**pcf_consent(type="permit"), "category": category}
    denial = {**pcf_consent(type="deny"), "category": category}
    asked_for = ("TREAT", "ETREAT", "ERTREAT", "BTG", "HRESCH", "CLINTRCH")

    assert {each for each in asked_for if is_permitted(asked(each), permit)} == expected
    assert not any(is_permitted(asked(each), pcf_consent(type="permit"), denial) for each in TPO)


@pytest.mark.parametrize(
    ("policies", "expected"),
    [({}, False), ({"http://p/1": True}, True), ({"http://p/1": False}, False)],
)
def test_a_policy_whose_rule_the_site_has_stated_is_the_base_rule(
    policies: dict[str, bool], expected: bool
):
    content = {**pcf_consent(purpose=purposes("TREAT")), "policy": [{"uri": "http://p/1"}]}
    record = under_policies(read_consent(content, "Consent/1", patient=PATIENT), policies)
    bare = {key: value for key, value in content.items() if key != "provision"}
    unruled = under_policies(read_consent(bare, "Consent/1", patient=PATIENT), policies)

    assert decide(asked(), [record]).is_permitted == expected
    assert decide(asked(), [unruled]).is_permitted == expected


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"policy": [{"uri": "http://p/1"}, {"uri": "http://p/2"}]}, "one of two is not named"),
        ({"policy": [{"uri": "http://p/1"}, {"authority": "http://p"}]}, "one has no uri"),
        ({"policyRule": {"text": "as agreed"}}, "the policy rule goes before it"),
        ({"provision": {"type": "deny"}}, "it states its rule itself"),
        (
            {"provision": {"securityLabel": labels("N")}},
            "it may be an exception to its policy or narrow it",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_policy_that_permits_is_no_rule_where(changed: dict[str, Any], why: str):
    content = {**pcf_consent(), "policy": [{"uri": "http://p/1"}], **changed}
    record = under_policies(
        read_consent(content, "Consent/1", patient=PATIENT), {"http://p/1": True}
    )

    assert not decide(asked(), [record]).is_permitted, why
