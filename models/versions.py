"""Which of several versions of a model a route means.

A route names a model by any part of its version: `ckd-risk@1`, `@1.0` or `@1.0.0`. Of the versions
that fit, the newest answers.

Source: Semantic Versioning 2.0.0, section 11 (precedence).
"""

from collections.abc import Iterable


def precedence(version: str) -> tuple[int, ...]:
    """What versions are compared by: 1.10.0 is newer than 1.9.0."""
    return tuple(int(part) for part in version.split("."))


def spellings(name: str, version: str) -> tuple[str, ...]:
    """Every way in which a route may name a model, the shortest first."""
    parts = version.split(".")
    return tuple(f"{name}@{'.'.join(parts[: count + 1])}" for count in range(len(parts)))


def routable(models: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Say which digest each name means.

    Args:
        models: Name, version and digest of the models in service.
    """
    oldest_first = sorted(models, key=lambda model: precedence(model[1]))
    return {
        spelling: digest
        for name, version, digest in oldest_first
        for spelling in spellings(name, version)
    }
