"""What to think of before a site file is applied: what it asks for and this machine lacks."""

from collections.abc import Iterator

import httpx

from adapters.site import Site, System
from adapters.site_trigger import names_no_criterion
from adapters.site_yaml import Problem, read_yaml
from gateway.core.errors import ConfigurationError
from gateway.core.routing import Route
from gateway.settings import Settings


def warnings(site: Site, settings: Settings) -> list[str]:
    """List what a valid file may still lack on this machine."""
    missing = without_models(site, settings)
    return [*missing, *unlimited(site), *_without_archive(site), *_unresolved(site)]


def without_models(site: Site, settings: Settings) -> list[str]:
    """List the routes whose model is not in service yet."""
    return [
        f"Route '{route.name}': model {route.model} is not in service; its events will be refused "
        "(model-unavailable) until `nadi models import` brings it."
        for route in _without_model(site, settings)
    ]


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
    document = read_yaml(text, source)
    return [
        document.problem(
            ("routes", route.name, "model"),
            f"model {route.model} is not in service; `nadi models list` shows those that are",
        )
        for route in _without_model(site, settings)
    ]


def unreachable(site: Site, *, timeout_s: float = 5.0) -> list[str]:
    """Ask each system for its CapabilityStatement; list those that don't answer."""
    return [why for system in site.systems.values() if (why := _try(system, timeout_s))]


def _without_model(site: Site, settings: Settings) -> list[Route]:
    from gateway.cli.models_installed import installed  # noqa: PLC0415 - reads the packages' manifests

    names = installed(settings).names
    return [route for route in site.routes if route.model not in names]


def _unresolved(site: Site) -> Iterator[str]:
    for system in site.systems.values():
        try:
            _ = system.base_url
            if system.token:
                system.token.resolve()
        except ConfigurationError as error:
            yield f"{error.message} Set it for the processes of Nadi."


def _try(system: System, timeout_s: float) -> str | None:
    try:
        url = f"{system.base_url}/metadata"
        answer = httpx.get(url, timeout=timeout_s, params={"_summary": "true"})
    except (httpx.HTTPError, ConfigurationError) as error:
        return f"System '{system.name}' can't be reached ({type(error).__name__})."
    if answer.status_code == httpx.codes.OK:
        return None
    return f"System '{system.name}' answered {answer.status_code} to {url}."
