"""(1) Is what a system pushes signed as the site says? `X-Signature`, as Medplum writes it.

The credential says who calls. A signature says that the body is as the sender wrote it; it is
checked where the site names the secret (`signature_secret`), and looked at nowhere else. A replay
of an old body passes: what it brings is recognised as a repeat, or as older than what is known.

Source: https://www.medplum.com/docs/subscriptions/subscription-extensions, HMAC-SHA256 of the body.
"""

import hmac

from adapters.authorization import Secret
from adapters.site import System
from gateway.api.edge import Call
from gateway.core.errors import Forbidden

_HEADER = "x-signature"
_UNSIGNED = (
    "X-Signature is not the HMAC-SHA256 of this body with the secret that the site file names "
    "(signature_secret): sender and site have to hold the same one."
)


def insist_signed(call: Call, system: System | None, body: bytes) -> None:
    """Insist that a body is signed, where the site names the secret of its system.

    What a listener of ours brings was not pushed.

    Args:
        call: The request.
        system: Whose it is, as the site has it.
        body: As it was sent.

    Raises:
        Forbidden: It is not, or by another secret.
        ConfigurationError: The secret is not where the site says.
    """
    named = system.push.signature_secret if system and system.push else None
    if named is None or call.principal.brings:
        return
    secret = Secret(named).resolve().encode()
    given = call.request.headers.get(_HEADER, "").strip().lower()
    if not hmac.compare_digest(hmac.digest(secret, body, "sha256").hex().encode(), given.encode()):
        raise Forbidden(_UNSIGNED)
