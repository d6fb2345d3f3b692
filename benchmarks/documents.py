"""Documents with a known verdict, for validation: official examples, validator cases, primitives.

They lie in the shared data beside the repository, which not everybody has. Without them only the
events of the benchmarks' own workload are measured.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from benchmarks.workload import make_workload

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
#: Official examples that break R4 themselves; docs/validation.md says how.
_BROKEN = (
    *("DeviceUseStatement-example", "MedicationRequest-medrx0301"),
    *("Observation-clinical-gender", "Questionnaire-qs1"),
)
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


@dataclass(frozen=True)
class Collection:
    """Documents of one kind.

    Attributes:
        is_valid: Whether they are to be accepted.
        is_json_only: Whether only the JSON is in question, whatever it means as FHIR.
    """

    name: str
    documents: tuple[bytes, ...]
    is_valid: bool
    is_json_only: bool = False


def collections(data: Path = DATA) -> list[Collection]:
    """Give every collection that is at hand; none where the shared data is not."""
    if not data.is_dir():
        return []
    found = [
        *_examples(data / "r4-examples"),
        Collection("Synthea Bundles", _read((data / "synthea").glob("*.json")), is_valid=True),
    ]
    for verdict in ("valid", "invalid"):
        is_valid = verdict == "valid"
        cases = _cases(data / "validator-cases", verdict)
        found.append(Collection(f"validator cases, {verdict}", cases, is_valid=is_valid))
        lines = tuple(_primitives(data / "r4-primitives", verdict))
        found.append(Collection(f"primitive values, {verdict}", lines, is_valid=is_valid))
    return [*found, *_json_suite(data / "json-test-suite")]


def observations(most: int, data: Path = DATA) -> tuple[str, list[bytes]]:
    """Give Observations to time, and where they are from.

    Args:
        most: How many at most.
        data: The shared data; without it they are those of the workload.
    """
    bundles = [orjson.loads(raw) for raw in _read((data / "synthea").glob("*.json"))]
    found = [entry["resource"] for bundle in bundles for entry in bundle["entry"]]
    documents = [orjson.dumps(each) for each in found if each["resourceType"] == "Observation"]
    if documents:
        return "Synthea", documents[:: max(1, len(documents) // most)][:most]
    load = make_workload(most, seed=1, now=datetime.now(UTC).replace(microsecond=0))
    return "of the workload", [post.body for post in load.triggers]


def _read(paths: Iterable[Path]) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(paths))


def _examples(folder: Path) -> Iterator[Collection]:
    paths = sorted(folder.glob("[A-Z]*.json"))
    broken = [path for path in paths if path.stem in _BROKEN]
    sound = _read(path for path in paths if path not in broken)
    yield Collection("official examples", sound, is_valid=True)
    yield Collection("official examples that break R4", _read(broken), is_valid=False)


def _cases(folder: Path, wanted: str) -> tuple[bytes, ...]:
    with (folder / "cases.csv").open(encoding="utf-8") as file:
        rows = {(row["file"], row["verdict"]) for row in csv.DictReader(file)}
    # A file with both verdicts depends on the validator's options: no measure.
    verdicts = {name: {v for n, v in rows if n == name} for name, _ in rows}
    return _read(folder / name for name, given in verdicts.items() if given == {wanted})


def _primitives(folder: Path, verdict: str) -> Iterator[bytes]:
    for kind, name in _PRIMITIVES.items():
        path = folder / f"{kind}.{verdict}.ndjson"
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            if line and line != "null":  # null stands for "absent" there
                yield _HOLDER % f'"extension":[{{"url":"u","{name}":{line}}}]'.encode()


def _json_suite(folder: Path) -> Iterator[Collection]:
    for letter, name in (("y", "well-formed"), ("n", "malformed")):
        inside = tuple(_HOLDER % (b'"note":%s' % raw) for raw in _read(folder.glob(f"{letter}_*")))
        title = f"JSONTestSuite in an Observation, {name}"
        yield Collection(title, inside, is_valid=letter == "y", is_json_only=True)
