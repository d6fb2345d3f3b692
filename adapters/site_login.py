"""How Nadi identifies itself to a system, as its site file says."""

from adapters.authorization import Secret
from adapters.site_model import BasicAuth, BearerAuth, NoAuth


def login_of(auth: NoAuth | BearerAuth | BasicAuth) -> tuple[Secret | None, str]:
    """Give the bearer token, or the password and whose it is; nothing where none is asked for."""
    if isinstance(auth, NoAuth):
        return None, ""
    if isinstance(auth, BearerAuth):
        return Secret(auth.token), ""
    return Secret(auth.password), auth.user
