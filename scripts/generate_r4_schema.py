"""Generate the schema of FHIR R4 4.0.1 that Nadi validates with.

    python scripts/generate_r4_schema.py DEFINITIONS OUTPUT [--check]

DEFINITIONS is a folder with the official StructureDefinitions (with snapshots), ValueSets and
CodeSystems of hl7.fhir.r4.core 4.0.1 as JSON files. OUTPUT is one compact, gzipped JSON document:

* `definitions`: JSON Schema (draft 4) of every resource, data type and backbone element. Draft 4,
  because there 1.0 is not an integer, as in FHIR;
* `resources`: the names of the concrete resource types;
* `checked` and `unchecked`: the invariants that are written into it, and those that are not.

The same input gives the same bytes. `--check` compares instead of writing.

Source: http://hl7.org/fhir/R4/json.html, http://hl7.org/fhir/R4/datatypes.html.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from r4_invariants import Element, Schema, Untranslatable, translate
from r4_primitives import nullable, primitive

_BASE = "http://hl7.org/fhir/StructureDefinition/"
_SYSTEM = "http://hl7.org/fhirpath/System."

# Invariants that gateway/core/r4_rules.py has in Python, because schemas can't say them, and the
# properties without which they hold anyway.
PYTHON_RULES: dict[str, tuple[str, ...]] = {
    "bdl-3": ("entry",),
    "bdl-4": ("entry",),
    "bdl-7": ("entry",),
    "bdl-8": ("fullUrl",),
    "bdl-11": (),
    "bdl-12": (),
    "obs-7": ("component",),
    "per-1": ("start", "end"),
    "ras-2": ("probabilityDecimal",),
    "rng-2": ("low", "high"),
}
# Held by the schema of Element, Resource and Narrative themselves, or by r4_rules.py for each
# resource as a whole.
BUILT_IN = ("ele-1", "dom-2", "dom-3", "dom-4", "dom-5", "ref-1", "txt-1", "txt-2")


def main() -> int:
    """Write the artefact, or say whether the one that is there is what the definitions give."""
    parser = argparse.ArgumentParser(description="Generate the FHIR R4 validation schema.")
    parser.add_argument("definitions", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--check", action="store_true", help="compare, do not write")
    arguments = parser.parse_args()
    artefact = Generator(arguments.definitions).artefact()
    text = json.dumps(artefact, sort_keys=True, separators=(",", ":")).encode()
    if arguments.check:
        return 0 if gzip.decompress(arguments.output.read_bytes()) == text else 1
    arguments.output.write_bytes(gzip.compress(text, compresslevel=9, mtime=0))
    counts = {name: len(part) for name, part in artefact.items() if not isinstance(part, str)}
    print(f"{len(text)} bytes, {arguments.output.stat().st_size} gzipped: {counts}")
    return 0


class Generator:
    """Reads the definitions of one folder and makes the artefact of them."""

    def __init__(self, folder: Path) -> None:
        self._structures = _read(folder, "StructureDefinition", key="id")
        self._value_sets = _read(folder, "ValueSet", key="url")
        self._code_systems = _read(folder, "CodeSystem", key="url")
        self._definitions: dict[str, Schema] = {}
        self._checked: set[str] = set()
        self._unchecked: set[str] = set()

    @cached_property
    def _resources(self) -> list[str]:
        return sorted(n for n, s in self._structures.items() if s["kind"] == "resource")

    @cached_property
    def _concrete(self) -> list[str]:
        return [n for n in self._resources if not self._structures[n]["abstract"]]

    @cached_property
    def _elements(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Definition name -> last part of the path -> ElementDefinition."""
        owners: dict[str, dict[str, dict[str, Any]]] = {}
        for structure in self._structures.values():
            for element in structure["snapshot"]["element"]:
                owner, _, name = element["path"].rpartition(".")
                if owner:
                    owners.setdefault(owner, {})[name] = element
        return owners

    @cached_property
    def _primitives(self) -> frozenset[str]:
        kinds = self._structures.items()
        return frozenset(n for n, s in kinds if s["kind"] == "primitive-type")

    def artefact(self) -> dict[str, Any]:
        """Give the whole document."""
        for name in sorted(self._primitives):
            self._define(name, primitive(name))
        self._definitions["resource-type"] = {"enum": self._concrete}
        self._definitions["typed-reference"] = {"pattern": _reference_to(self._concrete)}
        for _, structure in sorted(self._structures.items()):
            if structure["kind"] in {"complex-type", "resource"}:
                for element in structure["snapshot"]["element"]:
                    if element["path"] in self._elements:
                        self._definitions[element["path"]] = self._object(element, structure)
        self._simple_quantity()
        return {
            "fhirVersion": "4.0.1",
            "definitions": self._definitions,
            "checked": sorted(self._checked),
            "resources": self._concrete,
            "unchecked": sorted(self._unchecked),
        }

    def _define(self, name: str, schema: Schema) -> None:
        """Keep a primitive under its name, and under `name?` the form that may be null."""
        self._definitions[name] = schema
        self._definitions[f"{name}?"] = nullable(schema)

    def _simple_quantity(self) -> None:
        """Quantity without comparator (sqty-1), which elements name as a profile."""
        schema = json.loads(json.dumps(self._definitions["Quantity"]))
        for name in ("comparator", "_comparator"):
            del schema["properties"][name]
        self._definitions["SimpleQuantity"] = schema

    def _object(self, element: dict[str, Any], structure: dict[str, Any]) -> Schema:
        owner = element["path"]
        is_resource = structure["kind"] == "resource" and owner == structure["id"]
        properties: Schema = {"resourceType": {"enum": [owner]}} if is_resource else {}
        required: list[str] = ["resourceType"] if is_resource else []
        # "Element" itself is only used for `_name`, where an id alone may stand beside a value.
        rules: list[Schema] = [] if is_resource or owner == "Element" else [_NOT_ONLY_ID]
        choices: dict[str, str] = {}
        for name, child in self._elements[owner].items():
            shape = self._shape(owner, name)
            properties.update(self._properties(owner, name, child))
            if name.endswith("[x]"):
                choices |= dict.fromkeys(shape.values, name.removesuffix("[x]"))
            if child["min"] > 0:
                _require(shape, name.removesuffix("[x]"), required, rules)
        rules += self._rules(element)
        schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
        if not is_resource:
            schema["minProperties"] = 1
        if required:
            schema["required"] = required
        if rules:
            schema["allOf"] = rules
        if choices:
            schema["fhirChoice"] = choices
        return schema

    def _rules(self, element: dict[str, Any]) -> list[Schema]:
        """Make the schemas of an object's own invariants."""
        rules: list[Schema] = []
        for constraint in element.get("constraint", []):
            key = constraint["key"]
            if constraint["severity"] != "error" or key in BUILT_IN:
                continue
            try:
                rule = self._rule(key, constraint["expression"], element["path"])
            except Untranslatable:
                self._unchecked.add(f"{element['path']} {key}")
                continue
            rules.append({"title": key, "description": constraint["human"], **rule})
            self._checked.add(f"{element['path']} {key}")
        return rules

    def _rule(self, key: str, expression: str, owner: str) -> Schema:
        if key in PYTHON_RULES:
            rule: Schema = {"fhirInvariant": key}
            for name in PYTHON_RULES[key]:
                rule = {"dependencies": {name: rule}}
            return rule
        return translate(expression, owner, self._find)

    def _find(self, owner: str, name: str) -> Element | None:
        known = self._elements.get(owner, {})
        for spelling in (name, f"{name}[x]"):
            if spelling in known:
                return self._shape(owner, spelling)
        return None

    def _shape(self, owner: str, name: str) -> Element:
        element = self._elements[owner][name]
        values: list[str] = []
        shadows: list[str] = []
        definition: str | None = None
        for code, key in self._types(owner, name):
            values.append(key)
            if code in self._primitives:
                shadows.append(f"_{key}")
            else:
                definition = code
        single = definition if len(values) == 1 else None
        return Element(
            properties=(*values, *shadows),
            values=tuple(values),
            repeats=element["max"] != "1",
            definition=single if single in self._elements else None,
        )

    def _types(self, owner: str, name: str) -> Iterator[tuple[str, str]]:
        """Give the definition name and the JSON property of each type an element may have."""
        element = self._elements[owner][name]
        if "contentReference" in element:
            yield element["contentReference"].removeprefix("#"), name
            return
        for kind in element["type"]:
            code = kind["code"]
            if code.startswith(_SYSTEM):
                yield self._system_type(owner, name), name
                continue
            target = (
                "SimpleQuantity" if f"{_BASE}SimpleQuantity" in kind.get("profile", ()) else code
            )
            if code in {"BackboneElement", "Element"} and element["path"] in self._elements:
                target = element["path"]
            stem = name.removesuffix("[x]")
            yield target, stem + code[0].upper() + code[1:] if name != stem else name

    def _system_type(self, owner: str, name: str) -> str:
        """Name the type of the few elements that XML writes as attributes."""
        if name == "url":
            return "uri-attribute"
        return "id-attribute" if owner in self._resources else "string-attribute"

    def _properties(self, owner: str, name: str, element: dict[str, Any]) -> Schema:
        found: Schema = {}
        for code, key in self._types(owner, name):
            primitive = code in self._primitives
            value = self._value_schema(code, element)
            if element["max"] == "1":
                found[key] = value
            else:
                if primitive:
                    value = {"$ref": f"{value['$ref']}?"}
                found[key] = {"type": "array", "minItems": 1, "items": value}
            if primitive:
                shadow: Schema = {"$ref": "#/definitions/Element"}
                if element["max"] != "1":
                    shadow = {"anyOf": [shadow, {"type": "null"}]}
                    shadow = {"type": "array", "minItems": 1, "items": shadow}
                found[f"_{key}"] = shadow
        return found

    def _value_schema(self, code: str, element: dict[str, Any]) -> Schema:
        if code.endswith("-attribute"):
            return {"$ref": f"#/definitions/{code.removesuffix('-attribute')}"}
        if code == "Resource":
            return _ANY_RESOURCE
        binding = element.get("binding", {})
        if binding.get("strength") == "required":
            bound = self._bound(code, binding.get("valueSet", ""))
            if bound is not None:
                return bound
        schema: Schema = {"$ref": f"#/definitions/{code}"}
        if code == "Reference":
            targets = self._targets(element)
            if targets:
                return {"allOf": [schema, _target_rule(targets)]}
        return schema

    def _targets(self, element: dict[str, Any]) -> list[str]:
        kinds = [k for k in element["type"] if k["code"] == "Reference"]
        names = {t.removeprefix(_BASE) for k in kinds for t in k.get("targetProfile", ())}
        return [] if "Resource" in names else sorted(names)

    def _bound(self, code: str, url: str) -> Schema | None:
        """Make the schema of a required binding, if its codes are all known."""
        value_set = self._value_sets.get(url.split("|", maxsplit=1)[0])
        pairs = self._codes(value_set) if value_set else None
        if pairs is None:
            return None
        name = f"{code}:{value_set['id']}" if value_set else code
        if code == "code" and name not in self._definitions:
            self._define(name, {"enum": sorted({c for _, c in pairs})})
        elif code == "CodeableConcept":
            self._definitions[name] = _concept_of(pairs)
        elif code != "code":
            return None
        return {"$ref": f"#/definitions/{name}"}

    def _codes(self, value_set: dict[str, Any]) -> list[tuple[str, str]] | None:
        """List (system, code) of a value set, or None if it needs a terminology server."""
        compose = value_set["compose"]
        pairs: list[tuple[str, str]] = []
        if "exclude" in compose:
            return None
        for include in compose["include"]:
            concepts = include.get("concept")
            if "filter" in include or "valueSet" in include:
                return None
            if concepts is None:
                system = self._code_systems.get(include["system"])
                if system is None or system["content"] != "complete":
                    return None
                concepts = list(_concepts(system["concept"]))
            pairs += [(include["system"], concept["code"]) for concept in concepts]
        return pairs


