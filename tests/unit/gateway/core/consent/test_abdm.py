"""The consent items of the ABDM checklist, one by one; import and storage have their own tests."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.consent import (
    ConsentDecision,
    ConsentRecord,
    ConsentRequest,
    ConsentSettings,
    decide,
    resource_facts,
)
from gateway.core.consent.abdm import read_artefact, settled_status
from gateway.core.consent.abdm_artefact import (
    ArtefactUnreadable,
    ScopeUnclear,
    read_notification,
    read_scope,
    read_time,
)
from tests.abdm import (
    CONSENT_ID,
    POLICY,
    SHARED,
    Json,
    detail,
    ended,
    notification,
    permission,
    raw,
)
from tests.factories import creatinine, patient

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ANA = "Patient/p1"
SEEING_TO_REDACTION = ConsentSettings(fulfils=frozenset({"REDACT"}))
LAB = creatinine(encounter={"reference": "Encounter/OPD-1"})
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


def read(*bodies: Json, who: str | None = ANA) -> ConsentRecord:
    said = [read_notification(raw(body)) for body in bodies]
    return read_artefact(said, "Consent/1", patient=who, policy=POLICY)


def asked(
    *bodies: Json,
    content: Json = LAB,
    default: Any = "permit",
    others: Sequence[ConsentRecord] = (),
    **changed: Any,
) -> ConsentDecision:
    """Decide where the route's default would permit, so that only the artefact can refuse."""
    request = ConsentRequest(ANA, "TREAT", NOW, resource=resource_facts(content))
    request = replace(request, **changed)
    who = changed.pop("who", ANA)
    return decide(
        request, [read(*bodies, who=who), *others], default=default, settings=SEEING_TO_REDACTION
    )


def with_frequency(unit: str, value: int, repeats: object) -> Json:
    frequency = {"unit": unit, "value": value, "repeats": repeats}
    return detail(permission=permission(frequency=frequency))


def with_range(first: str, last: str) -> Json:
    return detail(permission=permission(dateRange={"from": first, "to": last}))


def categorised(*codes: str) -> Json:
    coding = [{"coding": [{"system": CATEGORY, "code": code}]} for code in codes]
    return creatinine(encounter={"reference": "Encounter/OPD-1"}, category=coding)


# -- 1: granted, and each limit by itself ----------------------------------------------------


def test_what_is_granted_is_permitted():
    decision = asked(notification(), default="deny")

    assert decision.is_permitted
    assert decision.consents == ("Consent/1",)


REFUSED = {
    "hi type": (
        notification(),
        {"content": creatinine(encounter=LAB["encounter"]) | {"resourceType": "Condition"}},
    ),
    "care context": (
        notification(),
        {"content": creatinine(encounter={"reference": "Encounter/OPD-2"})},
    ),
    "before the window": (notification(), {"content": {**LAB, "effectiveDateTime": "2025-10-31"}}),
    "erase time": (notification(), {"now": datetime(2026, 12, 1, tzinfo=UTC)}),
    "purpose denied by policy": (
        notification(consentDetail=detail(purpose={"code": "HPAYMT"})),
        {"purpose": "HPAYMT"},
    ),
    "other facility": (notification(consentDetail=detail(hiu={"id": "IN0000000009"})), {}),
    "other consent manager": (
        notification(consentDetail=detail(consentManager={"id": "abdm"})),
        {},
    ),
    "revoked": (ended("REVOKED"), {}),
    "denied": (ended("DENIED"), {}),
    "expired": (ended("EXPIRED"), {}),
}


@pytest.mark.parametrize(("body", "changed"), REFUSED.values(), ids=REFUSED.keys())
def test_outside_of_one_limit_the_route_default_does_not_stand_in(
    body: Json, changed: dict[str, Any]
):
    assert not asked(body, **changed).is_permitted


def test_each_refusal_has_a_reason_of_its_own():
    reasons = {name: asked(body, **changed).reasons for name, (body, changed) in REFUSED.items()}

    assert len(set(reasons.values())) == len(reasons)


def test_the_artefact_of_another_patient_permits_nothing():
    record = read(notification(), who="Patient/p2")
    request = ConsentRequest(ANA, "TREAT", NOW, resource=resource_facts(LAB))

    decision = decide(request, [record], settings=SEEING_TO_REDACTION)

    assert not decision.is_permitted
    assert decision.reasons[0] == "Consent/1: is about another patient."


