"""A statement about a consent: canonical bytes and a detached signature over them.

* The bytes are canonical JSON (RFC 8785), so that what was signed can be written down anywhere
  and checked again.
* The signature is a detached JWS (RFC 7515, appendix F) with Ed25519 (RFC 8032; the algorithm's
  name is that of RFC 9864), `header..signature`.
* Whose key it is, is for the caller to say: the key that a signature names of itself counts for
  nothing.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from gateway.core.errors import AccessError

_ALGORITHM = "Ed25519"
_CACHED = 64


class StatementForged(AccessError):
    """The signature is not one of this content by this key."""

    issue_type = "security"


def canonical(value: Mapping[str, Any]) -> bytes:
    """Write JSON in its one canonical form.

    Raises:
        ValueError: It holds what JSON can't, or an integer beyond 2**53 - 1.
    """
    return rfc8785.dumps(dict(value))


def sign(content: bytes, key: Ed25519PrivateKey) -> str:
    """Sign content; give the detached JWS."""
    own = _private(key.private_bytes_raw())
    header = {"alg": _ALGORITHM, "kid": own.thumbprint()}
    whole = jws.serialize_compact(header, content, own, algorithms=[_ALGORITHM])
    return jws.detach_content(whole)


def insist_on(content: bytes, signature: str, key: Ed25519PublicKey) -> None:
    """Insist that a detached JWS is one of this content by this key.

    Raises:
        StatementForged: It is not.
    """
    try:
        known = _public(key.public_bytes_raw())
        jws.deserialize_compact(signature, known, algorithms=[_ALGORITHM], payload=content)
    except (JoseError, ValueError) as error:
        raise StatementForged from error


@lru_cache(maxsize=_CACHED)
def _public(raw: bytes) -> OKPKey:
    return OKPKey.import_key(Ed25519PublicKey.from_public_bytes(raw))


@lru_cache(maxsize=_CACHED)
def _private(raw: bytes) -> OKPKey:
    return OKPKey.import_key(Ed25519PrivateKey.from_private_bytes(raw))
