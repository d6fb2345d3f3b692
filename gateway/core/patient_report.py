"""A patient's own report: in plain words, what was done with her data, by whom, and what to do.

It is made from the audit log and from the results that are kept; as HTML here, as PDF in
`gateway.api.patient_report_pdf`. Both say the same, from the same `Sheet`s.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, tzinfo

from gateway.core.audit_answers import DEEDS, Json
from gateway.core.page import Markup, card, cards, facts, grid, page, section, tag, when
from gateway.core.privacy import Privacy
from gateway.core.purposes import without_codes

TITLE = "How your data was used"
INTRODUCTION = (
    "The hospital runs computer models (AI) that read results from your record and suggest a "
    "finding to your doctors. This report says which data came in, what the models said, when "
    "they were not allowed to run, who looked, and what you can do. A model's finding is a "
    "suggestion: your doctor decides."
)
_REFERENCE = re.compile(r"\bConsent/[A-Za-z0-9.-]*[A-Za-z0-9]")
_SENTENCE = re.compile(r"(?<=\.) (?=your consent: )")
_ROUTE = "the route's default is"
#: Deeds of `audit_answers.DEEDS` as she is told them, and as what was tried in vain.
_SENT = frozenset({DEEDS["receive"]})
_TO_HER = {DEEDS["break-glass"]: "used it in an emergency without your consent"}
_TRIED = {
    DEEDS["infer"]: "to compute with it",
    DEEDS["deliver"]: "to get a result",
    DEEDS["read"]: "to read it",
    DEEDS["query"]: "to search it",
    DEEDS["export"]: "to take a copy",
    DEEDS["fetch"]: "to give more of it",
    DEEDS["break-glass"]: "to use it in an emergency without your consent",
}


@dataclass(frozen=True)
class Sent:
    """What one system sent."""

    system: str
    what: str
    first: datetime
    last: datetime


@dataclass(frozen=True, kw_only=True)
class Said:
    """One thing that she, or somebody for her, permitted or refused.

    Attributes:
        what: What it says, in words.
        at: When it was recorded here.
        by: Who recorded it, or which system sent it.
        giver: Who said it in her place, in a sentence; empty where she did.
        starts: When it begins to hold; None where it has no beginning.
        until: When it ends; None while it has no end.
        is_known: Whether what it says is still kept.
        ended_at: When it was taken back or replaced; None where it was not, or nobody can tell.
        ended: What became of it, in words that a time and `ended_by` may follow; empty while it
            holds.
        ended_by: Who did that.
        why: The reason that was given for taking it back.
    """

    what: str
    at: datetime
    by: str
    giver: str = ""
    starts: datetime | None = None
    until: datetime | None = None
    is_known: bool = True
    ended: str = ""
    ended_at: datetime | None = None
    ended_by: str = ""
    why: str = ""


@dataclass(frozen=True)
class Attempt:
    """One time that somebody asked for an emergency use, and was refused."""

    at: datetime
    who: str
    why_not: str


@dataclass(frozen=True)
class Run:
    """One time that a model ran, or was not allowed to.

    Attributes:
        says: What it said, in words; empty when it said nothing.
        became: What became of that.
        why_not: Why there is no result; empty when there is one.
    """

    at: datetime
    model: str
    says: str
    became: str
    why_not: str


@dataclass(frozen=True)
class Decided:
    """What a rule decided how often."""

    verdict: str
    purpose: str
    why: str
    times: int


@dataclass(frozen=True, kw_only=True)
class PatientReport:
    """Everything that the report tells.

    Attributes:
        reference: How the record system names the patient.
        seen: Who had to do with the data, as `audit_answers.who_saw` gives it.
        zone: Time zone in which times are shown.
        erased_at: When what was held of her was erased; None where it is held.
    """

    made_at: datetime
    reference: str
    site: str
    zone: tzinfo
    privacy: Privacy | None
    said: Sequence[Said] = ()
    sent: Sequence[Sent]
    runs: Sequence[Run]
    attempts: Sequence[Attempt] = ()
    decided: Sequence[Decided]
    seen: Sequence[Json]
    erased_at: datetime | None = None


@dataclass(frozen=True)
class Sheet:
    """One part of the report: a heading, a sentence, a table.

    Attributes:
        widths: Of the columns, relative.
        otherwise: What stands there when there are no rows.
    """

    title: str
    about: str
    columns: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    rows: Sequence[Sequence[str]] = field(default_factory=tuple)
    otherwise: str = ""


def without_ids(text: str) -> str:
    """Take ids and codes out of a reason: a patient knows her consent, not its number.

    What several of her consents say alike is told once.
    """
    plain = _REFERENCE.sub("your consent", text).replace(_ROUTE, "the hospital's rule is then")
    return " ".join(dict.fromkeys(_SENTENCE.split(without_codes(plain))))


def introduction(report: PatientReport) -> str:
    """Say what the report is, and that the data is gone where it is."""
    if report.erased_at is None:
        return INTRODUCTION
    day = report.erased_at.astimezone(report.zone).strftime("%-d %B %Y")
    return (
        f"Your data was erased from this system on {day}. What is left is the log of what was done "
        f"with it before, which names you by a code only. {INTRODUCTION}"
    )


def head(report: PatientReport) -> str:
    """Give the line under the title."""
    name = report.privacy.fiduciary if report.privacy else report.site
    made = report.made_at.astimezone(report.zone).strftime("%-d %B %Y, %H:%M %Z")
    return f"{name} · {report.reference} · drawn up {made}"


def numbers(report: PatientReport) -> list[tuple[str, str]]:
    """Give the numbers to be seen from afar."""
    said = sum(1 for run in report.runs if not run.why_not)
    return [
        (str(len(report.sent)), "systems sent data"),
        (str(said), "AI findings"),
        (str(len(report.runs) - said + len(report.attempts)), "refused"),
        (str(len(_lookers(report))), "saw it, or tried to"),
    ]


def sheets(report: PatientReport) -> list[Sheet]:
    """Give the parts of the report, in order."""
    return [
        _permitted(report),
        _sent(report),
        _found(report),
        _refused(report),
        _consents(report),
        _seen(report),
    ]


_OBJECT = (
    "You may refuse that AI uses your data, or take a consent back, at any time and without a "
    "reason. Tell the hospital; it takes effect at once for every model."
)
_CORRECT = (
    "If something is wrong, ask for it to be corrected. You may also ask for the data kept by this "
    "system to be erased; your medical record stays with the hospital."
)
_CHECK = (
    "Everything here is in a log that nobody can change unnoticed. Ask the hospital for the "
    "receipts (nadi audit prove) and its public key: anybody can check them with the program "
    "verify_receipt.py, without trusting the hospital."
)


def advice(report: PatientReport) -> list[tuple[str, str]]:
    """Give what the patient can do: what it is about, and how."""
    told = [("Object", _OBJECT)]
    if report.erased_at is None:
        told.append(("Correct or erase", _CORRECT))
    if report.privacy:
        told.append(("Ask", report.privacy.officer.line))
        told.append(("Complain", report.privacy.complaints.line))
    return [*told, ("Check", _CHECK)]


def as_json(report: PatientReport) -> Json:
    """Give the report for machines: what it is made of, times in UTC."""
    erased = report.erased_at
    return {
        "format": "nadi-patient-report-1",
        "made_at": report.made_at,
        "patient": report.reference,
        "site": report.site,
        "said": [asdict(each) for each in report.said],
        "sent": [asdict(each) for each in report.sent],
        "runs": [asdict(each) for each in report.runs],
        "attempts": [asdict(each) for each in report.attempts],
        "decided": [asdict(each) for each in report.decided],
        "seen": list(report.seen),
        "erased_at": erased,
    }


def as_html(report: PatientReport) -> str:
    """Give the report as a page."""
    return page(
        TITLE,
        tag("h1", TITLE),
        tag("p", head(report), kind="lead"),
        tag("p", introduction(report)),
        cards(*(card(number, meaning) for number, meaning in numbers(report))),
        *(_part(each) for each in sheets(report)),
        section("What you can do", facts(dict(advice(report)))),
        tag("p", "The making of this report is itself on record.", kind="foot"),
    )


def _part(sheet: Sheet) -> Markup:
    if not sheet.rows:
        return section(sheet.title, tag("p", sheet.otherwise))
    return section(sheet.title, tag("p", sheet.about), grid(sheet.columns, _unbroken(sheet)))


def _unbroken(sheet: Sheet) -> list[list[str]]:
    """Keep times on one line."""
    times = {number for number, name in enumerate(sheet.columns) if name in ("When", "Last")}
    return [
        [when(cell) if number in times else cell for number, cell in enumerate(row)]
        for row in sheet.rows
    ]


def _permitted(report: PatientReport) -> Sheet:
    rows = [
        (
            f"{each.what}. {each.giver}" if each.giver else each.what,
            _when(report, each.at),
            each.by,
            _until(report, each),
            _now(report, each),
        )
        for each in report.said
    ]
    return Sheet(
        "What you permitted and refused",
        "Everything on record that you, or somebody for you, said about the use of your data. If "
        "something here is not what you said, or was taken back without you, tell the hospital.",
        ("What you said", "When", "Recorded by", "Until", "Now"),
        (5, 4, 4, 4, 5),
        rows,
        "Nothing that you said about the use of your data is on record.",
    )


def _until(report: PatientReport, said: Said) -> str:
    if said.until is not None:
        return _when(report, said.until)
    return "no end" if said.is_known else "not known"


def _now(report: PatientReport, said: Said) -> str:
    """Say whether it holds, or what became of it, when and by whom."""
    if said.ended:
        at = f" on {_when(report, said.ended_at)}" if said.ended_at else ""
        by = f" by {said.ended_by}" if said.ended_by else ""
        return f"{said.ended}{at}{by}{f': {said.why}' if said.why else ''}"
    if said.until is not None and said.until <= report.made_at:
        return "over"
    is_to_come = said.starts is not None and said.starts > report.made_at
    return f"begins on {_when(report, said.starts)}" if said.starts and is_to_come else "holds"


def _sent(report: PatientReport) -> Sheet:
    rows = [(each.system, each.what, _span(report, each.first, each.last)) for each in report.sent]
    return Sheet(
        "Where the data came from",
        "These systems of the hospital sent data about you.",
        ("System", "What it sent", "When"),
        (3, 6, 4),
        rows,
        "No system sent data about you.",
    )


def _found(report: PatientReport) -> Sheet:
    rows = [
        (_when(report, each.at), each.model, each.says, each.became)
        for each in report.runs
        if not each.why_not
    ]
    return Sheet(
        "What AI said",
        "Each time that a model ran on your data, what it said, and where that went.",
        ("When", "Model", "What it said", "What became of it"),
        (4, 4, 7, 4),
        rows,
        "No model has computed anything from your data.",
    )


def _refused(report: PatientReport) -> Sheet:
    refused = [(each.at, each.model, each.why_not) for each in report.runs if each.why_not]
    refused += [
        (each.at, f"emergency use, asked for by {each.who}", each.why_not)
        for each in report.attempts
    ]
    refused.sort(key=lambda row: row[0], reverse=True)
    return Sheet(
        "What was refused, and why",
        "Each time that a model was not allowed to run, or could not.",
        ("When", "What", "Why"),
        (4, 4, 9),
        [(_when(report, at), what, why) for at, what, why in refused],
        "Nothing was refused.",
    )


def _consents(report: PatientReport) -> Sheet:
    rows = [(each.verdict, each.purpose, each.why, str(each.times)) for each in report.decided]
    return Sheet(
        "What your consent decided",
        "Before a model runs, and again before its finding is written, your consent is asked.",
        ("Answer", "Use for", "Because", "Times"),
        (2, 3, 9, 2),
        rows,
        "Your consent was never asked, since nothing was to be used.",
    )


def _seen(report: PatientReport) -> Sheet:
    rows = [
        (str(line["who"]), _deeds(line), str(_times(line)), _last(report, line))
        for line in _lookers(report)
    ]
    return Sheet(
        "Who saw your data, or tried to",
        "People, systems and models that had to do with it, the latest first.",
        ("Who", "What they did", "Times", "Last"),
        (6, 5, 2, 4),
        rows,
        "Nobody but the systems that sent it.",
    )


def _lookers(report: PatientReport) -> list[Json]:
    """Leave out who only sent data, well or not."""
    return [line for line in report.seen if {*_texts(line, "did"), *_texts(line, "tried")} - _SENT]


def _deeds(line: Json) -> str:
    """Say what somebody did, and what they tried in vain."""
    told = [_TO_HER.get(each, each) for each in _texts(line, "did")]
    tried = [_TRIED[each] for each in _texts(line, "tried") if each in _TRIED]
    if tried:
        told.append(f"tried {' and '.join(tried)}, in vain")
    return ", ".join(told)


def _times(line: Json) -> int:
    return int(str(line["times"])) + int(str(line["refused"]))


def _texts(line: Json, name: str) -> list[str]:
    values = line.get(name, ())
    return [str(each) for each in values] if isinstance(values, Iterable) else []


def _last(report: PatientReport, line: Json) -> str:
    return _when(report, datetime.fromisoformat(str(line["last"])))


def _span(report: PatientReport, first: datetime, last: datetime) -> str:
    begins, ends = (each.astimezone(report.zone).strftime("%-d %b %Y") for each in (first, last))
    return begins if begins == ends else f"{begins} to {ends}"


def _when(report: PatientReport, at: datetime) -> str:
    return at.astimezone(report.zone).strftime("%-d %b %Y %H:%M %Z")
