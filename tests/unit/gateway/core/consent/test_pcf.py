"""The oracle: what IHE Privacy Consent on FHIR says of its own examples.

Each line is (consent, actor, purpose, data, verdict), taken from the text of the profile and not
from the engine. The default of the route is deny (PCF's implicit policy `Policy-deny`), so "deny"
is also the verdict where no consent applies. Data is asked about one by one, as PCF's Consent
Enforcement Point does.
"""

import json
from datetime import UTC, datetime

import pytest

from gateway.core.consent import (
    ConsentRequest,
    ConsentSettings,
    decide,
    read_consent,
    resource_facts,
)
from tests.conftest import shared_data
from tests.pcf import ACTORS, CONSENTS, FOOBAR, PATIENT, RESOURCES, Json

TODAY = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
IN_2022 = datetime(2022, 12, 31, 12, 0, tzinfo=UTC)
AFTER_2022 = datetime(2023, 1, 1, 0, 0, tzinfo=UTC)
ONE_BY_ONE = ConsentSettings(fulfils=frozenset({"REDACT"}))
RESEARCH = f"{FOOBAR}|FooBar"

# "Any actor, these purposes, all data" and nothing else.
BASIC = [
    (actor, purpose, data, "permit" if purpose in ("TREAT", "HPAYMT", "HOPERAT") else "deny")
    for actor in ("practitioner", "clerk", "unknown")
    for purpose in ("TREAT", "HPAYMT", "HOPERAT", "HRESCH", "HMARKT", "BTG")
    for data in ("weight", "alcoholUse", "very restricted")
]
TABLE: dict[str, list[tuple[str, str, str, str]]] = {
    "basic-treat": BASIC,
    # The same terms, given by ink on paper.
    "basic-ink": BASIC,
    # A token is refused whoever asks.
    "basic-reject": [(actor, purpose, data, "deny") for actor, purpose, data, _ in BASIC],
    # HRESCH is the top of research: all specific kinds of it, and nothing else.
    "basic-research": [
        ("clerk", "HRESCH", "weight", "permit"),
        ("clerk", "CLINTRCH", "weight", "permit"),
        ("unknown", "PRECLINTRCH", "alcoholUse", "permit"),
        ("clerk", "TREAT", "weight", "deny"),
        ("clerk", "BTG", "weight", "deny"),
        ("clerk", RESEARCH, "weight", "deny"),
    ],
    # "Access only data authored within 2022", both days included.
    "intermediate-timeframe": [
        ("clerk", "TREAT", "alcoholUse", "permit"),
        ("clerk", "HPAYMT", "first of 2022", "permit"),
        ("clerk", "TREAT", "last of 2022", "permit"),
        ("clerk", "TREAT", "some day of 2022", "permit"),
        ("clerk", "TREAT", "first of 2023", "deny"),
        ("clerk", "TREAT", "weight", "deny"),
        ("clerk", "TREAT", "2022 or 2023", "deny"),
        ("clerk", "TREAT", "without time", "deny"),
        ("clerk", "HRESCH", "alcoholUse", "deny"),
    ],
    # "Most sharing, but not data authored within 2022".
    "intermediate-not-timeframe": [
        ("clerk", "TREAT", "alcoholUse", "deny"),
        ("clerk", "TREAT", "first of 2022", "deny"),
        ("clerk", "TREAT", "last of 2022", "deny"),
        ("clerk", "TREAT", "some day of 2022", "deny"),
        ("clerk", "TREAT", "first of 2023", "permit"),
        ("clerk", "TREAT", "weight", "permit"),
        ("clerk", "TREAT", "2022 or 2023", "deny"),
        ("clerk", "TREAT", "without time", "deny"),
        ("clerk", "HRESCH", "weight", "deny"),
    ],
    # "Specific data itemized".
    "intermediate-data": [
        ("clerk", "TREAT", "weight", "permit"),
        ("clerk", "TREAT", "weight-2", "permit"),
        ("clerk", "TREAT", "encounter", "permit"),
        ("clerk", "TREAT", "psychiatry", "deny"),
        ("clerk", "HRESCH", "weight", "deny"),
    ],
    # "All but the alcohol use".
    "intermediate-not-data": [
        ("clerk", "TREAT", "alcoholUse", "deny"),
        ("clerk", "TREAT", "weight", "permit"),
        ("clerk", "TREAT", "psychiatry", "permit"),
        ("clerk", "HRESCH", "weight", "deny"),
    ],
    # "Permits data authored by practitioner 1"; an unknown author is not he.
    "intermediate-authoredby": [
        ("clerk", "TREAT", "by practitioner", "permit"),
        ("clerk", "TREAT", "weight", "deny"),
        ("practitioner", "TREAT", "weight", "deny"),
        ("clerk", "TREAT", "by nobody named", "deny"),
        ("clerk", "HRESCH", "by practitioner", "deny"),
    ],
    # Its complement; an unknown author may be he.
    "intermediate-not-authoredby": [
        ("clerk", "TREAT", "by practitioner", "deny"),
        ("clerk", "TREAT", "weight", "permit"),
        ("clerk", "TREAT", "by nobody named", "deny"),
    ],
    # "Authored within an encounter"; the same of what names no encounter.
    "intermediate-encounter": [
        ("clerk", "TREAT", "weight", "permit"),
        ("clerk", "TREAT", "encounter", "permit"),
        ("clerk", "TREAT", "of other encounter", "deny"),
        ("clerk", "TREAT", "of no encounter named", "deny"),
    ],
    "intermediate-not-encounter": [
        ("clerk", "TREAT", "weight", "deny"),
        ("clerk", "TREAT", "alcoholUse", "deny"),
        ("clerk", "TREAT", "encounter", "deny"),
        ("clerk", "TREAT", "of other encounter", "permit"),
        ("clerk", "TREAT", "of no encounter named", "deny"),
        ("clerk", "HRESCH", "of other encounter", "deny"),
    ],
    # "A given purpose beyond the basic ones", for the research organization as actor.
    "intermediate-purpose": [
        ("researcher", RESEARCH, "weight", "permit"),
        ("clerk", RESEARCH, "weight", "deny"),
        ("unknown", RESEARCH, "weight", "deny"),
        ("researcher", "TREAT", "weight", "deny"),
        ("researcher", "HRESCH", "weight", "deny"),
        ("researcher", f"{FOOBAR}|Other", "weight", "deny"),
    ],
    # "Permits users on the managed group of authorized to break-glass", and nothing else.
    "dissent-break-glass": [
        ("practitioner", "BTG", "alcoholUse", "permit"),
        ("practitioner", "BTG", "very restricted", "permit"),
        ("clerk", "BTG", "weight", "deny"),
        ("unknown", "BTG", "weight", "deny"),
        ("practitioner", "TREAT", "weight", "deny"),
        ("practitioner", "ETREAT", "weight", "deny"),
        ("practitioner", "HRESCH", "weight", "deny"),
    ],
    # "Nothing but normal data is allowed"; sensitive data is restricted.
    "advanced-normal": [
        ("clerk", "TREAT", "weight", "permit"),
        ("clerk", "HPAYMT", "weight-2", "permit"),
        ("clerk", "TREAT", "low", "permit"),
        ("clerk", "TREAT", "alcoholUse", "deny"),
        ("clerk", "TREAT", "restricted", "deny"),
        ("clerk", "TREAT", "very restricted", "deny"),
        ("clerk", "TREAT", "sensitive without level", "deny"),
        ("clerk", "TREAT", "unlabelled", "deny"),
        ("clerk", "HRESCH", "weight", "deny"),
        ("clerk", "BTG", "weight", "deny"),
    ],
    "advanced-normal-restricted": [
        ("clerk", "TREAT", "weight", "permit"),
        ("clerk", "TREAT", "restricted", "permit"),
        ("clerk", "TREAT", "alcoholUse", "permit"),
        ("clerk", "TREAT", "sensitive without level", "permit"),
        ("clerk", "TREAT", "very restricted", "deny"),
        ("clerk", "TREAT", "unlabelled", "deny"),
    ],
    "advanced-normal-not-restricted": [
        ("clerk", "TREAT", "weight", "permit"),
        ("clerk", "TREAT", "restricted", "deny"),
        ("clerk", "TREAT", "very restricted", "deny"),
        ("clerk", "TREAT", "alcoholUse", "deny"),
    ],
    # For most as advanced-normal; for the practitioner as advanced-normal-restricted, for the same
    # purposes.
    "advanced-normal-focused-restricted": [
        ("clerk", "TREAT", "weight", "permit"),
        ("unknown", "TREAT", "weight", "permit"),
        ("practitioner", "TREAT", "weight", "permit"),
        ("practitioner", "TREAT", "restricted", "permit"),
        ("practitioner", "HOPERAT", "alcoholUse", "permit"),
        ("practitioner", "TREAT", "very restricted", "deny"),
        ("practitioner", "HRESCH", "restricted", "deny"),
        ("clerk", "TREAT", "restricted", "deny"),
        ("clerk", "TREAT", "alcoholUse", "deny"),
        ("unknown", "TREAT", "restricted", "deny"),
    ],
    # "Only the practitioner gets mental health data": not all that is restricted.
    "advanced-normal-focused-psy": [
        ("practitioner", "TREAT", "psychiatry", "permit"),
        ("practitioner", "TREAT", "weight", "permit"),
        ("clerk", "TREAT", "psychiatry", "deny"),
        ("practitioner", "TREAT", "violence", "deny"),
        ("practitioner", "TREAT", "alcoholUse", "deny"),
        ("practitioner", "TREAT", "restricted", "deny"),
        ("practitioner", "TREAT", "psychiatry and alcohol", "deny"),
        ("practitioner", "TREAT", "psychiatry, very restricted", "deny"),
        ("practitioner", "BTG", "psychiatry", "deny"),
    ],
    "advanced-normal-focused-psy-or-sdv": [
        ("practitioner", "TREAT", "psychiatry", "permit"),
        ("practitioner", "TREAT", "violence", "permit"),
        ("practitioner", "TREAT", "weight", "permit"),
        ("clerk", "TREAT", "weight", "permit"),
        ("clerk", "TREAT", "psychiatry", "deny"),
        ("clerk", "TREAT", "violence", "deny"),
        ("practitioner", "TREAT", "alcoholUse", "deny"),
        ("practitioner", "HRESCH", "psychiatry", "deny"),
    ],
    # Normal data for treatment, payment, operations; restricted data only by breaking the glass.
    "advanced-normal-break-glass-restricted": [
        ("clerk", "TREAT", "weight", "permit"),
        ("practitioner", "BTG", "restricted", "permit"),
        ("practitioner", "BTG", "weight", "permit"),
        ("practitioner", "TREAT", "restricted", "deny"),
        ("practitioner", "ETREAT", "restricted", "deny"),
        ("practitioner", "BTG", "very restricted", "deny"),
        ("clerk", "BTG", "restricted", "deny"),
        ("clerk", "BTG", "weight", "deny"),
    ],
}


