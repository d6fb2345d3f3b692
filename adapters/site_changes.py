"""What one site file changes against another.

The comparison is of what the files mean, not of their text: comments and order don't count.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from adapters.site_model import SiteFile
from adapters.site_yaml import read_yaml

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
