"""`auth` in a site file: how Nadi identifies itself to a system."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from adapters.authorization import NO_LOGIN, BasicLogin, BearerLogin, Login, Secret
from adapters.site_address import Address
from adapters.site_words import Part, SecretReference

#: RFC 6749 appendix A: printable ASCII.
_CLIENT = r"^[\x21-\x7e]{1,200}$"
_SCOPE = r"^[\x21\x23-\x5b\x5d-\x7e]{1,200}$"
Scopes = list[Annotated[str, StringConstraints(pattern=_SCOPE)]]
_GIVEN_OUT = "Where access tokens are given out"


class NoAuth(Part):
    """The system asks for no credential."""

    kind: Literal["none"]


class BearerAuth(Part):
    """Every request carries `Authorization: Bearer …`."""

    kind: Literal["bearer"]
    token: SecretReference = Field(
        description="Where the token is: env:NAME or file:PATH. Never the token itself."
    )


class BasicAuth(Part):
    """Every request carries `Authorization: Basic …`, as OpenMRS wants it."""

    kind: Literal["basic"]
    user: Annotated[str, StringConstraints(pattern=r"^[^:\s]{1,128}$")] = Field(
        description="The user's name; no colon."
    )
    password: SecretReference = Field(
        description="Where the password is: env:NAME or file:PATH. Never the password itself."
    )


class SmartBackendAuth(Part):
    """SMART Backend Services: a key of Nadi's gets access tokens that last some minutes."""

    kind: Literal["smart-backend"]
    client_id: Annotated[str, StringConstraints(pattern=_CLIENT)] = Field(
        description="The client, as it was registered with the EHR."
    )
    key: SecretReference = Field(
        description="Where the private key is, PEM or JWK: env:NAME or file:PATH."
    )
    key_id: Annotated[str, StringConstraints(pattern=_CLIENT)] | None = Field(
        None, description="Its `kid`, as registered; absent: the JWK's own, or its thumbprint."
    )
    token_url: Address | None = Field(
        None, description=f"{_GIVEN_OUT}; absent: what .well-known/smart-configuration says."
    )
    scopes: Scopes = Field(
        ["system/*.rs", "system/*.cu"],
        description="What is asked for; narrow it to what the routes read and write.",
    )


class ClientCredentialsAuth(Part):
    """OAuth 2.0 client credentials: a secret of Nadi's gets access tokens."""

    kind: Literal["client-credentials"]
    client_id: Annotated[str, StringConstraints(pattern=_CLIENT)] = Field(
        description="The client, as it was registered with the EHR."
    )
    secret: SecretReference = Field(
        description="Where its secret is: env:NAME or file:PATH. Never the secret itself."
    )
    token_url: Address = Field(description=f"{_GIVEN_OUT}: the secret goes there.")
    scopes: Scopes = Field([], description="What is asked for; absent: what was registered.")


Auth = Annotated[
    NoAuth | BearerAuth | BasicAuth | SmartBackendAuth | ClientCredentialsAuth,
    Field(discriminator="kind"),
]


def login_of(auth: Auth, *, system: str, address: str, tls: tuple[str, str | None] | None) -> Login:
    """Give how Nadi identifies itself.

    Args:
        auth: What the site file says.
        system: Name of the system.
        address: Its base URL as it stands there.
        tls: Files of authorities and of our own certificate.
    """
    match auth:
        case NoAuth():
            return NO_LOGIN
        case BearerAuth():
            return BearerLogin(Secret(auth.token))
        case BasicAuth():
            return BasicLogin(auth.user, Secret(auth.password))
    from adapters.token_login import TokenLogin  # noqa: PLC0415 - brings an HTTP client along

    is_asymmetric = isinstance(auth, SmartBackendAuth)
    return TokenLogin(
        whose=f"System '{system}'",
        address=address,
        client_id=auth.client_id,
        secret=Secret(auth.key if isinstance(auth, SmartBackendAuth) else auth.secret),
        is_asymmetric=is_asymmetric,
        token_url=auth.token_url,
        tls=tls,
        scopes=tuple(auth.scopes),
        key_id=auth.key_id if isinstance(auth, SmartBackendAuth) else None,
    )
