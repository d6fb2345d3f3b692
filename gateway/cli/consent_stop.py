"""What a change of consent at the command line stops, before it is acknowledged, and what not."""

from collections.abc import Collection, Mapping

from rich.markup import escape

from gateway.cli.context import Opened, fail, out
from gateway.core.audit import Source
from gateway.deciding import Denied, Still, holding, still_permitted
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


def still_held(nadi: Opened, whose: Mapping[str, str]) -> list[Still]:
    """Find what is permitted all the same after a denial, a refusal, or a consent taken back.

    Args:
        nadi: The installation.
        whose: Reference by key of the patients whose consent changed.
    """
    site = nadi.site()
    with nadi.store.read() as uow:
        return [
            still
            for key, reference in whose.items()
            for still in still_permitted(uow, site, key, reference)
        ]


def show_still_held(found: list[Still]) -> None:
    """Say what is permitted all the same."""
    for each in found:
        what = f"{', '.join(each.purposes)} is still permitted"
        data = " for some data" if each.is_limited else ""
        out.print(f"[yellow]![/] {what}{data} by {escape(ground(each))}.", soft_wrap=True)


def denied_all_the_same(
    nadi: Opened, whose: Mapping[str, str], purposes: Collection[str]
) -> list[Denied]:
    """Find what is not permitted although it was permitted just now.

    Args:
        nadi: The installation.
        whose: Reference by key of the patients whose consent changed.
        purposes: That were permitted; none means whatever a FHIR Consent says.
    """
    site = nadi.site()
    with nadi.store.read() as uow:
        found = [
            each
            for key, reference in whose.items()
            for each in holding(uow, site, key, reference)[1]
        ]
    return [each for each in found if not purposes or not {*purposes}.isdisjoint(each.purposes)]


def show_denied(found: list[Denied]) -> None:
    """Say what is not permitted all the same."""
    for each in found:
        by = f" by {', '.join(each.consents)}" if each.consents else ""
        why = "" if by else f" {' '.join(each.reasons)}"
        what = f"{', '.join(each.purposes)} is still not permitted{by}.{why}"
        out.print(f"[yellow]![/] {escape(what)}", soft_wrap=True)


def ground(still: Still) -> str:
    """Say what permits it."""
    if still.consents:
        return ", ".join(still.consents)
    return _GROUNDS.get(still.basis, f"no consent: the site states another basis ({still.basis})")


_GROUNDS = {
    "route-default": "no consent: the default of a route is to permit",
    "break-glass": "no consent: in an emergency nobody forbade it",
}