@pytest.mark.parametrize("day", ["2025-11-01", "2026-11-22"])
def test_the_first_and_the_last_day_of_the_window_are_in_it(day: str):
    assert asked(notification(), content={**LAB, "effectiveDateTime": day}).is_permitted


def test_a_purpose_that_the_artefact_is_not_about_is_none_of_its_business():
    assert asked(notification(), purpose="HRESCH").is_permitted
    assert not asked(notification(), purpose="HRESCH", default="deny").is_permitted


def test_what_is_not_known_of_the_data_is_withheld():
    assert not asked(notification(), content=creatinine()).is_permitted
    assert not asked(
        notification(), resource=ConsentRequest(ANA, "TREAT", NOW).resource
    ).is_permitted


def test_who_the_patient_is_belongs_to_every_record():
    assert asked(notification(), content=patient(), default="deny").is_permitted


def test_without_redaction_seen_to_an_artefact_permits_nothing():
    request = ConsentRequest(ANA, "TREAT", NOW, resource=resource_facts(LAB))

    assert not decide(request, [read(notification())], default="permit").is_permitted


@pytest.mark.parametrize(
    ("hi_types", "categories", "is_permitted"),
    [
        (["DiagnosticReport"], ("laboratory",), True),
        (["DiagnosticReport"], (), True),
        (["DiagnosticReport"], ("vital-signs",), False),
        (["WellnessRecord"], ("vital-signs",), True),
        (["WellnessRecord"], ("vital-signs", "laboratory"), False),
        (["WellnessRecord"], (), False),
        (["WellnessRecord", "DiagnosticReport"], ("vital-signs", "laboratory"), True),
        (["Prescription", "SomethingNew"], ("laboratory",), False),
    ],
)
def test_hi_types_are_types_of_resource_and_categories(
    hi_types: list[str], categories: tuple[str, ...], is_permitted: bool
):
    body = notification(consentDetail=detail(hiTypes=hi_types))

    assert asked(body, content=categorised(*categories)).is_permitted == is_permitted


# -- 2: scope that is missing or unreadable --------------------------------------------------

UNCLEAR = {
    "no permission": detail(permission=None),
    "no date range": detail(permission=permission(dateRange=None)),
    "no hi types": detail(hiTypes=None),
    "empty hi types": detail(hiTypes=[]),
    "no care contexts": detail(careContexts=None),
    "empty care contexts": detail(careContexts=[]),
    "a care context without reference": detail(careContexts=[{}]),
    "no end of the window": detail(
        permission=permission(dateRange={"from": "2025-11-01T00:00:00Z"})
    ),
    "a window that ends before it begins": detail(
        permission=permission(
            dateRange={"from": "2026-11-01T00:00:00Z", "to": "2025-11-01T00:00:00Z"}
        )
    ),
    "an unparseable time": detail(permission=permission(dataEraseAt="tomorrow")),
    "a date for a time": detail(permission=permission(dataEraseAt="2026-12-01")),
    "a day that is none": detail(permission=permission(dataEraseAt="2026-02-30T00:00:00Z")),
    "no erase time": detail(permission=permission(dataEraseAt=None)),
    "no frequency": detail(permission=permission(frequency=None)),
    "a unit that is not known": with_frequency("DECADE", 1, 0),
    "negative repeats": with_frequency("DAY", 1, -1),
    "true repeats": with_frequency("DAY", 1, True),
    "an access mode that is not known": detail(permission=permission(accessMode="COPY")),
    "a limit that is not known": detail(permission=permission(onlyOn="sundays")),
    "no purpose": detail(purpose=None),
    "a purpose without code": detail(purpose={"text": "care"}),
    "no consent manager": detail(consentManager=None),
    "no facility at all": detail(hip=None, hiu=None),
}


