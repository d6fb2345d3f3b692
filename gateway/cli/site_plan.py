"""What to think of before a site file is applied: what it asks for and this machine lacks."""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING

from adapters.site import Site
from adapters.site_trigger import names_no_criterion
from adapters.site_yaml import Problem, read_yaml
from gateway.core.clock import utc_now
from gateway.core.errors import ConfigurationError
from gateway.core.model_register import RegisteredModel, Standing
from gateway.core.routing import Route
from gateway.settings import Settings
from models.versions import routable, spellings

if TYPE_CHECKING:
    from gateway.cli.models_installed import Installed
    from gateway.store.unit_of_work import Store


def warnings(site: Site, settings: Settings) -> list[str]:
    """List what a valid file may still lack on this machine."""
    missing = without_models(site, settings)
    return [*missing, *of_itself(site), *_without_archive(site), *_unresolved(site)]


def of_itself(site: Site) -> list[str]:
    """List what to think of whatever the machine: it is said in the file alone."""
    return [*unlimited(site), *site.retention.shortened]


def without_models(site: Site, settings: Settings) -> list[str]:
    """List the routes whose model is not in service, and how that is mended."""
    found = _installed(settings)
    lines = [each.line for each in found.listed if each.line]
    return [
        _in_words(route, lines, utc_now().date())
        for route in site.routes
        if route.model not in found.names
    ]


def stopped_routes(site: Site, lines: Sequence[RegisteredModel], day: date) -> list[str]:
    """The same of a site in force, by the register alone, which is quicker than reading files."""
    active = [line.card for line in lines if line.standing(day) is Standing.ACTIVE]
    names = routable((card.name, card.version, card.digest) for card in active)
    return [_in_words(route, lines, day) for route in site.routes if route.model not in names]


def _in_words(route: Route, lines: Sequence[RegisteredModel], day: date) -> str:
    why, brought = _why(route.model, lines, day)
    return (
        f"Route '{route.name}': model {route.model} {why}; its events will be refused "
        f"(model-unavailable) until `nadi models import` brings {brought}."
    )


def _why(model: str, lines: Sequence[RegisteredModel], day: date) -> tuple[str, str]:
    """Why no model of this name is in service, and what would be; the newest of it tells."""
    meant = [line for line in lines if model in spellings(line.card.name, line.card.version)]
    if not meant:
        return "is not in service", "it"
    newest = max(meant, key=lambda line: line.registered_ms)
    standing = newest.standing(day)
    if standing is Standing.RETIRED:
        return f"was retired ({newest.reason.rstrip('.')})", "a newer version"
    if standing is Standing.ACTIVE:  # registered, and its files are not here or were changed
        return "is registered, but its files are not in order", "it again"
    return f"is {standing.value}", "a version that is valid today"


def unlimited(site: Site) -> list[str]:
    """List the routes that would run their model on everything."""
    return [
        f"Route '{route.name}': its match names no criterion, so the model runs on every "
        f"{route.resource_type or 'resource'} of '{route.source}'."
        for route in site.routes
        if names_no_criterion(route.match)
    ]


def _without_archive(site: Site) -> Iterator[str]:
    """List the routes whose images nobody could fetch."""
    for route in site.routes:
        system = site.system(route.source)
        if route.resource_type == "ImagingStudy" and system and not system.dicomweb_address:
            yield (
                f"Route '{route.name}': system '{route.source}' has no dicomweb_url, "
                "so the images of its ImagingStudies can't be fetched and their jobs wait."
            )


def missing_models(site: Site, settings: Settings, *, text: str, source: str) -> list[Problem]:
    """Point at each route of a valid file whose model should be in service and is not.

    Where a file trusts signers, a package may be imported only once the file is in force: there it
    is no problem, but warned of.

    Args:
        site: What the file says.
        settings: They name the folder of models.
        text: The file as it was written.
        source: Its name.
    """
    if site.trust.signers:
        return []
    document, found, day = read_yaml(text, source), _installed(settings), utc_now().date()
    lines = [each.line for each in found.listed if each.line]
    return [
        document.problem(("routes", route.name, "model"), _missing(route.model, lines, day))
        for route in site.routes
        if route.model not in found.names
    ]


def unreachable(site: Site, store: "Store") -> list[str]:
    """Ask each system as `nadi doctor` does, with its credential; list what is wrong with it."""
    from gateway.cli.doctor_ehr import silent  # noqa: PLC0415 - asks by what the workers use

    return silent(site, store)


def _installed(settings: Settings) -> "Installed":
    from gateway.cli.models_installed import installed  # noqa: PLC0415 - reads the packages' manifests

    return installed(settings)


def _missing(model: str, lines: Sequence[RegisteredModel], day: date) -> str:
    why, brought = _why(model, lines, day)
    shown = "`nadi models list --all` shows every model"
    return f"model {model} {why}; `nadi models import` {brought}, or choose another: {shown}"


def _unresolved(site: Site) -> Iterator[str]:
    for system in site.systems.values():
        try:
            _ = system.address and system.base_url
        except ConfigurationError as error:
            yield error.message
