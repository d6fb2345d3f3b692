"""An incident is told under every heading of DPDP Rule 7; both clocks run from its detection."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import audit, balp
from gateway.core.audit import AgentKind, AuditAgent, Source, Step
from gateway.core.audit_entry import Entry, read_entry
from gateway.core.incident import (
    TO_BE_STATED,
    Incident,
    Scope,
    Statements,
    by_kind,
    by_person,
    over_time,
    patients_of,
)
from gateway.core.incident_pages import MOST_LINES, Papers
from gateway.core.privacy import Contact, Privacy
from gateway.core.step_words import step_in_words

NOTICED = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
START = NOTICED - timedelta(days=1)
TABLET = AuditAgent("c-7", "ward-tablet-7", AgentKind.CLIENT, role="clinician")
HEADINGS = {
    "notice-to-patients.html": (
        "What happened, to what extent, and when",
        "What it may mean for you",
        "What we have done and are doing",
        "What you can do",
        "Whom you can ask",
    ),
    "report-to-board.html": (
        "Nature of the breach",
        "Extent",
        "Timing and location",
        "Likely impact",
        "Broad facts of the events, circumstances and reasons that led to the breach",
        "Measures implemented or proposed to mitigate risk",
        "Findings regarding the person who caused the breach",
        "Remedial measures taken to prevent recurrence",
        "Report on the intimations given to affected Data Principals",
    ),
    "report-to-cert-in.html": ("Type of incident", "Description", "Actions taken", "Logs"),
    "incident.html": ("Affected patients", "Timeline", "Evidence", "Who took part"),
}


def entry(number: int, *, patient: str = "a" * 64, at: datetime = START) -> Entry:
    step = Step(id=f"e{number}", recorded=at, source=Source("nashik", "api"), patient_key=patient)
    record = audit.queried(step, agents=[TABLET], query=f"Observation?patient-key={patient}")
    return read_entry(number, "query", record.body)


def incident(**changed: object) -> Incident:
    entries = [entry(n, patient=f"{n % 3}" * 64, at=START + timedelta(hours=n)) for n in range(6)]
    made = Incident(
        id="2026-004",
        made_at=NOTICED + timedelta(hours=5),
        site="nashik",
        scope=Scope(since=START, until=NOTICED, detected_at=NOTICED),
        statements=Statements(),
        privacy=None,
        entries=entries,
        is_cut=False,
        patients=patients_of(entries),
    )
    return replace(made, **changed)


def papers(made: Incident) -> dict[str, str]:
    return Papers(made, ZoneInfo("Asia/Kolkata")).all()


def test_both_clocks_run_from_the_moment_somebody_became_aware() -> None:
    cert_in, board = incident().deadlines

    assert (cert_in.at, board.at) == (
        NOTICED + timedelta(hours=6),
        NOTICED + timedelta(hours=72),
    )
    assert cert_in.left(NOTICED + timedelta(hours=5, minutes=59)) == "0 h 01 min left"
    assert cert_in.left(NOTICED + timedelta(hours=8)) == "2 h 00 min over"
    assert not board.is_over(NOTICED + timedelta(hours=71, minutes=59))
    assert board.is_over(NOTICED + timedelta(hours=72))


@pytest.mark.parametrize(
    ("paper", "heading"), [(paper, each) for paper, found in HEADINGS.items() for each in found]
)
def test_every_heading_is_there_and_none_is_empty(paper: str, heading: str) -> None:
    text = papers(incident())[paper]

    _, _, after = text.partition(f">{heading}</h")
    assert after, heading
    body = after.partition(">")[2].partition("<h")[0]
    assert len(body) > 20


def test_what_nobody_stated_is_marked_and_what_was_stated_stands_there() -> None:
    silent = papers(incident())["report-to-board.html"]
    said = Statements(
        nature="A tablet was lost.",
        reasons="It was left behind.",
        impact="Values may be known.",
        measures=("It was blocked.",),
        findings="Not known.",
        remedial=("Screens lock.",),
        intimations="By letter.",
    )
    told = papers(incident(statements=said))["report-to-board.html"]

    assert silent.count(TO_BE_STATED) == 8
    assert told.count(TO_BE_STATED) == 1, "only the contact, which the site file would name"
    assert "A tablet was lost." in told


def test_contacts_come_from_the_site_file() -> None:
    privacy = Privacy(
        fiduciary="District Hospital",
        address="Nashik",
        officer=Contact("Dr. K", "dpo@h.example"),
        incident=Contact("R. P", phone="+91 1"),
    )
    made = papers(incident(privacy=privacy))

    assert "Dr. K, dpo@h.example" in made["notice-to-patients.html"]
    assert "R. P, +91 1" in made["report-to-cert-in.html"]


def test_times_are_of_the_hospital_and_of_utc_but_plain_for_patients() -> None:
    made = papers(incident())

    assert "25 Nov 2026 13:30 IST (25 Nov 08:00 UTC)" in made["incident.html"]
    assert "25 November 2026, 13:30" in made["notice-to-patients.html"]
    assert "UTC" not in made["notice-to-patients.html"]


def test_nothing_that_is_stated_becomes_markup() -> None:
    bad = Statements(nature="<script>alert(1)</script>")

    for text in papers(incident(statements=bad)).values():
        assert "<script>" not in text


def test_it_occurred_when_the_first_step_was_and_not_when_the_search_begins() -> None:
    made = incident(
        scope=Scope(since=START - timedelta(days=300), until=NOTICED, detected_at=START)
    )

    assert made.occurred == START
    assert "<dd>24 Nov 2026 13:30 IST" in papers(made)["report-to-cert-in.html"]
    assert not made.doubt


def test_who_was_aware_before_anything_happened_is_asked_about() -> None:
    early = Scope(since=START, until=NOTICED, detected_at=START - timedelta(hours=1))

    made = incident(scope=early)

    assert "before the first step on record" in made.doubt
    assert "before the first step on record" in papers(made)["incident.html"]


def test_papers_for_people_outside_have_no_word_of_a_machine() -> None:
    entries = [replace(entry(n), event=event) for n, event in enumerate(balp.ACTIVITIES)]
    made = papers(incident(entries=[*entries, replace(entry(90), event="infer")]))

    for name in ("report-to-cert-in.html", "report-to-board.html", "notice-to-patients.html"):
        for event in ("infer", "forbid", "consent-record", "break-glass-review"):
            assert not re.search(rf">\s*{event}\s*<", made[name]), (name, event)
    assert "a model computed with data" in made["report-to-cert-in.html"]


@pytest.mark.parametrize(
    "event", [*balp.ACTIVITIES, "receive", "deliver", "read", "query", "fetch", "retract"]
)
def test_every_step_has_words(event: str) -> None:
    names = {"credential-add": "credential", "credential-revoke": "credential"}
    names |= {"model-register": "model", "model-retire": "model"}
    event = names.get(event, event)

    assert step_in_words(event) != event.replace("-", " ")


def test_a_long_timeline_is_cut_in_the_middle_and_says_so() -> None:
    entries = [entry(n, at=START + timedelta(seconds=n)) for n in range(MOST_LINES + 50)]

    text = papers(incident(entries=entries))["incident.html"]

    assert "50 between them are in the evidence" in text
    assert text.count("query, done") == MOST_LINES


def test_patients_people_and_steps_are_counted() -> None:
    made = incident()

    assert list(made.patients.values()) == [2, 2, 2]
    assert by_kind(made.entries) == [("query", "done", 6)]
    assert by_person(made.entries) == [("ward-tablet-7", "c-7", 6, 3)]


@given(
    offsets=st.lists(st.integers(0, 86_399), max_size=40),
    hours=st.integers(24, 24 * 400),
)
def test_no_step_is_lost_when_counted_over_time(offsets: list[int], hours: int) -> None:
    entries = [entry(n, at=START + timedelta(seconds=s)) for n, s in enumerate(offsets)]

    counts = over_time(entries, START, START + timedelta(hours=hours))

    assert sum(count for _, count in counts) == len(entries)
    assert 1 <= len(counts) <= 97
