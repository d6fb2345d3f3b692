"""In which form a result would go to an EHR, and why in no better one.

`route explain` asks no EHR: it knows what the site and the profile say. `doctor` asks the EHR.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.markup import escape

from adapters import ehr_profile
from adapters.ehr_profile import Profile
from adapters.site import Site
from gateway.cli.context import age, out
from gateway.core.delivery import DeliveryState
from gateway.core.errors import ConfigurationError
from gateway.core.ladder import LOSES, TYPES, IfLabelLost, Ladder, Rung, Terms, ladder, said
from gateway.core.routing import Route
from gateway.store import worklist
from gateway.store.unit_of_work import Store
from workers.climb import NO_API
from workers.ehr_abilities import EhrAbilities

_UNTOLD = frozenset({Rung.RISK_ASSESSMENT, Rung.HL7V2_ORU, Rung.CDS_CARD})
_FAILED = (
    "were refused, or not taken for too long (`nadi jobs list --state failed`; `nadi jobs show` "
    "says why, `nadi jobs retry` tries one again)"
)
_GRAVE = (
    "Let no result go there until that is mended (write_back.only: [worklist]), and mark those in "
    "the EHR by hand; `nadi jobs show` tells of each what was not kept (docs/write-back.md)"
)


@dataclass(frozen=True)
class Way:
    """How results of one kind would go to one system.

    Attributes:
        system: Its name.
        profile: What kind of EHR it is taken for; None where it has no FHIR API.
        ladder: The forms that may be tried, and those that are left.
        if_label_lost: What is done where the AI label is not kept.
    """

    system: str
    profile: Profile | None
    ladder: Ladder
    if_label_lost: IfLabelLost

    @property
    def drops(self) -> Mapping[str, list[str]]:
        """What its EHR is known to lose in silence, by resource type."""
        return self.profile.drops if self.profile else {}

    def as_json(self) -> dict[str, object]:
        """Give it for scripts."""
        return {
            "system": self.system,
            "profile": self.profile.profile if self.profile else None,
            "rungs": list(self.ladder.rungs),
            "left": [{"rung": each.rung, "why": each.why} for each in self.ladder.left],
            "if_label_lost": self.if_label_lost,
            "drops": self.drops,
        }


def way_for(site: Site, route: Route, resource_type: str) -> Way | None:
    """Work out the way without asking the EHR; None where the site can't say where that is.

    Args:
        site: The site.
        route: Whose results.
        resource_type: As what the model's result is written.
    """
    system = site.system(route.sink)
    if system is None or not (system.address or system.oru):
        return None
    terms = system.terms.under(route.terms)
    card = [Rung.CDS_CARD] if site.cds.shows(route.name, route.source) else []
    senders = (*([Rung.HL7V2_ORU] if system.oru else []), *card)
    if system.address is None:
        rungs = ladder(resource_type, terms=terms, why_not=lambda _: NO_API, senders=senders)
        return Way(system.name, None, rungs, terms.if_label_lost or IfLabelLost.WORDS)
    try:
        known = (
            ehr_profile.profile(system.profile)
            if system.profile
            else ehr_profile.recognised(system.base_url, None)
        )
    except ConfigurationError:
        return None
    rungs = ladder(resource_type, terms=terms, why_not=known.why_not, senders=senders)
    return Way(system.name, known, rungs, terms.if_label_lost or known.if_label_lost)


def show_way(way: Way) -> None:
    """Print the way of a result."""
    rungs = ", else ".join(way.ladder.rungs) or "nothing that the site allows"
    kind = way.profile.title if way.profile else "no FHIR API"
    out.print(f"  Into {escape(way.system)} ({escape(kind)}) it goes as {rungs}")
    for each in way.ladder.left:
        if each.rung not in _UNTOLD:
            out.print(f"    [dim]not as {escape(said([each]))}[/]", soft_wrap=True)
    if way.profile is None:
        return
    out.print("    [dim]The EHR was not asked whether it takes these: nadi doctor does.[/]")
    if way.profile.needs_codes:
        out.print("    [dim]An Observation needs a code of the EHR's own: write_back.codes[/]")
    lost = way.drops.get(TYPES.get(way.ladder.rungs[0], "")) if way.ladder.rungs else None
    if lost:
        told = f"It drops {', '.join(lost)}; if the AI label is lost: {way.if_label_lost}"
        out.print(f"    [dim]{escape(told)}[/]", soft_wrap=True)


def asked_way(terms: Terms, abilities: EhrAbilities, beyond: Sequence[Rung] = ()) -> str:
    """Say in a line how plain results go to an EHR, as it says itself.

    Args:
        terms: What the site says of it.
        abilities: What is known of it; it may be asked.
        beyond: The rungs beyond FHIR that something sends there.
    """
    plain = TYPES[Rung.OBSERVATION]
    found = ladder(plain, terms=terms, why_not=abilities.why_not, senders=beyond)
    how = "named" if abilities.is_named else "recognised"
    first = found.rungs[0] if found.rungs else None
    says = f"profile {abilities.profile.profile} ({how}); results go as {first or 'nothing'}"
    if first is None or first is Rung.OBSERVATION:
        return says
    why = next((each.why for each in found.left if each.rung is Rung.OBSERVATION), "")
    loses = f", which loses {LOSES[first]}" if first in LOSES else ""
    return f"{says}{loses}: {why}"


def told_of_results(store: Store) -> tuple[str, bool]:
    """Count what could not be delivered, stays on the worklist or lost its AI label.

    Returns:
        What was counted, in words, and whether all is well.
    """
    with store.read() as uow:
        told, states = uow.deliveries.told(), uow.deliveries.counts()
        waiting, oldest_ms = worklist.count(uow)
    since = f"on the worklist, the oldest for {age(oldest_ms)}" if oldest_ms else "on the worklist"
    failed = sum(count for (_, state), count in states.items() if state is DeliveryState.FAILED)
    by_rung = [(rung, lost, count) for _, rung, lost, count in told]
    return _counted(by_rung, {_FAILED: failed, since: waiting}, is_whole=not failed)


def _counted(
    told: list[tuple[str, str, int]], waiting: dict[str, int], *, is_whole: bool = True
) -> tuple[str, bool]:
    here = (Rung.WORKLIST, Rung.CDS_CARD)
    shown = sum(count for rung, _, count in told if rung == Rung.CDS_CARD)
    lower = sum(count for rung, _, count in told if rung in LOSES and rung not in here)
    grave = {
        "whose value is another in the EHR": _with(told, "value"),
        "whose unit is another in the EHR": _with(told, "unit"),
        "without any AI label": _with(told, "words"),
    }
    counts = {
        **waiting,
        "only as a card, for whoever opens the chart": shown,
        "in a lower form": lower,
        "without the AI label as a code": _with(told, "meta.security"),
        **grave,
    }
    says = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    is_kept = not any(grave.values())
    if not is_kept:
        says = f"{says}. {_GRAVE}"
    return says or "every result that was read back is there whole", is_kept and is_whole


def _with(told: list[tuple[str, str, int]], label: str) -> int:
    return sum(count for _, lost, count in told if label in lost.split(", "))
