"""The rules of IHE Basic Audit Log Patterns (BALP) as data, and one judge that applies them.

Written from the profiles' text, independent of `gateway.core.balp`, so that both can be wrong only
in the same way by chance. `violations(event)` checks an AuditEvent (parsed JSON) against every
BALP profile that it claims.

Source: IHE ITI BALP 1.1 (https://profiles.ihe.net/ITI/BALP/content.html).
"""

import base64
import binascii
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "shared" / "data" / "ihe-balp"
BALP = "https://profiles.ihe.net/ITI/BALP"
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_THO = "http://terminology.hl7.org/CodeSystem"
_REST = "http://hl7.org/fhir/restful-interaction"
_SCT = "http://snomed.info/sct"

Code = tuple[str, str]
Event = Mapping[str, Any]

SOURCE, DESTINATION, APPLICATION = (_DCM, "110153"), (_DCM, "110152"), (_DCM, "110150")
CUSTODIAN = (f"{_THO}/provenance-participant-type", "custodian")
RECIPIENT = (f"{_THO}/v3-ParticipationType", "IRCP")
_AUTHORS = tuple((f"{_THO}/v3-ParticipationType", code) for code in ("AUT", "INF", "CST"))
ORGANIZATION = (f"{_THO}/v3-RoleClass", "PROV")
AUTHORIZER = (f"{_THO}/extra-security-role-type", "authserver")

_ENTITY_TYPE, _ENTITY_ROLE = f"{_THO}/audit-entity-type", f"{_THO}/object-role"
PATIENT = (_ENTITY_TYPE, "1")
DATA_ROLES = {"3", "4", "20"}


@dataclass(frozen=True)
class Rule:
    """What one profile asks of an event.

    Attributes:
        types: Codes of `type`, any of which will do.
        subtypes: Codes, one of which has to be among the subtypes.
        actions: Actions that are allowed.
        agents: Types that have to be there exactly once.
        machines: Agents that have to have a network and no media.
        patient: Whether exactly one patient has to be named (True) or none is asked for (False).
        outcomes: Outcomes that the profile stands for; None for any.
        others: Further checks; each gives what is wrong.
    """

    types: tuple[Code, ...]
    subtypes: tuple[Code, ...]
    actions: str
    agents: tuple[Code, ...]
    machines: tuple[Code, ...] = ()
    patient: bool = False
    outcomes: str | None = "0"
    others: tuple[Callable[[Event], Iterator[str]], ...] = field(default=())


def _codes(concept: Any) -> set[Code]:
    if concept is None:
        return set()
    codings = concept.get("coding", [concept])
    return {(each.get("system", ""), each.get("code", "")) for each in codings}


def _agents(event: Event, code: Code) -> list[Any]:
    return [agent for agent in event.get("agent", ()) if code in _codes(agent.get("type"))]


def _entities(event: Event, code: Code, role: str | None = None) -> list[Any]:
    return [
        entity
        for entity in event.get("entity", ())
        if code in _codes(entity.get("type"))
        and (role is None or (_ENTITY_ROLE, role) in _codes(entity.get("role")))
    ]


def _has_data(event: Event, *types: Code) -> Iterator[str]:
    wanted = types or ((_ENTITY_TYPE, "2"),)
    found = [e for role in DATA_ROLES for code in wanted for e in _entities(event, code, role)]
    if not found:
        yield "no entity holds the data"
    for entity in found:
        if "what" not in entity:
            yield "the data entity does not say what"


def _has_disclosed(event: Event) -> Iterator[str]:
    """Check the data entity of a disclosure, which may name the type of the resource instead."""
    types = {code for e in event.get("entity", ()) for code in _codes(e.get("type"))} - {PATIENT}
    yield from _has_data(event, *types)


def _has_query(event: Event) -> Iterator[str]:
    found = _entities(event, (_ENTITY_TYPE, "2"), "24")
    if len(found) != 1:
        yield f"{len(found)} entities hold the query"
    for entity in found:
        if "what" in entity:
            yield "the query entity says what"
        try:
            base64.b64decode(entity.get("query", ""), validate=True)
        except binascii.Error:
            yield "the query is not base64"
        if not entity.get("query"):
            yield "the query entity holds no query"


def _users_are_requestors(*codes: Code) -> Callable[[Event], Iterator[str]]:
    def check(event: Event) -> Iterator[str]:
        for code in codes:
            for agent in _agents(event, code):
                if agent.get("requestor") is not True:
                    yield f"user {code[1]} is no requestor"
                if "network" in agent or "media" in agent:
                    yield f"user {code[1]} has a network or media"
                if "who" not in agent:
                    yield f"user {code[1]} is not named"

    return check


def _transaction(event: Event) -> Iterator[str]:
    found = _entities(event, (f"{BALP}/CodeSystem/BasicAuditEntityType", "XrequestId"))
    if len(found) > 1:
        yield "there are several X-Request-Ids"
    for entity in found:
        if not entity.get("what", {}).get("identifier", {}).get("value"):
            yield "the X-Request-Id has no value"


def _consents(event: Event) -> Iterator[str]:
    resource_types = "http://hl7.org/fhir/resource-types"
    consents = _entities(event, (resource_types, "Consent"))
    if not consents:
        yield "no consent is named"
    for entity in consents:
        if "what" not in entity:
            yield "a consent is not named"
    for entity in event.get("entity", ()):
        if not _codes(entity.get("type")) & {PATIENT, (resource_types, "Consent")}:
            yield "an entity is neither patient nor consent"


