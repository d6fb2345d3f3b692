"""The invariants that became JSON Schema say the same as their FHIRPath.

Objects of the official examples are changed at random (elements taken away, others of the same
type put in); `fhirpathpy` evaluates the official expression on each, the schema its translation.
"""

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from fhirpathpy import compile as compile_fhirpath

REPOSITORY = Path(__file__).resolve().parents[4]
DATA = REPOSITORY / ".." / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared test data is absent")

UCUM = "'http://unitsofmeasure.org'"
CHANGED_PER_DEFINITION = 12
# fhirpathpy raises on hasValue(), which these need.
NOT_EVALUATED = {"age-1", "bdl-10"}


def test_translated_invariants_agree_with_fhirpath() -> None:
    artefact = json.loads(
        gzip.decompress((REPOSITORY / "gateway/core/data/r4-schema.json.gz").read_bytes())
    )
    definitions = artefact["definitions"]
    expressions, found = official_expressions(), examples_by_definition(definitions)
    chance = random.Random(4)  # noqa: S311 - not for secrets
    compared, broken, disagreements = set(), set(), []

    for name, rules in translated(definitions).items():
        for element in changed(found.get(name, []), definitions[name], chance):
            for key, rule in rules.items():
                owner = name.replace("SimpleQuantity", "Quantity")
                expression = expressions[owner, key].replace("%ucum", UCUM).replace(f"{name}.", "")
                result = compile_fhirpath(expression)(
                    as_fhirpath_sees_it(element, definitions[name])
                )
                holds = bool(result) and result[0] is True
                compared.add((name, key))
                broken |= set() if holds else {(name, key)}
                if rule.is_valid(element) is not holds:
                    disagreements.append((name, key))

    assert disagreements == []
    assert len(compared) > 70
    assert len(broken) > 30


def official_expressions() -> dict[tuple[str, str], str]:
    found = {}
    for path in (DATA / "r4-definitions").glob("StructureDefinition-*.json"):
        for element in json.loads(path.read_bytes())["snapshot"]["element"]:
            for constraint in element.get("constraint", []):
                found[element["path"], constraint["key"]] = constraint["expression"]
    return found


def translated(definitions: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Definition to its invariants that are plain JSON Schema."""
    found: dict[str, dict[str, Any]] = {}
    for name, definition in definitions.items():
        for rule in definition.get("allOf", []):
            key = rule.get("title", "")
            is_plain = "description" in rule and "fhirInvariant" not in json.dumps(rule)
            if is_plain and key not in NOT_EVALUATED:
                schema = {part: rule[part] for part in rule.keys() - {"title", "description"}}
                found.setdefault(name, {})[key] = jsonschema_rs.Draft4Validator(schema)
    return found


def examples_by_definition(definitions: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((DATA / "r4-examples").glob("[A-Z]*.json")):
        content = json.loads(path.read_bytes())
        for name, element in typed(content, content["resourceType"], definitions):
            found.setdefault(name, []).append(element)
    return found


def typed(
    element: Any, name: str | None, definitions: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every object of a resource with the name of its definition."""
    if not isinstance(element, dict) or name not in definitions:
        return
    yield name, element
    for key, value in element.items():
        kind = type_of(definitions[name].get("properties", {}).get(key, {}))
        for item in value if isinstance(value, list) else [value]:
            nested = item.get("resourceType") if isinstance(item, dict) else None
            yield from typed(item, nested or kind, definitions)


def type_of(schema: dict[str, Any]) -> str | None:
    schema = schema.get("items", schema)
    choices = [schema, *schema.get("allOf", []), *schema.get("anyOf", [])]
    names = [c["$ref"].removeprefix("#/definitions/") for c in choices if "$ref" in c]
    return names[0].partition(":")[0].removesuffix("?") if names else None


def changed(
    pool: list[dict[str, Any]], definition: dict[str, Any], chance: random.Random
) -> Iterator[dict[str, Any]]:
    """Make new objects of the parts of those there are, each with its required elements."""
    parts = [(key, value) for element in pool for key, value in element.items()]
    titles = [rule.get("title", "") for rule in definition.get("allOf", [])]
    required = {title.removeprefix("required ") for title in titles if title[:9] == "required "}
    required |= set(definition.get("required", []))
    for _ in range(CHANGED_PER_DEFINITION if pool else 0):
        base = chance.choice(pool)
        kept = {key: value for key, value in base.items() if chance.random() > 0.35}
        element = kept | dict(chance.sample(parts, min(len(parts), chance.randint(0, 3))))
        if element and required <= as_fhirpath_sees_it(element, definition).keys():
            yield element


def as_fhirpath_sees_it(element: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    """Name the elements: `value` for `valueString`, `status` for `_status`."""
    choices = definition.get("fhirChoice", {})
    names = {key: key.removeprefix("_") for key in element}
    return {choices.get(names[key], names[key]): value for key, value in element.items()}
