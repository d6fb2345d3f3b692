"""(1) Is what a system pushes signed as the site says? `X-Signature`, as Medplum writes it.

The credential says who calls. A signature says that the body is as the sender wrote it; it is
checked where the site names the secret (`signature_secret`), and looked at nowhere else. A replay
of an old body passes: what it brings is recognised as a repeat, or as older than what is known.

Source: https://www.medplum.com/docs/subscriptions/subscription-extensions, HMAC-SHA256 of the body.
"""

import hmac
from collections.abc import Callable

from adapters.authorization import Secret
from adapters.site import Site
from gateway.api.edge import Call
from gateway.core.errors import ConfigurationError, Forbidden, StoreUnavailable

_HEADER = "x-signature"
_UNUSABLE = "What the site file says of signatures can't be used; its engineer has to mend it."
_UNSIGNED = (
    "X-Signature is not the HMAC-SHA256 of this body with the secret that the site file names "
    "(signature_secret): sender and site have to hold the same one."
)


def insist_signed(call: Call, site: Callable[[], Site], body: bytes) -> None:
    """Insist that a body is signed, where the site names the secret of its system.

    What a listener of ours brings was not pushed.

    Args:
        call: The request.
        site: Gives the site in force.
        body: As it was sent.

    Raises:
        Forbidden: It is not, or by another secret.
        StoreUnavailable: The site can't be used, or the secret is not where it says: its sender
            can't mend that.
    """
    if call.principal.brings:
        return
    try:
        system = site().system(call.principal.system or "")
        named = system.push.signature_secret if system and system.push else None
        if named is None:
            return
        secret = Secret(named).resolve().encode()
    except ConfigurationError as error:
        raise StoreUnavailable(_UNUSABLE, retry_after_s=60) from error
    given = call.request.headers.get(_HEADER, "").strip().lower()
    if not hmac.compare_digest(hmac.digest(secret, body, "sha256").hex().encode(), given.encode()):
        raise Forbidden(_UNSIGNED)
