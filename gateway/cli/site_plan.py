"""What applying a site file would change, and what to think of before.

The comparison is of what the files mean, not of their text: comments and order don't count.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from adapters.site import Site, System
from adapters.site_model import SiteFile
from adapters.site_trigger import names_no_criterion
from adapters.site_yaml import Problem, read_yaml
from gateway.core.errors import ConfigurationError
from gateway.core.routing import Route
from gateway.settings import Settings

Kind = Literal["added", "removed", "changed"]


@dataclass(frozen=True)
class Change:
    """One difference; `before` or `after` is None where there is none."""

    kind: Kind
    path: str
    before: str | None = None
    after: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """Give it for scripts."""
        return {
            "kind": self.kind,
            "path": self.path,
            "before": self.before,
            "after": self.after,
        }


def changes(before: str | None, after: str) -> list[Change]:
    """Compare the site file in force, None when there is none, with another. Both are valid."""
    old = _meaning(before) if before else {}
    return list(_compare(old, _meaning(after), ""))


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


def _meaning(text: str) -> dict[str, Any]:
    return SiteFile.model_validate(read_yaml(text, "site.yaml").value).model_dump()


def _compare(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[Change]:
    for key in dict.fromkeys((*old, *new)):
        here = f"{path}.{key}" if path else str(key)
        before, after = old.get(key), new.get(key)
        if before == after or not (before or after):
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _compare(before, after, here)
        elif key not in old and isinstance(after, dict) and not path:
            yield from _compare({}, after, here)
        elif isinstance(before, list) and isinstance(after, list):
            yield from _compare_lists(before, after, here)
        else:
            yield _change(here, before, after)


def _compare_lists(old: list[Any], new: list[Any], path: str) -> Iterator[Change]:
    for item in old:
        if item not in new:
            yield Change("removed", path, before=_short(item))
    for item in new:
        if item not in old:
            yield Change("added", path, after=_short(item))


def _change(path: str, before: object, after: object) -> Change:
    if before is None:
        return Change("added", path, after=_short(after))
    if after is None:
        return Change("removed", path, before=_short(before))
    return Change("changed", path, _short(before), _short(after))


def _short(value: object) -> str:
    if isinstance(value, dict):
        parts = (f"{key}: {_short(item)}" for key, item in value.items() if item not in (None, ""))
        return f"{{{', '.join(parts)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_short(item) for item in value)}]"
    if isinstance(value, bool):  # as YAML writes it
        return str(value).lower()
    return " ".join(str(value).split())


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
