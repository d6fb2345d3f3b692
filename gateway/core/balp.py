"""The patterns of IHE Basic Audit Log Patterns (BALP), and our own for what BALP doesn't know.

A `Pattern` says what all events of a kind have in common: type, subtype, action, profile, and
which code names each agent's part. A profile is claimed only by an event that fulfils it.

Codings carry the displays that BALP's pattern values carry: validators compare them.

Source: IHE ITI BALP 1.1 (https://profiles.ihe.net/ITI/BALP); DICOM PS3.15 section A.5 for the
security alerts; FHIR R4 AuditEvent (http://hl7.org/fhir/R4/auditevent.html).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import orjson

Json = dict[str, object]
#: JSON that is already written, keys sorted: constants are written once, not with every event.
Written = orjson.Fragment

DCM = "http://dicom.nema.org/resources/ontology/DCM"
NADI = "https://nadi.health/fhir"
EVENT_SYSTEM = f"{NADI}/CodeSystem/audit-event"
ROLE_SYSTEM = f"{NADI}/CodeSystem/role"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
BALP = "https://profiles.ihe.net/ITI/BALP"

_PROFILES = f"{BALP}/StructureDefinition/IHE.BasicAudit."
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"


class AgentKind(StrEnum):
    """What part an agent has in an event."""

    CLIENT = "client"
    SERVER = "server"
    USER = "user"
    ORGANIZATION = "organization"
    AUTHORIZER = "authorizer"


def written(value: object) -> Written:
    """Write JSON that many events share."""
    return Written(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def coding(system: str, code: str, display: str = "") -> Written:
    """Give a FHIR Coding."""
    value = {"system": system, "code": code}
    return written({**value, "display": display} if display else value)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pattern:
    """What all events of one kind have in common.

    Attributes:
        type: AuditEvent.type.
        subtypes: AuditEvent.subtype, without our own name of the event.
        action: AuditEvent.action.
        agents: The code of each kind of agent.
        profile: Profile of an event that is about no patient, None when there is none.
        patient_profile: Profile of an event about a patient, None when there is none.
        is_named: Whether our own name of the event may stand among the subtypes.
        source_type: Code of security-source-type.
    """

    type: Written
    subtypes: tuple[Written, ...] = ()
    action: str
    agents: Mapping[AgentKind, Written]
    profile: str | None = None
    patient_profile: str | None = None
    is_named: bool = True
    source_type: Written = field(
        default_factory=lambda: coding(
            f"{_TERMINOLOGY}/security-source-type", "4", "Application Server"
        )
    )


_SOURCE = coding(DCM, "110153", "Source Role ID")
_DESTINATION = coding(DCM, "110152", "Destination Role ID")
_APPLICATION = coding(DCM, "110150", "Application")
_AUTHOR = coding(f"{_TERMINOLOGY}/v3-ParticipationType", "AUT", "author (originator)")
_RECIPIENT = coding(f"{_TERMINOLOGY}/v3-ParticipationType", "IRCP", "information recipient")
_PROVIDER = coding(f"{_TERMINOLOGY}/v3-RoleClass", "PROV", "healthcare provider")
_AUTHORIZATION_SERVER = coding(
    f"{_TERMINOLOGY}/extra-security-role-type", "authserver", "authorization server"
)

# Who sends is the source: data flows to the server in a write, to the client in a read, and a
# search request flows to the server.
_WRITERS = {
    AgentKind.CLIENT: _SOURCE,
    AgentKind.SERVER: _DESTINATION,
    AgentKind.USER: _AUTHOR,
}
_READERS = {
    AgentKind.CLIENT: _DESTINATION,
    AgentKind.SERVER: _SOURCE,
    AgentKind.USER: _RECIPIENT,
}
_SEARCHERS = {
    AgentKind.CLIENT: _SOURCE,
    AgentKind.SERVER: _DESTINATION,
    AgentKind.USER: _RECIPIENT,
}
_DECIDERS = {
    AgentKind.CLIENT: _APPLICATION,
    AgentKind.USER: _RECIPIENT,
    AgentKind.ORGANIZATION: _PROVIDER,
    AgentKind.AUTHORIZER: _AUTHORIZATION_SERVER,
}
_ACTORS = {
    AgentKind.CLIENT: _APPLICATION,
    AgentKind.SERVER: _APPLICATION,
    AgentKind.USER: _AUTHOR,
}


def _rest(interaction: str, action: str, agents: Mapping[AgentKind, Written], name: str) -> Pattern:
    return Pattern(
        type=coding(f"{_TERMINOLOGY}/audit-event-type", "rest", "Restful Operation"),
        subtypes=(coding("http://hl7.org/fhir/restful-interaction", interaction, interaction),),
        action=action,
        agents=agents,
        profile=f"{_PROFILES}{name}",
        patient_profile=f"{_PROFILES}Patient{name}",
    )


def _activity(action: str, kind: Written, *subtypes: Written) -> Pattern:
    return Pattern(type=kind, subtypes=subtypes, action=action, agents=_ACTORS)


#: RESTful interactions by FHIR's own name.
REST = {
    "create": _rest("create", "C", _WRITERS, "Create"),
    "update": _rest("update", "U", _WRITERS, "Update"),
    "read": _rest("read", "R", _READERS, "Read"),
    "search": _rest("search", "E", _SEARCHERS, "Query"),
}

CONSENT_DECISION = Pattern(
    type=coding(DCM, "110113", "Security Alert"),
    subtypes=(coding(f"{BALP}/CodeSystem/AuthZsubType", "AuthZ-Consent"),),
    action="E",
    agents=_DECIDERS,
    patient_profile=f"{_PROFILES}AuthZconsent",
    is_named=False,
    source_type=coding(f"{_TERMINOLOGY}/security-source-type", "6", "Security Server"),
)

_ACTIVITY = coding(DCM, "110100", "Application Activity")
_ALERT = coding(DCM, "110113", "Security Alert")

#: Everything else, by our own name of the event.
ACTIVITIES = {
    "admit": _activity("C", _ACTIVITY),
    "refuse": _activity("U", _ACTIVITY),
    "supersede": _activity("U", _ACTIVITY),
    "cancel": _activity("U", _ACTIVITY),
    "fail": _activity("U", _ACTIVITY),
    "complete": _activity("U", _ACTIVITY),
    "retry": _activity("U", _ACTIVITY),
    "rescue": _activity("U", _ACTIVITY),
    "sign-off": _activity("U", _ACTIVITY),
    "infer": _activity("E", _ACTIVITY),
    "start": _activity("E", _ACTIVITY, coding(DCM, "110120", "Application Start")),
    "stop": _activity("E", _ACTIVITY, coding(DCM, "110121", "Application Stop")),
    "keys": _activity("C", _ALERT, coding(DCM, "110129", "Security Configuration")),
    "sign-in-failure": _activity(
        "E", coding(DCM, "110114", "User Authentication"), coding(DCM, "110122", "Login")
    ),
    "forbid": _activity("E", _ALERT, coding(DCM, "110132", "Use of Restricted Function")),
    "configure": _activity("U", _ALERT, coding(DCM, "110131", "Software Configuration")),
    "credential-add": _activity(
        "C", _ALERT, coding(DCM, "110137", "User Security Attributes Changed")
    ),
    "credential-revoke": _activity(
        "D", _ALERT, coding(DCM, "110137", "User Security Attributes Changed")
    ),
    "model-register": _activity("C", _ALERT, coding(DCM, "110131", "Software Configuration")),
    "model-retire": _activity("D", _ALERT, coding(DCM, "110131", "Software Configuration")),
    "consent-record": _activity("C", _ACTIVITY),
    "consent-import": _activity("C", _ACTIVITY),
    "consent-revoke": _activity("D", _ACTIVITY),
    "break-glass": _activity("E", _ALERT, coding(DCM, "110127", "Emergency Override Started")),
    "break-glass-review": _activity(
        "E", _ALERT, coding(DCM, "110138", "Emergency Override Stopped")
    ),
    "canary": _activity("E", _ALERT),
    "feedback": _activity("C", _ACTIVITY),
    "image-refuse": _activity("C", coding(DCM, "110104", "DICOM Instances Transferred")),
    "sender-refuse": _activity("E", _ALERT, coding(DCM, "110126", "Node Authentication")),
    "export": _activity("R", coding(DCM, "110106", "Export")),
    "restore": _activity("C", coding(DCM, "110107", "Import")),
    "erase": _activity("D", _ACTIVITY),
    "expire": _activity("D", _ACTIVITY),
    "hold": _activity("U", _ACTIVITY),
    "rectify": _activity("U", _ACTIVITY),
    "request": _activity("U", _ACTIVITY),
    "reopen": _activity("U", _ACTIVITY),
    "verify": _activity("E", _ACTIVITY),
    "note": _activity("E", _ACTIVITY),
}

PATIENT_ENTITY: Json = {
    "type": coding(f"{_TERMINOLOGY}/audit-entity-type", "1", "Person"),
    "role": coding(f"{_TERMINOLOGY}/object-role", "1", "Patient"),
}
DATA_ENTITY: Json = {
    "type": coding(f"{_TERMINOLOGY}/audit-entity-type", "2", "System Object"),
    "role": coding(f"{_TERMINOLOGY}/object-role", "4", "Domain Resource"),
}
QUERY_ENTITY: Json = {
    "type": coding(f"{_TERMINOLOGY}/audit-entity-type", "2", "System Object"),
    "role": coding(f"{_TERMINOLOGY}/object-role", "24", "Query"),
}
TRANSACTION_ENTITY: Json = {"type": coding(f"{BALP}/CodeSystem/BasicAuditEntityType", "XrequestId")}
CONSENT_ENTITY: Json = {"type": coding(RESOURCE_TYPES, "Consent", "Consent")}
TASK_ENTITY: Json = {"type": coding(RESOURCE_TYPES, "Task", "Task")}
DEVICE_ENTITY: Json = {"type": coding(RESOURCE_TYPES, "Device", "Device")}
SYSTEM_ENTITY: Json = {"type": coding(f"{_TERMINOLOGY}/audit-entity-type", "2", "System Object")}
SECURITY_ENTITY: Json = {
    "type": coding(f"{_TERMINOLOGY}/audit-entity-type", "2", "System Object"),
    "role": coding(f"{_TERMINOLOGY}/object-role", "11", "Security User Entity"),
}
OTHER_ENTITY: Json = {"type": coding(f"{_TERMINOLOGY}/audit-entity-type", "4", "Other")}
