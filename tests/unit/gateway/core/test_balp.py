"""BALP's rules against its 46 published examples, spoilt examples, and everything we write."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.audit import AuditRecord
from tests import balp
from tests.unit.gateway.core.test_audit import RECORDS, body_of

EXAMPLES = balp.published_examples()
needs_examples = pytest.mark.skipif(not EXAMPLES, reason="no BALP examples beside the repository")

Spoil = Callable[[Any], None]


@needs_examples
def test_all_46_published_examples_keep_the_rules() -> None:
    assert len(EXAMPLES) == 46
    assert [(name, broken) for name, e in EXAMPLES.items() if (broken := balp.violations(e))] == []


@needs_examples
def test_the_examples_claim_every_profile_that_there_is_a_rule_for() -> None:
    claimed = {name for event in EXAMPLES.values() for name in balp.claimed(event)}

    assert claimed == set(balp.RULES)


def _no_patient(event: Any) -> None:
    event["entity"] = [e for e in event["entity"] if e["type"].get("code") != "1"]


def _nothing_but_patient(event: Any) -> None:
    event["entity"] = [e for e in event["entity"] if e["type"].get("code") == "1"]


def _unnamed_entities(event: Any) -> None:
    for entity in event["entity"]:
        entity.pop("what", None)
        entity.pop("query", None)


def _no_agents(event: Any) -> None:
    del event["agent"]


def _no_machine(event: Any) -> None:
    event["agent"] = [a for a in event["agent"] if "network" not in a]


def _no_network(event: Any) -> None:
    for agent in event["agent"]:
        agent.pop("network", None)


def _repeated_agents(event: Any) -> None:
    event["agent"] = [*event["agent"], *event["agent"]]


def _other_action(event: Any) -> None:
    event["action"] = "X"


def _no_subtype(event: Any) -> None:
    event["subtype"] = []


def _no_observer(event: Any) -> None:
    del event["source"]["observer"]


_ALWAYS: tuple[Spoil, ...] = (_other_action, _no_agents, _no_observer)
_RESTFUL: tuple[Spoil, ...] = (
    *_ALWAYS,
    _no_machine,
    _no_network,
    _repeated_agents,
    _no_subtype,
    _nothing_but_patient,
    _unnamed_entities,
)
_INTERACTIONS = ("Create", "Read", "Update", "Delete", "Query")


def _spoilt() -> list[Any]:
    cases = []
    for name, event in EXAMPLES.items():
        for profile in balp.claimed(event):
            short = profile.removeprefix("IHE.BasicAudit.")
            spoils: tuple[Spoil, ...] = _ALWAYS
            if short.removeprefix("Patient") in _INTERACTIONS or short == "AuthZconsent":
                spoils = _RESTFUL
            if short.startswith("Patient") or short == "AuthZconsent":
                spoils = (*spoils, _no_patient)
            cases += [
                pytest.param(event, spoil, id=f"{name[16:-5]}{spoil.__name__}") for spoil in spoils
            ]
    return cases


@needs_examples
@pytest.mark.parametrize(("event", "spoil"), _spoilt())
def test_a_spoilt_example_breaks_the_rules(event: Any, spoil: Spoil) -> None:
    spoilt = copy.deepcopy(event)

    spoil(spoilt)

    assert balp.violations(spoilt)


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_everything_that_is_recorded_keeps_the_rules_of_the_profile_it_claims(
    record: AuditRecord,
) -> None:
    assert balp.violations(body_of(record)) == []


def test_a_failure_never_claims_a_profile_that_stands_for_success() -> None:
    failed = [body_of(r) for r in RECORDS.values() if r.outcome != "0" and r.event != "consent"]

    assert failed
    assert [balp.claimed(event) for event in failed] == [[]] * len(failed)
