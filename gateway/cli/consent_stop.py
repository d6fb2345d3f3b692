"""What a change of consent at the command line stops, before it is acknowledged."""

from collections.abc import Mapping

from gateway.cli.context import Opened, fail, out
from gateway.core.audit import Source
from gateway.withdrawal import ResultUnderway, settle_in_flight


def settled(nadi: Opened, source: Source, whose: Mapping[str, str], *, about: str) -> int:
    """Wait until nothing that consent no longer permits is on its way; give what that stopped.

    To be called after the change was committed. It ends here, with what is on record, where an EHR
    does not answer.

    Args:
        nadi: The installation.
        source: Who writes the audit events.
        whose: Reference by key of the patients whose consent changed.
        about: Ids of the consents that changed.
    """
    wait_s = nadi.settings.revocation_wait_s
    try:
        return len(settle_in_flight(nadi.store, nadi.site(), source, whose, within_s=wait_s))
    except ResultUnderway:
        fail(
            f"{about} is on record and in force. A result that it stops is still on its way to an "
            "EHR that does not answer; nothing further is sent."
        )


def show_stopped(count: int) -> None:
    """Say how much work was stopped."""
    if count:
        out.print(f"Stopped what waited: {count}.")
