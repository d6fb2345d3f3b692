"""The key `retention`: floors refuse what is too short unless a law is named."""

import pytest
from pydantic import ValidationError

from adapters.site_retention import RetentionEntry
from gateway.core.retention import DAY_MS, TERMS, AfterErasure, Retention, RetentionClass


def entry(**rules: object) -> RetentionEntry:
    return RetentionEntry.model_validate(rules)


@pytest.mark.parametrize("name", list(RetentionClass))
def test_below_its_floor_a_class_is_refused_and_the_source_is_named(name: RetentionClass) -> None:
    floor = max(each.days for each in TERMS[name].floors)

    with pytest.raises(ValidationError, match="DPDP Rules 2025"):
        entry(**{name.value: {"days": floor - 1}})

    assert entry(**{name.value: {"days": floor}}).retention().rules[name].days == floor


@pytest.mark.parametrize("name", list(RetentionClass))
def test_a_stated_law_lets_it_be_shorter(name: RetentionClass) -> None:
    law = "A State's Clinical Establishments Rules, 9(2)"

    rule = entry(**{name.value: {"days": 30, "law": law}}).retention().rules[name]

    assert (rule.days, rule.law) == (30, law)


@pytest.mark.parametrize("name", list(RetentionClass))
def test_what_is_shorter_by_a_stated_law_is_warned_of(name: RetentionClass) -> None:
    floor = max(each.days for each in TERMS[name].floors)
    law = "because I say so"

    [says] = entry(**{name.value: {"days": 1, "law": law}}).retention().shortened

    assert says.startswith(f"retention: {name.value} are kept 1 days")
    assert law in says
    assert not entry(**{name.value: {"days": floor, "law": law}}).retention().shortened


def test_every_class_that_is_too_short_is_named_beside_other_problems() -> None:
    with pytest.raises(ValidationError) as caught:
        entry(payloads={"days": 1}, results={"days": 2}, backup_days=-1)

    places = [each["loc"] for each in caught.value.errors()]
    assert places == [("payloads",), ("results",), ("backup_days",)]


def test_the_defaults_are_at_or_above_every_floor() -> None:
    assert entry().retention().rules == Retention().rules
    for terms in TERMS.values():
        assert all(terms.default_days >= floor.days for floor in terms.floors)


def test_nothing_is_in_force_where_the_site_is_silent() -> None:
    assert not Retention().is_in_force
    assert entry().retention().is_in_force


def test_what_becomes_of_an_erased_patient_is_read() -> None:
    assert entry().after_erasure is AfterErasure.REFUSE
    assert entry(after_erasure="afresh").retention().after_erasure is AfterErasure.AFRESH


def test_time_is_over_to_the_millisecond() -> None:
    day_400 = 400 * DAY_MS

    assert Retention().before_ms(RetentionClass.PAYLOADS, day_400) == 35 * DAY_MS