def verdict(
    consent: Json, actor: str, purpose: str, resource: Json, *, now: datetime = TODAY
) -> str:
    """Ask about one resource, for a known action that PCF's consents don't speak of."""
    record = read_consent(consent, "Consent/1", patient=PATIENT)
    request = ConsentRequest(
        PATIENT, purpose, now, actor=ACTORS[actor], resource=resource_facts(resource)
    )
    return "permit" if decide(request, [record], settings=ONE_BY_ONE).is_permitted else "deny"


LINES = [
    pytest.param(name, *line, id=" / ".join((name, *line)))
    for name, lines in TABLE.items()
    for line in lines
]


@pytest.mark.parametrize(("name", "actor", "purpose", "data", "expected"), LINES)
def test_the_verdict_is_that_of_the_profile(
    name: str, actor: str, purpose: str, data: str, expected: str
):
    assert verdict(CONSENTS[name], actor, purpose, RESOURCES[data]) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [(IN_2022, "permit"), (AFTER_2022, "deny"), (TODAY, "deny")],
    ids=["last day", "day after", "today"],
)
def test_an_expired_consent_of_the_profile_permits_until_its_last_day_ends(
    now: datetime, expected: str
):
    assert verdict(CONSENTS["expired-treat"], "clerk", "TREAT", RESOURCES["weight"], now=now) == (
        expected
    )


