"""B1: validation, microseconds per resource, and whom each side wrongly accepts or refuses.

Nadi (strict JSON, the generated R4 schema, rules), `fhir.resources.R4B` (what a service would do
that uses nothing else) and `jsonschema` on the very schema that Nadi compiles. Decoding is
included; one thread; the same bytes. `jsonschema` knows nothing of the keywords that are Nadi's
own (choices, invariants), so it checks less.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import jsonschema
import orjson
import psutil
from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.observation import Observation
from pydantic import ValidationError

from benchmarks import figures
from benchmarks.documents import Collection, collections, observations
from benchmarks.figures import Figures, Rows, Sample, Turn, by_turns, comparison, condensed
from benchmarks.result import Chart, Result, Scale
from gateway.core import r4_schema
from gateway.core.errors import ContentError, MalformedJson, TooLarge
from gateway.core.fhir import ParseLimits, parse_resource

Judge = Callable[[bytes], bool]

_LIMITS = ParseLimits(max_entries=5000)
_US = 1e6
#: What a judge of JSON alone is asked with has to be nested as deep as it likes.
_DEEP = ParseLimits(max_depth=1000)
_COMPILED_TYPES = 40
_EXAMPLE, _AGAIN = "official example", "official example, its type seen just before"
#: A number with a point, outside of quotes as far as a look at its neighbours tells.
_DECIMAL = re.compile(rb"(?<=[:\[,\s])-?\d+\.\d+(?=[,\s}\]])")


class Crashes:
    """Counts the documents on which fhir.resources raised something else than its own error."""

    count = 0


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
        Crashes.count += 1
        return False
    return True


def by_jsonschema(raw: bytes) -> bool:
    """Ask `jsonschema` with the schema that Nadi compiles."""
    try:
        content = orjson.loads(raw)
        return bool(_schema_of(content["resourceType"]).is_valid(content))
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


@cache
def _schema_of(resource_type: str) -> Any:  # noqa: ANN401 - a validator class made at run time
    schema = orjson.loads(r4_schema._schema(resource_type))  # noqa: SLF001 - a measurement looks inside
    return jsonschema.Draft4Validator(schema)


def _json_by_nadi(raw: bytes) -> bool:
    """Ask whether Nadi takes it for JSON, whatever it says of it as FHIR."""
    try:
        parse_resource(raw, limits=_DEEP)
    except (MalformedJson, TooLarge):
        return False
    except ContentError:
        return True
    return True


def _json_by_fhir_resources(raw: bytes) -> bool:
    """Ask the same of the JSON reader of the R4B models (pydantic's)."""
    try:
        Observation.model_validate_json(raw)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        # Below the document, fhir.resources also tries to read strings as JSON.
        return all(each["type"] != "json_invalid" or each["loc"] for each in found)
    return True


def _json_by_orjson(raw: bytes) -> bool:
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True


JUDGES: Mapping[str, tuple[Judge, Judge]] = {
    "Nadi": (by_nadi, _json_by_nadi),
    "fhir.resources.R4B": (by_fhir_resources, _json_by_fhir_resources),
    "jsonschema": (by_jsonschema, _json_by_orjson),
}


def run(scale: Scale) -> Result:
    """Measure."""
    compilation = _compilation()  # first, while the process is small
    cost, source = _cost(scale)
    known = collections()
    agreement = [(each, _judged(each, scale)) for each in known]
    nadi, models, schema = (cost[name] for name in JUDGES)
    decimals = [each for each in observations(scale.pick(100, 20))[1] if _DECIMAL.search(each)]
    wrong = [right for each, right in agreement if each.name == "official examples"]
    return Result(
        number="B1",
        name="validation",
        title="Validation: µs per resource and agreement, against fhir.resources and jsonschema",
        fairness="The same bytes, decoding included, one thread. jsonschema runs Nadi's own schema "
        "without the rules that a schema can't say; orjson reads the JSON for it. The official "
        "examples are Nadi's worst case: it keeps the validators of 32 types, these are of more "
        "types in turn, so most are compiled anew; the line below is without that.",
        tables={
            f"µs of CPU per Observation ({source}) and per official example": comparison(
                cost, first="document"
            ),
            "Judged as expected": _agreement_rows(agreement),
            "What the first resource of a type costs Nadi": compilation,
        },
        values={
            "nadi_us": nadi["Observation"].median,
            "times_fhir_resources": figures.times(models["Observation"], nadi["Observation"]),
            "times_jsonschema": figures.times(schema["Observation"], nadi["Observation"]),
            **(
                {"times_fhir_resources_again": figures.times(models[_AGAIN], nadi[_AGAIN])}
                if _AGAIN in nadi
                else {}
            ),
            "compile_ms": float(compilation[1][1]),
            "changed_by_nadi": float(sum(map(_changed_by_nadi, decimals))),
            "changed_by_fhir_resources": float(sum(map(_changed_by_fhir_resources, decimals))),
            "documents_kept": float(len(decimals)),
            **({"examples_refused": float(len(known[0].documents) - wrong[0][0])} if wrong else {}),
        },
        charts=[
            Chart(
                "Validation of an Observation",
                "µs of CPU",
                bars={name: each["Observation"].median for name, each in cost.items()},
                is_log=True,
            )
        ],
        skipped=[] if known else ["Agreement: the shared data is not on this machine."],
    )


def _cost(scale: Scale) -> tuple[Figures, str]:
    source, documents = observations(scale.pick(100, 20))
    examples = [each.documents for each in collections() if each.name == "official examples"]
    parts = {"Observation": documents}
    if examples:
        parts[_EXAMPLE] = list(examples[0][:: scale.pick(6, 30)])
    turns: dict[str, Turn] = {name: _turn(judge, parts) for name, (judge, _) in JUDGES.items()}
    for turn in turns.values():
        turn(0)  # what is compiled at the first sight of a type is measured by itself
    taken = by_turns(turns, scale.pick(5, 1), scale.tell, scale.within_s)
    mean = sum(map(len, documents)) / len(documents)
    return condensed(taken), f"{len(documents)} {source}, {mean:.0f} bytes on average"


def _turn(judge: Judge, parts: Mapping[str, Sequence[bytes]]) -> Turn:
    def turn(_: int) -> Sample:
        sample = {name: _us(judge, documents) for name, documents in parts.items()}
        if _EXAMPLE in parts:
            sample[_AGAIN] = _us_again(judge, parts[_EXAMPLE])
        return sample

    return turn


def _us(judge: Judge, documents: Sequence[bytes]) -> float:
    start = time.thread_time()
    for document in documents:
        judge(document)
    return (time.thread_time() - start) / len(documents) * _US


def _us_again(judge: Judge, documents: Sequence[bytes]) -> float:
    """Measure each document right after one of its type, when nothing has to be compiled."""
    spent = 0.0
    for document in documents:
        judge(document)
        start = time.thread_time()
        judge(document)
        spent += time.thread_time() - start
    return spent / len(documents) * _US


def _judged(each: Collection, scale: Scale) -> tuple[int, ...]:
    scale.tell(f"agreement: {each.name}")
    column = int(each.is_json_only)
    return tuple(
        sum(judges[column](document) is each.is_valid for document in each.documents)
        for judges in JUDGES.values()
    )


def _agreement_rows(agreement: Sequence[tuple[Collection, tuple[int, ...]]]) -> Rows:
    rows = [
        (
            *(each.name, str(len(each.documents)), "accepted" if each.is_valid else "refused"),
            *map(str, right),
        )
        for each, right in agreement
    ]
    crashed = f"fhir.resources raised something else than its own error {Crashes.count} times"
    return [("documents", "number", "expected", *JUDGES), *rows, (crashed, "", "", "", "", "")]


def _changed_by_nadi(raw: bytes) -> bool:
    """Say whether what Nadi keeps of a document is another than what it received."""
    return parse_resource(raw, limits=_LIMITS).raw != raw


def _changed_by_fhir_resources(raw: bytes) -> bool:
    """Say whether a decimal leaves the R4B model with other digits than it had."""
    model = Observation.model_validate_json(raw)
    return sorted(_DECIMAL.findall(model.model_dump_json().encode())) != sorted(
        _DECIMAL.findall(raw)
    )


def _compilation() -> Rows:
    r4_schema._validator.cache_clear()  # noqa: SLF001 - a measurement looks inside
    process = psutil.Process()
    before, start = process.memory_info().rss, time.thread_time()
    types = sorted(r4_schema.resource_types())[:_COMPILED_TYPES]
    for name in types:
        r4_schema.is_valid({"resourceType": name})
    took_ms = (time.thread_time() - start) / len(types) * 1e3
    grown_mb = (process.memory_info().rss - before) / len(types) / 1e6
    return [
        ("types", "CPU-ms each", "MB each"),
        (str(len(types)), f"{took_ms:.1f}", f"{grown_mb:.1f}"),
    ]
