"""The cards that a hook is answered by: a result, a reasoned refusal, or that a result follows.

* Every card says that an AI made it, which model in which version, how sure it is, and what the
  model is not for; a program finds the same in its extension.
* `info` is the rule, `warning` where the model calls its own answer high or abnormal; never
  `critical`: no model of ours may interrupt somebody by force.
* A result that is not there yet and one that consent forbids give the same card, to the letter.

Source: CDS Hooks 2.0, "Card Attributes"; HL7 AI Transparency on FHIR (STU1 ballot).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any

from gateway.core.findings import Report
from gateway.core.result_terms import AI_CONFIDENCE, AIAST
from models.manifest import percent

#: Key of what programs read; reverse DNS, as the standard asks of extensions.
EXTENSION = "health.nadi.ai"
#: Code system of why a card was overridden.
REASON_SYSTEM = "https://nadi.health/fhir/CodeSystem/cds-override-reason"
REASONS: Mapping[str, str] = {
    "already-known": "Already known",
    "not-relevant": "Not relevant here",
    "disagree": "I judge it otherwise",
    "inputs-wrong": "It rests on wrong or old values",
    "patient-declines": "The patient declines",
}
_MOST_SUMMARY = 139
_PARAGRAPH = re.compile(r"<p>(.*?)</p>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~])")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_DEMONSTRATION = " Demonstration only."
_ALARMING = frozenset({"H", "HH", "L", "LL", "A", "AA", "POS"})


@dataclass(frozen=True)
class ModelShown:
    """A model as a card names it.

    Attributes:
        about: Address of the page about it.
        limits: What it is not for, and whether it is a demonstration only.
    """

    title: str
    version: str
    manufacturer: str
    is_demonstration: bool
    limits: str
    about: str

    @property
    def named(self) -> str:
        """Its title and version."""
        return f"{self.title} {self.version}"


def result_card(uuid: str, model: ModelShown, report: Report) -> dict[str, Any]:
    """Show a result.

    Args:
        uuid: Of the card.
        model: Who made it.
        report: The result.
    """
    first, *others = _paragraphs(report.result)
    certainty = _certainty(report.observation)
    more = {
        "status": report.result.get("status"),
        "resultIdentifier": report.identifier,
        "resourceType": report.result["resourceType"],
        **certainty,
    }
    lines = [f"**{_plain(first)}**", *map(_plain, others)]
    lines += [f"{name.capitalize()}: {percent(value)} %." for name, value in certainty.items()]
    return {
        **_card(uuid, model, _in_short(first, model), lines, more),
        "indicator": _indicator(report.observation),
        "overrideReasons": [
            {"system": REASON_SYSTEM, "code": code, "display": words}
            for code, words in REASONS.items()
        ],
    }


def refused_card(uuid: str, model: ModelShown, reason: str) -> dict[str, Any]:
    """Say that the model was not asked, and why.

    Args:
        uuid: Of the card.
        model: That was not asked.
        reason: For people; without any value.
    """
    lines = [f"**{_plain(model.title)} (AI) gives no result.**", _plain(reason), *_limits(model)]
    return _card(uuid, model, f"{model.title} (AI): no result", lines, {"status": "refused"})


def waiting_card(model: ModelShown) -> dict[str, Any]:
    """Say that there is nothing to show; the same whatever the reason is.

    It has no uuid: there is nothing to be accepted or overridden, and one that stays or changes
    would tell whether there is a job.
    """
    said = (
        "There is no result to show now. If there is one for this patient, it appears in the "
        "chart; opening the chart again asks anew."
    )
    lines = [f"**{_plain(model.title)} (AI): a result may follow.**", said, *_limits(model)]
    return _card(None, model, f"{model.title} (AI): a result may follow", lines, {"status": "none"})


def _limits(model: ModelShown) -> list[str]:
    return [_plain(f"Made by AI ({model.named})."), _plain(model.limits)]


def _card(
    uuid: str | None, model: ModelShown, summary: str, lines: Sequence[str], more: Mapping[str, Any]
) -> dict[str, Any]:
    facts = {
        "aiGenerated": True,
        "security": [AIAST],
        "model": model.title,
        "version": model.version,
        "demonstrationOnly": model.is_demonstration,
    }
    return {
        **({"uuid": uuid} if uuid else {}),
        "summary": _shortened(summary),
        "detail": "\n\n".join(line for line in lines if line),
        "indicator": "info",
        "source": {"label": f"Nadi: {model.named}, AI by {model.manufacturer}", "url": model.about},
        "links": [{"label": "About this model", "url": model.about, "type": "absolute"}],
        "extension": {EXTENSION: {**facts, **more}},
    }


def _in_short(finding: str, model: ModelShown) -> str:
    """Give the first sentence of a finding; that it is an AI's, and a demonstration, stays in."""
    head = _SENTENCE_END.split(finding, maxsplit=1)[0]
    short = head if "(AI" in head else f"AI: {head}"
    if model.is_demonstration and "emonstration" not in short:
        return f"{_shortened(short, _MOST_SUMMARY - len(_DEMONSTRATION))}{_DEMONSTRATION}"
    return short


def _shortened(text: str, most: int = _MOST_SUMMARY) -> str:
    if len(text) <= most:
        return text
    return f"{text[: most - 1].rsplit(' ', 1)[0]}…"


def _paragraphs(result: Mapping[str, Any]) -> list[str]:
    """Give the paragraphs of the narrative that `result_text` wrote."""
    found = _PARAGRAPH.findall(result["text"]["div"])
    return [unescape(_TAG.sub("", each)) for each in found]


def _plain(text: str) -> str:
    """Write a text so that Markdown shows it as it is."""
    return _MARKDOWN.sub(r"\\\1", text)


def _certainty(observation: Mapping[str, Any]) -> dict[str, float]:
    """Give how sure the model is of its class, or the probability that is its answer."""
    for each in observation.get("extension") or ():
        if each.get("url") == AI_CONFIDENCE:
            return {"confidence": float(each["valueDecimal"])}
    quantity = observation.get("valueQuantity") or {}
    is_probability = quantity.get("code") == "{probability}"
    return {"probability": float(quantity["value"])} if is_probability else {}


def _indicator(observation: Mapping[str, Any]) -> str:
    codes = {
        coding.get("code")
        for holder in (observation, *(observation.get("component") or ()))
        for concept in holder.get("interpretation") or ()
        for coding in concept.get("coding") or ()
    }
    return "warning" if codes & _ALARMING else "info"