# Nested resources are checked one by one, by the schema of their own type.
_ANY_RESOURCE: Schema = {}
# ele-1: an id alone is no content.
_NOT_ONLY_ID: Schema = {"title": "ele-1", "not": {"required": ["id"], "maxProperties": 1}}


def _read(folder: Path, kind: str, *, key: str) -> dict[str, dict[str, Any]]:
    files = sorted(folder.glob(f"{kind}-*.json"))
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    return {document[key]: document for document in documents}


def _reference_to(types: list[str]) -> str:
    """Make the pattern of literal references, relative or absolute, that tell one of the types."""
    version = "(/_history/[A-Za-z0-9.-]+)?"
    return f"(^|/)({'|'.join(types)})(/[A-Za-z0-9.-]+{version}|[?].*)$"


def _target_rule(types: list[str]) -> Schema:
    """Refuse references that tell a type which their element does not allow.

    `urn:uuid:` and `#contained` references tell none, nor do addresses of other servers.
    """
    untyped = {"not": {"$ref": "#/definitions/typed-reference"}}
    unknown = {"not": {"$ref": "#/definitions/resource-type"}}
    return {
        "title": "target",
        "description": ", ".join(types),
        "properties": {
            "reference": {"anyOf": [untyped, {"pattern": _reference_to(types)}]},
            "type": {"anyOf": [unknown, {"enum": types}]},
        },
    }


