"""The search parameters of this EHR: which element each looks at, and how it compares.

The paths are a subset of the official SearchParameters of R4; a type that is not listed has those
of `GENERIC`, which name elements that most clinical types share.

Source: http://hl7.org/fhir/R4/searchparameter-registry.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["token", "reference", "date", "string"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One search parameter.

    Attributes:
        name: As in the query.
        kind: How values compare.
        paths: Elements looked at, dotted, lists flattened.
        default_type: Type that a bare id in a reference value stands for.
    """

    name: str
    kind: Kind
    paths: tuple[str, ...]
    default_type: str = ""

    @property
    def is_indexed(self) -> bool:
        """Say whether the store keeps an index of its values."""
        return self.kind == "reference" or self.name in {"identifier", "_tag"}


def _token(name: str, *paths: str) -> Parameter:
    return Parameter(name, "token", paths or (name,))


def _reference(name: str, *paths: str, to: str = "") -> Parameter:
    return Parameter(name, "reference", paths or (name,), to)


def _date(name: str, *paths: str) -> Parameter:
    return Parameter(name, "date", paths or (name,))


def _string(name: str, *paths: str) -> Parameter:
    return Parameter(name, "string", paths or (name,))


def _subject(path: str = "subject") -> tuple[Parameter, Parameter]:
    return _reference("subject", path, to="Patient"), _reference("patient", path, to="Patient")


COMMON = (
    _token("identifier"),
    _token("_tag", "meta.tag"),
    _token("_security", "meta.security"),
)

_EFFECTIVE = ("effectiveDateTime", "effectivePeriod", "effectiveInstant")

GENERIC = (
    *_subject(),
    _token("code"),
    _token("status"),
    _token("category"),
    _date("date", "date", "dateTime", "recorded", "issued", *_EFFECTIVE),
)

_BY_TYPE: Mapping[str, tuple[Parameter, ...]] = {
    "Patient": (
        _token("gender"),
        _date("birthdate", "birthDate"),
        _string("family", "name.family"),
        _string("given", "name.given"),
        _string("name", "name.family", "name.given", "name.text"),
        _token("phone", "telecom"),
    ),
    "Observation": (
        *_subject(),
        _token("code"),
        _token("status"),
        _token("category"),
        _date("date", *_EFFECTIVE),
        _reference("device", to="Device"),
        _reference("derived-from", "derivedFrom", to="Observation"),
        _reference("encounter", to="Encounter"),
    ),
    "DiagnosticReport": (
        *_subject(),
        _token("code"),
        _token("status"),
        _token("category"),
        _date("date", *_EFFECTIVE),
        _reference("result", to="Observation"),
    ),
    "RiskAssessment": (
        *_subject(),
        _date("date", "occurrenceDateTime", "occurrencePeriod"),
        _token("method"),
        _token("risk", "prediction.qualitativeRisk"),
        _reference("performer", to="Device"),
        _reference("encounter", to="Encounter"),
    ),
    "Media": (
        *_subject(),
        _token("status"),
        _token("type"),
        _token("modality"),
        _date("created", "createdDateTime", "createdPeriod"),
        _reference("device", to="Device"),
        _reference("encounter", to="Encounter"),
    ),
    "Consent": (
        _reference("patient", to="Patient"),
        _token("status"),
        _token("category"),
        _token("scope"),
        _date("date", "dateTime"),
    ),
    "Provenance": (
        _reference("target"),
        _reference("agent", "agent.who"),
        _reference("entity", "entity.what"),
        _date("recorded"),
    ),
    "Device": (
        _reference("patient", to="Patient"),
        _token("type"),
        _token("status"),
        _string("device-name", "deviceName.name"),
    ),
    "Task": (
        _reference("patient", "for", to="Patient"),
        _reference("subject", "for", to="Patient"),
        _reference("focus"),
        _token("code"),
        _token("status"),
    ),
    "Encounter": (*_subject(), _token("status"), _token("class"), _date("date", "period")),
    "DocumentReference": (*_subject(), _token("type"), _token("status"), _date("date")),
    "Subscription": (_token("status"), _string("criteria"), _string("url", "channel.endpoint")),
}

#: Types with parameters of their own; CapabilityStatement lists them.
KNOWN_TYPES = tuple(sorted(_BY_TYPE))

_TABLES = {
    resource_type: MappingProxyType({each.name: each for each in (*COMMON, *own)})
    for resource_type, own in _BY_TYPE.items()
}
_GENERIC_TABLE = MappingProxyType({each.name: each for each in (*COMMON, *GENERIC)})


def parameters_of(resource_type: str) -> Mapping[str, Parameter]:
    """Give the search parameters of a type by their names."""
    return _TABLES.get(resource_type, _GENERIC_TABLE)
