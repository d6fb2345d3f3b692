"""The item `push` of a system's `receive`: it calls Nadi's API itself."""

from pydantic import Field

from adapters.site_silence import SilentEntry
from adapters.site_words import SecretReference


class PushEntry(SilentEntry):
    """What is known of how a system pushes; `push` alone says nothing more."""

    signature_secret: SecretReference | None = Field(
        None,
        description="Where the secret is with which it signs what it pushes, env:NAME or "
        "file:PATH (X-Signature: HMAC-SHA256 of the body, hexadecimal, as Medplum's "
        "subscription-secret). What is not signed so is refused then.",
    )