def _require(shape: Element, name: str, required: list[str], rules: list[Schema]) -> None:
    """Ask for an element: a primitive is also there when only its extensions are."""
    if len(shape.properties) == 1:
        required.append(name)
        return
    present: list[Schema] = []
    for key in shape.properties:
        alone: Schema = {"required": ["extension"]}
        shadow = {"properties": {key: {"anyOf": [alone, {"type": "array"}]}}}
        present.append({"required": [key], **(shadow if key.startswith("_") else {})})
    rules.append({"title": f"required {name}", "anyOf": present})


def _concepts(concepts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for concept in concepts:
        yield concept
        yield from _concepts(concept.get("concept", []))


def _concept_of(pairs: list[tuple[str, str]]) -> Schema:
    """Make the schema of a CodeableConcept with a coding of a required value set."""
    by_system: dict[str, list[str]] = {}
    for system, code in pairs:
        by_system.setdefault(system, []).append(code)
    matches = [
        {
            "required": ["system", "code"],
            "properties": {"system": {"enum": [system]}, "code": {"enum": sorted(set(codes))}},
        }
        for system, codes in sorted(by_system.items())
    ]
    has_one = {"coding": {"not": {"items": {"not": {"anyOf": matches}}}}}
    bound = {
        "anyOf": [{"required": ["extension"]}, {"required": ["coding"], "properties": has_one}]
    }
    return {"allOf": [{"$ref": "#/definitions/CodeableConcept"}, {"title": "binding", **bound}]}


if __name__ == "__main__":
    sys.exit(main())