def test_every_consent_written_anew_has_verdicts():
    assert CONSENTS.keys() - TABLE.keys() == {"expired-treat"}


def published() -> dict[str, Json]:
    """The Consents as IHE publishes them, by the names of the table."""
    paths = shared_data("ihe-pcf").glob("Consent-*.json")
    found = {path.stem.removeprefix("Consent-ex-consent-"): path for path in paths}
    return {name: json.loads(path.read_text("utf-8")) for name, path in found.items()}


def published_data() -> dict[str, Json]:
    """The data as IHE publishes it; what is not published in the place of it is our own."""
    paths = shared_data("ihe-pcf").glob("Observation-*.json")
    found = {path.stem.removeprefix("Observation-ex-"): path for path in paths}
    return {**RESOURCES, **{n: json.loads(path.read_text("utf-8")) for n, path in found.items()}}


def test_every_published_consent_gets_the_verdicts_of_the_profile():
    data = published_data()
    given = {
        (name, *line[:3]): verdict(consent, line[0], line[1], data[line[2]])
        for name, consent in published().items()
        for line in TABLE[name]
    }

    expected = {(name, *line[:3]): line[3] for name in published() for line in TABLE[name]}
    assert given == expected


def test_the_members_of_the_published_group_are_the_privileged_actors():
    group = json.loads((shared_data("ihe-pcf") / "Group-ex-privilegedUsers.json").read_text())
    members = {member["entity"]["reference"] for member in group["member"]}

    privileged = [a for a in ACTORS.values() if a.groups and "Group/ex-privilegedUsers" in a.groups]
    assert [actor.references for actor in privileged] == [frozenset(members)]
