"""Measure what Nadi's validation and `fhir.resources` accept and refuse; print it as tables.

    python scripts/measure_validation.py DATA

DATA is a folder with `r4-examples`, `validator-cases`, `json-test-suite`, `r4-primitives` and
`synthea`. The tables go into docs/validation.md. Times are of one thread of this machine: compare
the two, don't quote them.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson
import psutil
from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.observation import Observation
from pydantic import ValidationError

from gateway.core import r4_schema
from gateway.core.errors import ContentError, MalformedJson, TooLarge
from gateway.core.fhir import ParseLimits, parse_resource

Accepts = Callable[[bytes], bool]
CRASHES: list[bytes] = []
_LIMITS = ParseLimits(max_entries=5000)
_HOLDER = b'{"resourceType":"Observation","status":"final","code":{"text":"x"},%s}'
_PRIMITIVES = {
    "base64_binary": "valueBase64Binary",
    "canonical": "valueCanonical",
    "code": "valueCode",
    "date": "valueDate",
    "decimal": "valueDecimal",
    "instant": "valueInstant",
    "markdown": "valueMarkdown",
    "oid": "valueOid",
    "positive_int": "valuePositiveInt",
    "string": "valueString",
    "unsigned_int": "valueUnsignedInt",
    "uri": "valueUri",
    "url": "valueUrl",
    "uuid": "valueUuid",
}


def well_formed_by_nadi(raw: bytes) -> bool:
    """Ask whether Nadi takes it for JSON, whatever it says of it as FHIR."""
    try:
        parse_resource(raw, limits=ParseLimits(max_depth=1000))
    except (MalformedJson, TooLarge):
        return False
    except ContentError:
        return True
    return True


def well_formed_by_fhir_resources(raw: bytes) -> bool:
    """Ask the same of the JSON reader of the R4B models (pydantic's)."""
    try:
        Observation.model_validate_json(raw)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        # Below the document, fhir.resources also tries to read strings as JSON.
        return all(each["type"] != "json_invalid" or each["loc"] for each in found)
    return True


def by_nadi(raw: bytes) -> bool:
    """Ask gateway.core.fhir."""
    try:
        parse_resource(raw, limits=_LIMITS)
    except ContentError:
        return False
    return True


def by_fhir_resources(raw: bytes) -> bool:
    """Ask the R4B models of fhir.resources, as a service would that uses nothing else."""
    try:
        content = json.loads(raw)
        get_fhir_model_class(content["resourceType"]).model_validate_json(raw)
    except (ValueError, LookupError):  # ValidationError is a ValueError
        return False
    except (AttributeError, TypeError, RecursionError):  # its validators raise these as they are
        CRASHES.append(raw)
        return False
    return True


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Measure agreement and cost of validation.")
    parser.add_argument("data", type=Path)
    data: Path = parser.parse_args().data
    _print_compilation()  # first, while the process is small
    print("| documents | expected | Nadi | fhir.resources.R4B |\n|---|---|---|---|")
    for name, expected, documents in _collections(data):
        _print_row(name, expected, list(documents), (by_nadi, by_fhir_resources))
    json_judges = (well_formed_by_nadi, well_formed_by_fhir_resources)
    for name, expected, documents in _json_suite(data / "json-test-suite"):
        _print_row(name, expected, list(documents), json_judges)
    print(f"\nfhir.resources raised something else than a ValidationError {len(CRASHES)} times.")
    _print_cost(data)
    return 0


def _collections(data: Path) -> Iterable[tuple[str, str, Iterable[bytes]]]:
    yield "official examples", "accepted", _read((data / "r4-examples").glob("[A-Z]*.json"))
    yield "Synthea Bundles", "accepted", _read((data / "synthea").glob("*.json"))
    cases = _cases(data / "validator-cases")
    for verdict, expected in (("valid", "accepted"), ("invalid", "refused")):
        files = (data / "validator-cases" / name for name, each in cases if each == verdict)
        yield f"validator cases, {verdict}", expected, _read(files)
    for verdict, expected in (("valid", "accepted"), ("invalid", "refused")):
        lines = _primitive_lines(data / "r4-primitives", verdict)
        yield f"primitive values, {verdict}", expected, lines


def _read(paths: Iterable[Path]) -> Iterable[bytes]:
    return (path.read_bytes() for path in sorted(paths))


def _cases(folder: Path) -> list[tuple[str, str]]:
    with (folder / "cases.csv").open(encoding="utf-8") as file:
        rows = [(row["file"], row["verdict"]) for row in csv.DictReader(file)]
    # A file with both verdicts depends on the validator's options: no measure.
    ambiguous = {name for name, _ in rows if len({v for n, v in rows if n == name}) > 1}
    return sorted({row for row in rows if row[0] not in ambiguous})


def _json_suite(folder: Path) -> Iterable[tuple[str, str, Iterable[bytes]]]:
    for letter, name, expected in (("y", "well-formed", "accepted"), ("n", "malformed", "refused")):
        documents = _read(folder.glob(f"{letter}_*.json"))
        inside = (_HOLDER % (b'"note":%s' % document) for document in documents)
        yield f"json-test-suite in an Observation, {name}", expected, inside


def _print_row(
    name: str, expected: str, documents: list[bytes], judges: tuple[Accepts, ...]
) -> None:
    accepted = [sum(map(judge, documents)) for judge in judges]
    right = [len(documents) - n if expected == "refused" else n for n in accepted]
    print(f"| {name} ({len(documents)}) | {expected} | {' | '.join(map(str, right))} |")


def _primitive_lines(folder: Path, verdict: str) -> Iterable[bytes]:
    for kind, name in _PRIMITIVES.items():
        path = folder / f"{kind}.{verdict}.ndjson"
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            if line and line != "null":  # null stands for "absent" there
                yield _HOLDER % f'"extension":[{{"url":"u","{name}":{line}}}]'.encode()


def _print_cost(data: Path) -> None:
    """Time both on the Observations of the Synthea Bundles."""
    bundles = [orjson.loads(raw) for raw in _read((data / "synthea").glob("*.json"))]
    found = [entry["resource"] for bundle in bundles for entry in bundle["entry"]]
    documents = [orjson.dumps(each) for each in found if each["resourceType"] == "Observation"]
    best = [min(_round(judge, documents) for _ in range(5)) for judge in (by_nadi, _model)]
    mean = sum(map(len, documents)) / len(documents)
    print(
        f"\n{len(documents)} Synthea Observations of {mean:.0f} bytes, µs each, best of 5 rounds:"
    )
    print(f"Nadi {best[0]:.0f}, fhir.resources {best[1]:.0f}, ratio {best[1] / best[0]:.1f}")


def _model(raw: bytes) -> bool:
    Observation.model_validate_json(raw)
    return True


def _round(judge: Accepts, documents: list[bytes]) -> float:
    start = time.perf_counter()
    for document in documents:
        judge(document)
    return (time.perf_counter() - start) / len(documents) * 1e6


def _print_compilation() -> None:
    """Measure what the first resource of a type costs."""
    r4_schema._validator.cache_clear()  # noqa: SLF001 - a measurement looks inside
    process = psutil.Process()
    before, start = process.memory_info().rss, time.perf_counter()
    types = sorted(r4_schema.resource_types())[:40]
    for name in types:
        r4_schema.is_valid({"resourceType": name})
    took_ms = (time.perf_counter() - start) / len(types) * 1e3
    grown_mb = (process.memory_info().rss - before) / len(types) / 1e6
    print(
        f"\nCompiling a validator: {took_ms:.1f} ms, {grown_mb:.1f} MB (mean of {len(types)} types)"
    )


if __name__ == "__main__":
    sys.exit(main())
