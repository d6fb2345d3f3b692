"""The key `cds_hooks` of a site file, and that of a route: who may ask by CDS Hooks, and for what.

A service is one route with one hook; its id is `<route>-<hook>`. A client is known by a signed
token: its issuer and its public keys stand here, so that nothing is fetched from an address that a
token names.

Source: CDS Hooks 2.0, "Trusting CDS Clients" and "Cross-Origin Resource Sharing".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from pydantic import AfterValidator, Field, StringConstraints, field_validator

from adapters.site_address import Address, completed
from adapters.site_words import Name, Part
from adapters.site_yaml import Document, Problem, suggestion

Hook = Literal[
    "patient-view", "order-sign", "order-select", "encounter-start", "encounter-discharge"
]
Key = ECKey | RSAKey

_CURVE = "P-384"
_LEAST_BITS = 2048
_WRONG_KEY = "must be a public key, as a JWK or as PEM: EC P-384 (ES384), or RSA (RS384)"


def public_key_of(written: object) -> Key:
    """Read a public key.

    Args:
        written: A JWK as a mapping, or PEM as a text.

    Raises:
        ValueError: It is none that tokens may be signed with.
    """
    made: Key | None = None
    for kind in (ECKey, RSAKey):
        try:
            made = kind.import_key(written)  # type: ignore[arg-type]  # refused below, if it is none
            break
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            continue
    if made is None:
        raise ValueError(_WRONG_KEY)
    if made.is_private:
        raise ValueError("is a private key: put its public half here, and make a new key")
    is_strong = (
        made.curve_name == _CURVE
        if isinstance(made, ECKey)
        else made.public_key.key_size >= _LEAST_BITS
    )
    if not is_strong:
        raise ValueError(f"{_WRONG_KEY} of at least {_LEAST_BITS} bits")
    return made


def _check_key(written: object) -> object:
    public_key_of(written)
    return written


WrittenKey = Annotated[
    Any,
    AfterValidator(_check_key),
    Field(json_schema_extra={"anyOf": [{"type": "object"}, {"type": "string"}]}),
]
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+$")]


class CdsClientEntry(Part):
    """An EHR that may ask."""

    system: Name = Field(description="One of `systems`: whose patients it asks about.")
    issuer: str = Field(min_length=1, max_length=255, description="`iss` of its tokens.")
    keys: list[WrittenKey] = Field(
        min_length=1,
        max_length=16,
        description="Public keys of its tokens, JWK or PEM: EC P-384 or RSA.",
    )
    origins: list[Origin] = Field(
        [], description="Origins of its pages that may call from a browser (CORS)."
    )


class CdsHooksEntry(Part):
    """How EHRs ask by CDS Hooks."""

    base_url: Address = Field(
        description="Nadi's address as the EHR calls it, without /cds-services: tokens are for it."
    )
    clients: dict[Name, CdsClientEntry] = Field({}, description="Who may ask.")
    within_ms: int = Field(
        450,
        ge=50,
        le=30_000,
        description="How long a call waits for the result; the standard asks for 500 in all.",
    )

    @field_validator("clients")
    @classmethod
    def _issuers_differ(cls, clients: dict[str, CdsClientEntry]) -> dict[str, CdsClientEntry]:
        if len({each.issuer for each in clients.values()}) < len(clients):
            raise ValueError("two clients have the same issuer")
        return clients


class RouteHooksEntry(Part):
    """At which hooks a route answers."""

    hooks: list[Hook] = Field(min_length=1, description="One service for each.")
    title: str = Field("", max_length=80, description="How people call it; the model's title.")
    description: str = Field(
        "", max_length=500, description="What it answers; the model's intended use."
    )


@dataclass(frozen=True)
class CdsService:
    """One route at one hook."""

    id: str
    hook: str
    route: str
    title: str
    description: str


@dataclass(frozen=True)
class CdsClient:
    """Somebody who may ask.

    Attributes:
        name: Its key in the site file.
        system: The system that it speaks for.
    """

    name: str
    system: str
    issuer: str
    keys: tuple[Key, ...] = field(repr=False)
    origins: frozenset[str]


@dataclass(frozen=True)
class CdsHooks:
    """CDS Hooks of a site.

    Attributes:
        address: Of Nadi, as written, with `${NAME}`.
        clients: By issuer.
        services: By id.
    """

    address: str = ""
    within_ms: int = 450
    clients: Mapping[str, CdsClient] = field(default_factory=dict)
    services: Mapping[str, CdsService] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        """Nadi's address, without a slash at its end.

        Raises:
            ConfigurationError: A variable without default is not set.
        """
        return completed(self.address, "cds_hooks.base_url")

    def shows(self, route: str, system: str) -> bool:
        """Say whether the results of a route are shown as cards where a system opens a chart."""
        is_asked = any(client.system == system for client in self.clients.values())
        return is_asked and any(service.route == route for service in self.services.values())

    @property
    def origins(self) -> frozenset[str]:
        """The origins of all clients."""
        return frozenset().union(*(each.origins for each in self.clients.values()))


def cds_hooks_of(
    entry: CdsHooksEntry | None, routes: Mapping[str, RouteHooksEntry | None]
) -> CdsHooks:
    """Give CDS Hooks as the processes use them.

    Args:
        entry: The key `cds_hooks` of the site.
        routes: Those of its routes.
    """
    if entry is None:
        return CdsHooks()
    clients = {
        each.issuer: CdsClient(
            name,
            each.system,
            each.issuer,
            tuple(public_key_of(key) for key in each.keys),
            frozenset(each.origins),
        )
        for name, each in entry.clients.items()
    }
    services = {
        service.id: service for name, each in routes.items() for service in _services(name, each)
    }
    return CdsHooks(entry.base_url, entry.within_ms, clients, services)


def _services(route: str, entry: RouteHooksEntry | None) -> Iterator[CdsService]:
    for hook in entry.hooks if entry else ():
        title, description = (entry.title, entry.description) if entry else ("", "")
        yield CdsService(f"{route}-{hook}", hook, route, title, description)


def cds_hooks_problems(document: Document) -> Iterator[Problem]:
    """Say what is wrong with who may ask, and with what routes answer."""
    site = _mapping(document.value)
    systems = _mapping(site.get("systems"))
    for name, written in _mapping(_mapping(site.get("cds_hooks")).get("clients")).items():
        system = _mapping(written).get("system")
        if isinstance(system, str) and system not in systems:
            message = f"unknown system '{system}'{suggestion(system, systems)}"
            yield document.problem(("cds_hooks", "clients", name, "system"), message)
    for name, written in _mapping(site.get("routes")).items():
        if _mapping(written).get("cds_hooks") is not None and "cds_hooks" not in site:
            message = "needs the key `cds_hooks` of the site: who may ask, and at which address"
            yield document.problem(("routes", name, "cds_hooks"), message)


def _mapping(value: object) -> dict[str, Any]:
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}
