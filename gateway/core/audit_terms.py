"""What an AuditEvent is found by, besides its patient, its job, its kind and its time.

A term is `kind:value`:

* `agent:<id>` for each agent but our own process and the site, which stand in every event;
* `purpose:<code>` for each purpose of use that an agent names;
* `model:`, `result:`, `resource-key:`, `credential:` and `site:` for an entity of that identifier,
  and `digest:` for the SHA-256 of a model, which tells its version exactly;
* `type:` and `subtype:` for each code of them, but for those that nearly every event has;
* `refused:<event>:<reason>` where it did not end well, so that refusals can be counted by reason;
  without the ids of resources, since each patient's Consent would else be a reason of its own.

The store keeps the terms of each event beside it. They can be read out of its body again, and
`nadi audit verify` compares them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.core import balp

#: Longest reason that refusals are counted by; what comes after it stands in the event alone.
REASON_LENGTH = 200

_SID = f"{balp.NADI}/sid/"
_ENTITIES = frozenset({"model", "digest", "result", "resource-key", "credential", "site"})
_MODEL = f"{_SID}model"
_DIGEST = f"{_SID}digest"
#: Codes of type and subtype that too many events have for a term to help.
USUAL_CODES = frozenset(
    {"rest", "110100", "110113", "create", "update", "read", "search", "AuthZ-Consent"}
)

_WELL = "0"
_REFERENCE = re.compile(r"\b([A-Z][A-Za-z]+)/[A-Za-z0-9.-]*[A-Za-z0-9]")
_TYPE = r"\1"


def agent_term(identifier: str) -> str:
    """Give the term of an agent's events."""
    return f"agent:{identifier}"


def purpose_term(code: str) -> str:
    """Give the term of the events that name a purpose of use."""
    return f"purpose:{code}"


def code_terms(kind: str, codings: Iterable[Mapping[str, str]]) -> frozenset[str]:
    """Give the terms of codings that an event is found by; our own name of it has a column.

    Args:
        kind: `type` or `subtype`.
        codings: Those of the event.
    """
    return frozenset(
        f"{kind}:{each['code']}"
        for each in codings
        if each["code"] not in USUAL_CODES and each["system"] != balp.EVENT_SYSTEM
    )


def entity_term(system: str, value: str) -> str | None:
    """Give the term of the events about an entity; None when such entities have none."""
    kind = system.removeprefix(_SID)
    return f"{kind}:{value}" if kind in _ENTITIES else None


def refusal_of(term: str) -> tuple[str, str]:
    """Read event and reason out of a term `refused:…`."""
    _, event, reason = term.split(":", 2)
    return event, reason


def refusal_term(event: str, outcome: str, reason: str) -> str | None:
    """Give the term of a refusal; None for what ended well."""
    if outcome == _WELL:
        return None
    return f"refused:{event}:{_REFERENCE.sub(_TYPE, reason)[:REASON_LENGTH]}"


def gathered(
    named: Iterable[tuple[str, str | None]],
    entities: Iterable[tuple[str, str]],
    *,
    own: tuple[str, str],
    known: Iterable[str | None],
) -> tuple[str, ...]:
    """Give the terms of an event, each once, in order.

    Args:
        named: Identifier of each agent, and the purpose that it acts for.
        entities: System and value of each entity's identifier.
        own: Our own process and site, whose agents are in every event.
        known: What `refusal_term` and `code_terms` gave.
    """
    found = {term for term in known if term}
    for identifier, purpose in named:
        if identifier not in own:
            found.add(f"agent:{identifier}")
        if purpose:
            found.add(f"purpose:{purpose}")
    found |= {term for pair in entities if (term := entity_term(*pair))}
    return tuple(sorted(found))


def terms_of(event: str, body: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the terms out of an AuditEvent as it was stored."""
    source = body["source"]
    return gathered(
        _agents(body["agent"]),
        identifiers_of(body.get("entity", ())),
        own=(source["observer"]["identifier"]["value"], source["site"]),
        known=(
            refusal_term(event, body["outcome"], body.get("outcomeDesc", "")),
            *code_terms("type", [body["type"]]),
            *code_terms("subtype", body["subtype"]),
        ),
    )


def _agents(agents: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str | None]]:
    for agent in agents:
        purposes = [
            coding["code"] for each in agent.get("purposeOfUse", ()) for coding in each["coding"]
        ]
        for purpose in purposes or [None]:
            yield agent["who"]["identifier"]["value"], purpose


def identifiers_of(entities: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Give system and value of the identifiers of entities, a model's digest among them."""
    for entity in entities:
        identifier = entity.get("what", {}).get("identifier", {})
        system = identifier.get("system")
        if system is None:
            continue
        yield system, identifier["value"]
        if system == _MODEL:
            for detail in entity.get("detail", ()):
                if detail["type"] == "sha256":
                    yield _DIGEST, detail["valueString"]