@pytest.mark.parametrize("content", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_what_limits_the_grant_has_to_be_there_and_readable(content: Json):
    decision = asked(notification(consentDetail=content))

    assert not decision.is_permitted
    assert decision.reasons[0].startswith("Consent/1: grants nothing")


def test_granted_without_an_artefact_grants_nothing():
    assert not asked(notification(consentDetail=None)).is_permitted


# -- 3 to 5: statuses ------------------------------------------------------------------------


def test_revoked_without_detail_blocks_within_the_scope_known_before():
    decision = asked(notification(), ended())

    assert not decision.is_permitted
    assert decision.reasons[0] == "Consent/1: was revoked by the patient."
    assert asked(notification(), ended(), purpose="HRESCH").is_permitted


def test_granted_again_after_revoked_stays_revoked():
    again = notification(grantAcknowledgement=True)
    again["requestId"] = "another-request"

    assert not asked(notification(), ended(), again).is_permitted
    assert not asked(ended(), again).is_permitted


@pytest.mark.parametrize("status", ["SUSPENDED", "granted", "GRANTED ", "REQUESTED"])
def test_a_status_that_does_not_grant_or_is_not_known_refuses(status: str):
    assert not asked(notification(status)).is_permitted
    assert read_notification(raw(notification(status))).status == status


def test_a_status_that_is_not_known_is_not_undone_by_another_grant():
    assert not asked(notification(), notification("SUSPENDED"), notification()).is_permitted
    assert asked(notification("REQUESTED"), notification()).is_permitted


STATUSES = st.sampled_from(["GRANTED", "REVOKED", "EXPIRED", "DENIED", "REQUESTED", "ODD"])


@given(st.lists(STATUSES, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_notifications_does_not_matter(statuses: list[str], random: Any):
    bodies = [notification(status) for status in statuses]
    shuffled = random.sample(bodies, len(bodies))

    assert asked(*bodies).is_permitted == asked(*shuffled).is_permitted
    said = [read_notification(raw(body)) for body in bodies]
    mixed = [read_notification(raw(body)) for body in shuffled]
    assert settled_status(said) == settled_status(mixed)


@given(st.lists(STATUSES, max_size=5), st.sampled_from(["REVOKED", "EXPIRED", "DENIED"]))
def test_nothing_said_after_a_final_status_grants_again(later: list[str], final: str):
    bodies = [notification(), ended(final), *(notification(status) for status in later)]

    assert settled_status([read_notification(raw(body)) for body in bodies]) in (
        "REVOKED",
        "DENIED",
        "EXPIRED",
    )
    assert not asked(*bodies).is_permitted


def test_a_withdrawn_artefact_does_not_stand_in_the_way_of_another_grant():
    assert asked(ended(), others=[read(notification())]).is_permitted


# -- 6: its own timer ------------------------------------------------------------------------


def test_it_expires_by_its_own_timer_without_any_callback():
    end = datetime(2026, 12, 1, tzinfo=UTC)

    assert asked(notification(), now=end - timedelta(milliseconds=1)).is_permitted
    assert not asked(notification(), now=end).is_permitted


# -- 8: frequency ----------------------------------------------------------------------------


def counted(repeats: int, used_by: frozenset[str], use: str) -> bool:
    record = read(notification(consentDetail=with_frequency("HOUR", 1, repeats)))
    record = replace(record, terms=record.terms.with_uses(used_by))
    request = ConsentRequest(ANA, "TREAT", NOW, resource=resource_facts(LAB), use=use)
    return decide(request, [record], default="permit", settings=SEEING_TO_REDACTION).is_permitted


def test_a_second_use_within_the_hour_is_refused_where_one_is_permitted():
    assert counted(1, frozenset(), "event-1")
    assert not counted(1, frozenset({"event-1"}), "event-2")


def test_asking_again_for_a_use_that_is_counted_is_not_another_use():
    assert counted(1, frozenset({"event-1"}), "event-1")


def test_no_repeats_means_as_often_as_one_likes():
    assert counted(0, frozenset({"event-1", "event-2"}), "event-3")


def test_the_window_is_value_times_unit():
    terms = read(notification(consentDetail=with_frequency("WEEK", 2, 3))).terms

    assert (terms.most, terms.per_s) == (3, 14 * 24 * 3600)


# -- 9: times --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2023-04-11T08:01:55.554799671", datetime(2023, 4, 11, 8, 1, 55, 554799, tzinfo=UTC)),
        ("2023-04-11T08:01:32.774", datetime(2023, 4, 11, 8, 1, 32, 774000, tzinfo=UTC)),
        ("2023-04-11T08:01:32Z", datetime(2023, 4, 11, 8, 1, 32, tzinfo=UTC)),
        ("2023-04-11T13:31:32.774+05:30", datetime(2023, 4, 11, 8, 1, 32, 774000, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_they_come(written: str, expected: datetime):
    assert read_time(written, "dataEraseAt") == expected


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_is_read_back(moment: datetime):
    assert read_time(moment.isoformat(), "x") == moment


@pytest.mark.parametrize(
    "written",
    [
        None,
        "",
        "2026-W10-1T00:00:00Z",
        "20261201T000000Z",
        17,
        "2026-12-01T24:61:00Z",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_what_is_no_time_is_refused(written: object):
    with pytest.raises(ScopeUnclear):
        read_time(written, "dataEraseAt")


def test_a_window_that_begins_where_it_ends_is_that_day():
    span = {"from": "2026-11-20T08:01:32.774", "to": "2026-11-20T08:01:32.774"}
    body = notification(consentDetail=detail(permission=permission(dateRange=span)))

    assert asked(
        body, content={**LAB, "effectiveDateTime": "2026-11-20T23:00:00+05:30"}
    ).is_permitted
    assert not asked(body, content={**LAB, "effectiveDateTime": "2026-11-21"}).is_permitted


def test_a_window_to_the_end_of_the_calendar_is_open():
    span = {"from": "2026-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}

    assert asked(
        notification(consentDetail=detail(permission=permission(dateRange=span)))
    ).is_permitted


# -- 10: shapes ------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", ["notification", "consent", None])
def test_all_wrappings_are_read(wrap: str | None):
    inner = notification()["notification"]
    body = {wrap: inner} if wrap else inner

    found = read_notification(raw(body))

    assert (found.consent_id, found.status) == (CONSENT_ID, "GRANTED")
    assert asked(body).is_permitted


def test_an_artefact_of_v05_names_the_facility_only():
    body = notification(
        consentDetail=detail(
            schemaVersion=None, hiu=None, requester=None, hip={"id": "IN0000000002", "name": "We"}
        )
    )

    assert asked(body).is_permitted


@pytest.mark.parametrize("name", ["consent_hip_notify_v3", "consent_hip_notify_v05_wireshape"])
def test_the_published_shapes_are_read(name: str):
    file = SHARED / f"{name}.json"
    if not file.exists():
        pytest.skip("needs ../shared/data/abdm")

    found = read_notification(file.read_bytes())

    assert found.detail is not None
    assert found.status == "GRANTED"
    assert read_scope(found.detail).purpose == "CAREMGT"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'"GRANTED"',
        b'{"notification": null}',
        b'{"notification": {"status": "GRANTED"}}',
        b'{"consentId": "1"}',
        b'{"consentId": "1", "status": "REVOKED", "status": "GRANTED"}',
        b'{"consentId": "1", "status": "GRANTED", "consentDetail": []}',
        b'{"consentId": "1", "status": "GRANTED", "consentDetail": {"consentId": "2"}}',
    ],
)
def test_what_is_no_notification_is_refused(body: bytes):
    with pytest.raises(ArtefactUnreadable):
        read_notification(body)


# -- properties ------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)
PLACES = [
    ("notification",),
    ("notification", "consentDetail"),
    ("notification", "consentDetail", "purpose"),
    ("notification", "consentDetail", "permission"),
    ("notification", "consentDetail", "permission", "dateRange"),
    ("notification", "consentDetail", "permission", "frequency"),
]


def within(body: Json, place: Sequence[str]) -> Json:
    for name in place:
        body = body[name]
    return body


@given(
    st.sampled_from(PLACES), st.text(min_size=1, max_size=8), JSON, st.sampled_from(list(UNCLEAR))
)
def test_an_unknown_field_never_permits(place: Sequence[str], name: str, value: object, kind: str):
    body = json.loads(raw(notification(consentDetail=UNCLEAR[kind])))
    try:
        parent = within(body, place)
    except KeyError:
        return
    if name in parent or name in permission() or name in detail() or name in ("from", "to"):
        return
    parent[name] = value

    assert not asked(body).is_permitted


@given(st.sampled_from(PLACES), st.data())
def test_a_field_that_is_gone_or_garbled_never_permits_more(place: Sequence[str], data: Any):
    body = json.loads(raw(notification()))
    parent = within(body, place)
    name = data.draw(st.sampled_from(sorted(parent)))
    garbled = data.draw(JSON)
    outside = creatinine(encounter={"reference": "Encounter/OPD-2"}, effectiveDateTime="2020-01-01")
    parent[name] = garbled

    try:
        decision = asked(body, content=outside, default="deny")
    except ArtefactUnreadable:
        return
    assert not decision.is_permitted


@given(st.permutations(["GRANTED", "GRANTED", "REVOKED"]))
def test_terminal_is_terminal_wherever_it_stands(statuses: list[str]):
    assert not asked(*(notification(status) for status in statuses)).is_permitted
