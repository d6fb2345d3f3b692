"""What may stand where in a site file, read off the models themselves: no list is kept by hand.

The models' JSON Schema says it all: keys, alternatives and their tags, names that are free, words
of a vocabulary, and which texts are files (`format`). A place is found by its keys, or by the
location that pydantic gives, which holds the tags of alternatives besides.

Source: JSON Schema 2020-12; pydantic's JSON Schema of tagged unions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from adapters.site_model import SiteFile
from adapters.site_yaml import Path

Schema = Mapping[str, Any]

_NOTHING: Schema = {}
#: How pydantic says that not a value is meant, but the key that it stands under.
_KEY = "[key]"


@dataclass(frozen=True)
class Place:
    """One place of a site file.

    Attributes:
        path: Its keys.
        schema: What may stand there.
        mapping: What may stand in the mapping, or list, around it.
        is_key: The key itself is meant, not what stands under it.
    """

    path: Path = ()
    schema: Schema = field(default_factory=dict)
    mapping: Schema = field(default_factory=dict)
    is_key: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """The words that may stand there; none where anything may."""
        return tuple(_words(self.schema))

    @property
    def siblings(self) -> tuple[str, ...]:
        """The keys that may stand beside it."""
        return tuple(_opened(self.mapping).get("properties", ()))


def located(location: Sequence[str | int]) -> Place:
    """Find a place by pydantic's location: the file's keys, and the tags of alternatives."""
    place = Place(schema=_root())
    for step in location:
        here = _opened(place.schema)
        if step == _KEY:
            place = Place(place.path, place.mapping.get("propertyNames", _NOTHING), is_key=True)
        elif "oneOf" in here:
            place = Place(place.path, _alternative(here, str(step)), place.mapping)
        else:
            place = Place((*place.path, step), _inside(here, step), here)
    return place


def values(written: object) -> Iterator[tuple[Place, object]]:
    """Walk a valid file: every value that is no mapping and no list, with its place."""
    yield from _walked(Place(schema=_root()), written)


def _walked(place: Place, written: object) -> Iterator[tuple[Place, object]]:
    here = _opened(place.schema)
    if "oneOf" in here:
        here = _alternative(here, _tag(here, written))
    if isinstance(written, dict | list):
        steps = written.items() if isinstance(written, dict) else enumerate(written)
        for step, inner in steps:
            yield from _walked(Place((*place.path, step), _inside(here, step), here), inner)
    else:
        yield Place(place.path, here, place.mapping), written


@cache
def _root() -> Schema:
    return SiteFile.model_json_schema()


def _opened(schema: Schema) -> Schema:
    """Follow a reference, and leave out that nothing may stand there."""
    if "$ref" in schema:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        name = str(schema["$ref"]).rpartition("/")[2]
        return _opened({**_root()["$defs"][name], **rest})
    some = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    return _opened({**schema, **some[0], "anyOf": ()}) if len(some) == 1 else schema


def _inside(schema: Schema, step: str | int) -> Schema:
    """Give what may stand under a key, or at a position of a list."""
    if isinstance(step, int):
        return _schema(schema.get("items"))
    properties = schema.get("properties", {})
    free = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
    return _schema(properties.get(step, free[0]))


def _schema(found: object) -> Schema:
    """Take what says something; `true` and `false` say nothing of what stands there."""
    return found if isinstance(found, dict) else _NOTHING


def _alternative(schema: Schema, tag: str) -> Schema:
    """Choose by a tag; where it is none of them, nothing is known."""
    mapping = schema.get("discriminator", {}).get("mapping", {})
    if tag in mapping:
        return _opened({"$ref": mapping[tag]})
    every = [_opened(each) for each in schema["oneOf"]]
    # What has settings comes first: `push` is a word too, and what is asked for are the settings.
    by_key = [each for each in every if tag in _only_key(each)]
    return next(iter([*by_key, *(each for each in every if tag in _words(each))]), _NOTHING)


def _tag(schema: Schema, written: object) -> str:
    """Give what a value would be chosen by: its kind, its first key, or itself."""
    if isinstance(written, dict):
        name = schema.get("discriminator", {}).get("propertyName")
        written = written.get(name) if name else next(iter(written), None)
    return written if isinstance(written, str) else ""


def _words(schema: Schema) -> Iterator[str]:
    here = _opened(schema)
    words = here.get("enum", [here["const"]] if "const" in here else ())
    yield from (word for word in words if isinstance(word, str))
    if "discriminator" in here:
        yield from here["discriminator"]["mapping"]
        return
    for each in map(_opened, here.get("oneOf", ())):
        yield from (*_words(each), *_only_key(each))


def _only_key(schema: Schema) -> tuple[str, ...]:
    """Give the key of an alternative that has one key and no more."""
    keys = tuple(schema.get("properties", ()))
    return keys if len(keys) == 1 else ()


def word_of(place: Place, written: object) -> str:
    """Give the word that was written where one of `place.words` may stand; empty where none."""
    if place.is_key:
        return str(place.path[-1])
    return _tag(_opened(place.schema), written)
