"""The answers to a compliance officer's questions, made from entries of the log; pure.

A row says what happened once, a group what happened often. Both are JSON, the same for the API and
for `--json`; what is empty is left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.core.audit_entry import SAID, Entry, Party
from gateway.core.audit_rights import ERASURE_SYSTEM, REFUSED_AI

Json = dict[str, object]

#: What a party of an event did with the data. Steps that no party sees data by are left out.
DEEDS = {
    "receive": "sent it",
    "infer": "computed with it",
    "deliver": "got a result",
    "read": "read it",
    "query": "searched it",
    "export": "took a copy",
    "fetch": "was asked for more",
    "break-glass": "broke the glass",
}
#: How data leaves this gateway for somebody else.
DISCLOSING = ("deliver", "read", "query", "export")
#: What somebody outside asked for, rather than what the gateway does of itself.
ACCESSES = (
    *("read", "query", "export", "break-glass", "verify", "forbid", "sign-in-failure"),
    "sender-refuse",
    *("configure", "credential", "model", "break-glass-review", "erase", "hold", "rectify"),
    *("consent-record", "consent-import", "consent-revoke", "request", "sign-off"),
)
#: How a job ends that something was refused to; the denial has an event of its own.
ENDING = ("refuse", "cancel")
#: Steps that one refusal may leave of the same reason, besides how its job ended.
_BEFORE_THE_END = ("consent", "break-glass", "infer", "deliver")
_ENDS = (*ENDING, "fail")
CONFIGURING = ("configure", "credential", "model", "keys", "restore")
BREAKING_GLASS = "break-glass"
REVIEWING_GLASS = "break-glass-review"
#: Detail of both: at which login of the machine it was done, where it was not over the API.
LOGIN = "login"

_WELL = "0"


@dataclass(frozen=True)
class Answer:
    """What a question gives.

    Attributes:
        rows: One for each event, in the order that the question asks for.
        groups: What was counted, where the question counts.
        patients: Keys of the patients that the answer is about.
        last_seq: The event that a full page ends with; None on the last page.
    """

    rows: Sequence[Json] = ()
    groups: Sequence[Json] = ()
    patients: frozenset[str | None] = field(default_factory=frozenset)
    last_seq: int | None = None


def row_of(entry: Entry, *, patient: str | None = None, **more: object) -> Json:
    """Give one event as a row.

    Args:
        entry: The event.
        patient: The patient as the EHR names them, where that may be said.
        more: What else the question tells of it.
    """
    told = {
        "recorded": _instant(entry),
        "event": entry.event,
        "ended": entry.ended,
        "who": [party.name for party in entry.doers],
        "what": entry.what,
        "why": entry.reason,
        "purpose": entry.purpose,
        "consents": list(entry.consents),
        "patient": patient,
        "model": entry.model,
        "result": entry.result,
        "job": entry.job_id,
        "id": entry.id,
        "seq": entry.seq,
        **more,
    }
    return {name: value for name, value in told.items() if value not in (None, "", [])}


def lifted(entries: Iterable[Entry]) -> dict[str, str]:
    """Say by the consent's id what it was that may have been taken back.

    Args:
        entries: What is on record of a patient's consents and of her erasures.
    """
    found = {}
    for each in entries:
        if each.event == "consent-record" and each.consents:
            found[each.consents[0]] = SAID.get(each.facts.get("decision", ""), "consent")
        elif each.event == "consent-import" and each.consents:
            found[each.consents[0]] = "imported consent"
        elif REFUSED_AI in each.facts:
            kept = f"{SAID['ai-opt-out']} (kept at her erasure)"
            found[f"Consent/{each.names[ERASURE_SYSTEM]}"] = kept
    return found


def told_of_consent(entry: Entry, what: Mapping[str, str]) -> Json:
    """Give what else is told of a step about a consent: all its facts; if taken back, which.

    Args:
        entry: Any step.
        what: What `lifted` gave.
    """
    if not entry.event.startswith("consent-"):
        return {}
    told: Json = {"facts": dict(entry.facts)}
    if entry.event == "consent-revoke" and entry.consents:
        told["what"] = f"{what.get(entry.consents[0], 'consent')} taken back"
    return told


def who_saw(entries: Iterable[Entry]) -> list[Json]:
    """Say who or what had to do with data, the latest first.

    Args:
        entries: What is on record about it, in any order.
    """
    known: dict[str, list[tuple[Party, Entry]]] = {}
    for each in sorted(entries, key=lambda entry: (entry.at, entry.seq)):
        if each.event in DEEDS:
            for party in each.doers:
                known.setdefault(party.identifier, []).append((party, each))
    found = [_seen(deeds[-1][0], [each for _, each in deeds]) for deeds in known.values()]
    return sorted(found, key=lambda line: str(line["last"]), reverse=True)


def _seen(party: Party, entries: Sequence[Entry]) -> Json:
    well = [each for each in entries if each.outcome == _WELL]
    told: Json = {
        "who": party.name,
        "id": party.identifier,
        "role": party.role,
        "did": sorted({DEEDS[each.event] for each in well}),
        "tried": sorted({DEEDS[each.event] for each in entries if each.outcome != _WELL}),
        "times": len(well),
        "refused": len(entries) - len(well),
        "purposes": sorted({each.purpose for each in entries if each.purpose}),
        "first": _instant(entries[0]),
        "last": _instant(entries[-1]),
    }
    return {name: value for name, value in told.items() if value not in ("", [])}


def disclosure(entry: Entry, *, purposes: Mapping[str, str]) -> Json:
    """Give one disclosure: when, to whom, what and why.

    Args:
        entry: An event by which data left, see `DISCLOSING`.
        purposes: For what each job's result was permitted to leave.
    """
    job = entry.job_id or ""
    return row_of(
        entry,
        to=[party.name for party in entry.doers],
        purpose=entry.purpose or purposes.get(job),
        why=_why(entry, purposes.get(job, "")),
    )


def review_of(use: Entry, review: Entry | None) -> Json:
    """Say what a second person found of a use of break-glass.

    Args:
        use: The use.
        review: The event that closed its review; None while it is open.
    """
    if use.outcome != _WELL:
        return {"state": "not needed: nothing was run"}
    if review is None:
        return {"state": "open"}
    told: Json = {
        "state": "closed",
        "verdict": review.facts.get("verdict", ""),
        "by": [party.name for party in review.doers],
        "recorded": _instant(review),
    }
    login = use.facts.get(LOGIN)
    if login and login == review.facts.get(LOGIN):
        # Whoever has that login can read both credentials there: it may have been one person.
        told["same_login"] = login
    return told


def _why(entry: Entry, purpose: str) -> str:
    if entry.event == "deliver":
        return f"result of a model, purpose {purpose}" if purpose else "result of a model"
    roles = sorted({party.role for party in entry.doers if party.role})
    asked = f"asked for it as {', '.join(roles)}" if roles else "asked for it"
    return f"{asked}, purpose {entry.purpose}" if entry.purpose else asked


def counted(refusals: Iterable[tuple[str, str, int, str]]) -> list[Json]:
    """Give refusals by reason, the most frequent first.

    One refusal leaves several events of the same reason: the denial, and the job that ended by it.
    These count as often as the one that is there most often; whatever else was refused for the
    same reason is added. What gave no reason is told by what it was.

    Args:
        refusals: Event, reason, how often, and when last (ISO 8601).
    """
    steps: dict[tuple[str, str], dict[str, int]] = {}
    latest: dict[tuple[str, str], str] = {}
    for event, reason, times, last in refusals:
        group = reason, "" if reason else event
        steps.setdefault(group, {})[event] = times
        latest[group] = max(last, latest.get(group, ""))
    found: list[Json] = [
        {"why": group[0], "times": _times(by), "steps": by, "last": latest[group]}
        for group, by in steps.items()
    ]
    return sorted(found, key=lambda line: (-int(str(line["times"])), str(line["why"])))


def _times(steps: Mapping[str, int]) -> int:
    """Say how many refusals left these steps."""
    ended = sum(steps.get(each, 0) for each in _ENDS)
    chain = max(ended, *(steps.get(each, 0) for each in _BEFORE_THE_END))
    known = (*_ENDS, *_BEFORE_THE_END)
    return chain + sum(times for each, times in steps.items() if each not in known)


def _instant(entry: Entry) -> str:
    return entry.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