def _decided(event: Event) -> Iterator[str]:
    observer = event.get("source", {}).get("observer")
    for agent in _agents(event, AUTHORIZER):
        if agent.get("who") != observer:
            yield "the authorizer is not the observer"
    if event.get("outcome") != "0" and not event.get("outcomeDesc"):
        yield "a denial does not say why"


def _token(event: Event) -> Iterator[str]:
    users = [agent for agent in event.get("agent", ()) if agent.get("requestor") is True]
    if not any(agent.get("policy") for agent in users):
        yield "no user names a token in the policy"


_HUMAN = (_transaction, _users_are_requestors(RECIPIENT, *_AUTHORS))
_REST_TYPE = (f"{_THO}/audit-event-type", "rest")


def _rest(
    subtypes: str,
    actions: str,
    client: Code,
    server: Code,
    content: Callable[[Event], Iterator[str]],
    *,
    patient: bool,
) -> Rule:
    return Rule(
        types=(_REST_TYPE,),
        subtypes=tuple((_REST, name) for name in subtypes.split()),
        actions=actions,
        agents=(client, server),
        machines=(client, server),
        patient=patient,
        others=(content, *_HUMAN),
    )


def _disclosure(dicom: str, action: str) -> Rule:
    return Rule(
        types=((_DCM, dicom),),
        subtypes=((f"{_THO}/iso-21089-lifecycle", "disclose"),),
        actions=action,
        agents=(SOURCE, DESTINATION),
        patient=True,
        others=(_has_disclosed,),
    )


_INTERACTIONS: dict[str, tuple[str, str, Code, Code, Callable[[Event], Iterator[str]]]] = {
    "Create": ("create", "C", SOURCE, DESTINATION, _has_data),
    "Read": ("read vread", "R", DESTINATION, SOURCE, _has_data),
    "Update": ("update patch", "U", SOURCE, DESTINATION, _has_data),
    "Delete": ("delete", "D", APPLICATION, CUSTODIAN, _has_data),
    "Query": ("search search-type search-system", "E", SOURCE, DESTINATION, _has_query),
}

RULES: dict[str, Rule] = {
    **{
        f"IHE.BasicAudit.{prefix}{name}": _rest(*row, patient=bool(prefix))
        for name, row in _INTERACTIONS.items()
        for prefix in ("", "Patient")
    },
    "IHE.BasicAudit.AuthZconsent": Rule(
        types=((_DCM, "110113"),),
        subtypes=((f"{BALP}/CodeSystem/AuthZsubType", "AuthZ-Consent"),),
        actions="E",
        agents=(APPLICATION, RECIPIENT, ORGANIZATION, AUTHORIZER),
        machines=(APPLICATION,),
        patient=True,
        outcomes=None,
        others=(_consents, _decided),
    ),
    "IHE.BasicAudit.PrivacyDisclosure.Source": _disclosure("110106", "R"),
    "IHE.BasicAudit.PrivacyDisclosure.Recipient": _disclosure("110107", "C"),
    **{
        f"IHE.BasicAudit.{kind}accessTokenUse.{extent}": Rule(
            types=(), subtypes=(), actions="CRUDE", agents=(), others=(_token,)
        )
        for kind, extents in (
            ("OAUTH", "Minimal Opaque Comprehensive"),
            ("SAML", "Minimal Comprehensive"),
        )
        for extent in extents.split()
    },
}


def claimed(event: Event) -> list[str]:
    """Give the BALP profiles that an event claims, without their base."""
    prefix = f"{BALP}/StructureDefinition/"
    profiles = event.get("meta", {}).get("profile", ())
    return [name.removeprefix(prefix) for name in profiles if name.startswith(prefix)]


def violations(event: Event) -> list[str]:
    """Give everything in which an event breaks a profile that it claims; empty when in nothing."""
    found: list[str] = []
    for name in claimed(event):
        rule = RULES.get(name)
        found.extend([f"{name} is no profile"] if rule is None else _broken(rule, event))
    return found


def _broken(rule: Rule, event: Event) -> Iterator[str]:
    subtypes = {code for subtype in event.get("subtype", ()) for code in _codes(subtype)}
    holds = {
        "type": not rule.types or bool(_codes(event.get("type")) & set(rule.types)),
        "subtype": not rule.subtypes or bool(subtypes & set(rule.subtypes)),
        "action": event.get("action", "?") in rule.actions,
        "outcome": rule.outcomes is None or event.get("outcome", "?") in rule.outcomes,
        "recorded": "recorded" in event,
        "observer": "observer" in event.get("source", {}),
    }
    yield from (name for name, is_so in holds.items() if not is_so)
    yield from _parts(rule, event)
    if rule.patient:
        yield from _patient(event)
    for check in rule.others:
        yield from check(event)


def _parts(rule: Rule, event: Event) -> Iterator[str]:
    for code in rule.agents:
        if len(_agents(event, code)) != 1:
            yield f"agent {code[1]} is there {len(_agents(event, code))} times"
    for agent in (agent for code in rule.machines for agent in _agents(event, code)):
        if "network" not in agent or "media" in agent or "who" not in agent:
            yield "a machine has no name or network, or has media"


def _patient(event: Event) -> Iterator[str]:
    found = _entities(event, PATIENT, "1")
    if len(found) != 1:
        yield f"{len(found)} patients"
    for entity in found:
        if "what" not in entity:
            yield "the patient is not named"


@functools.cache
def published_examples() -> dict[str, Any]:
    """Give the published examples by file name; empty where they are not beside the repository."""
    return {file.name: json.loads(file.read_text()) for file in sorted(EXAMPLES.glob("*.json"))}
