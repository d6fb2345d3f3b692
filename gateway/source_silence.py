"""When a system was last heard of: the newest that was received from it, however it came."""

from adapters.site import Site
from gateway.store.listener_credentials import ListenerCredentials
from gateway.store.unit_of_work import UnitOfWork


def last_heard_ms(uow: UnitOfWork, site: Site, system: str) -> int | None:
    """Give when the newest event of a system was received; None when nothing ever was.

    Args:
        uow: Reads the database.
        site: The site in force.
        system: Name of the system.
    """
    listeners = ListenerCredentials(uow.sealer)
    of_listeners = [
        listeners.credential_id(name)
        for name, feed in site.feeds.items()
        if feed.speaks_for == system
    ]
    of_people = [each.id for each in uow.credentials.list() if each.system == system]
    newest = [
        event.received_ms
        for principal_id in (*of_listeners, *of_people)
        for event in uow.events.recent(principal_id=principal_id, limit=1)
    ]
    return max(newest, default=None)
