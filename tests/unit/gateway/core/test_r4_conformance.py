"""Agreement with the official R4 examples, with HL7's validator, and with the definitions."""

import contextlib
import copy
import csv
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import ContentError
from gateway.core.fhir import ParseLimits, parse_bundle, parse_resource, resource_type_of

REPOSITORY = Path(__file__).resolve().parents[4]
DATA = REPOSITORY / ".." / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared test data is absent")

# Official examples that do break R4 4.0.1, each checked against its StructureDefinition.
BROKEN_EXAMPLES = {
    "DeviceUseStatement-example.json": "DeviceUseStatement.reasonReference[0]",  # a Procedure
    "MedicationRequest-medrx0301.json": "MedicationRequest.dispenseRequest.performer",  # a doctor
    "Observation-clinical-gender.json": "Observation.performer[0]",  # an Encounter
    "Questionnaire-qs1.json": "Questionnaire.item[0].item[0].linkId",  # 1..1, missing
}
# Cases that HL7's validator accepts and Nadi refuses: comments are no JSON of RFC 8259, and the
# same file is invalid or valid there, by the options that it is validated with.
REFUSED_CASES = {"contained-resource.json", "json-comments-1.json", "json-comments-2.json"}
LIMITS = ParseLimits(max_entries=5000)


def issues(path: Path) -> list[str | None]:
    try:
        parse_resource(path.read_bytes(), limits=LIMITS)
    except ContentError as error:
        return [issue.expression for issue in error.issues]
    return []


def test_all_official_examples_are_accepted_but_those_that_break_r4() -> None:
    examples = sorted((DATA / "r4-examples").glob("[A-Z]*.json"))

    refused = {path.name: found[0] for path in examples if (found := issues(path))}

    assert len(examples) > 300
    assert refused == BROKEN_EXAMPLES


@pytest.mark.parametrize(
    "folder", ["synthea", "nrces/examples-2.0.1", "ihe-balp", "ihe-pcf", "subscriptions-backport"]
)
def test_examples_of_implementation_guides_are_accepted(folder: str) -> None:
    refused = [path.name for path in sorted((DATA / folder).glob("*.json")) if issues(path)]

    assert refused == []


def test_every_entry_of_a_synthea_bundle_is_the_slice_that_was_sent() -> None:
    for path in sorted((DATA / "synthea").glob("*.json")):
        raw = path.read_bytes()
        assert resource_type_of(raw) == "Bundle"

        bundle = parse_bundle(raw, limits=LIMITS)

        for entry in bundle.entries:
            assert entry.resource is not None
            assert entry.resource.raw in raw
            assert json.loads(entry.resource.raw) == entry.resource.content


def test_nothing_that_the_official_validator_accepts_is_refused() -> None:
    with (DATA / "validator-cases" / "cases.csv").open(encoding="utf-8") as file:
        valid = {row["file"] for row in csv.DictReader(file) if row["verdict"] == "valid"}

    refused = {name for name in valid if issues(DATA / "validator-cases" / name)}

    assert refused == REFUSED_CASES


BASE_LEVEL_CASES = [
    *(
        "bad-json-close-1.json",
        "bad-json-close-3.json",
        "empty-array.json",
        "json-comma-bad-2.json",
    ),
    *("json-no-quotes-1.json", "parameters-attachment.json", "patient-id-bad-1.json"),
    *("patient-id-bad-2.json", "patient-id-bad-3.json", "resource-invalid-id-2.json"),
    *("resource-invalid-id-3.json", "synthea.json"),
]


@pytest.mark.parametrize("name", BASE_LEVEL_CASES)
def test_what_breaks_base_r4_for_the_official_validator_is_refused(name: str) -> None:
    assert issues(DATA / "validator-cases" / name)


JUNK: list[Any] = [None, 1, 1.5, "", "x", [], {}, [None], {"id": "a"}, True, "#x", "Device/1", [[]]]


SPOILT_TYPES = {"Observation", "Bundle", "Patient", "Consent", "MedicationRequest", "Encounter"}


def spoil(content: Any, chance: random.Random) -> None:
    """Take away, replace or add something somewhere in a document."""
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = chance.choice(keys)
    if isinstance(content[key], (dict, list)) and content[key] and chance.random() < 0.6:
        spoil(content[key], chance)
    elif isinstance(content, dict) and chance.random() < 0.4:
        content[f"_{key}"] = content.pop(key)
    else:
        content[key] = chance.choice(JUNK)


def test_spoilt_examples_give_a_resource_or_a_content_error() -> None:
    chance = random.Random(5)  # noqa: S311 - not for secrets
    examples = sorted((DATA / "r4-examples").glob("[A-Z]*.json"))
    small = [
        json.loads(path.read_bytes())
        for path in examples
        if path.name.partition("-")[0] in SPOILT_TYPES and path.stat().st_size < 9000
    ]

    refused = 0
    for example in small * 3:
        content = copy.deepcopy(example)
        spoil(content, chance)
        raw = json.dumps(content).encode()
        refused += not accepts(raw)
        with contextlib.suppress(ContentError):
            parse_bundle(raw)

    assert refused > len(small)


OWNERS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "base64_binary": ({"resourceType": "Binary", "contentType": "a/b"}, ("data",)),
    "canonical": ({"resourceType": "Patient"}, ("meta", "profile", "0")),
    "code": ({"resourceType": "Patient"}, ("meta", "tag", "0", "code")),
    "date": ({"resourceType": "Patient"}, ("birthDate",)),
    "decimal": ({"resourceType": "RiskAssessment"}, ("prediction", "0", "probabilityDecimal")),
    "instant": ({"resourceType": "Patient"}, ("meta", "lastUpdated")),
    "markdown": ({"resourceType": "Library"}, ("description",)),
    "positive_int": ({"resourceType": "Patient"}, ("telecom", "0", "rank")),
    "reference": ({"resourceType": "Basic", "code": {"text": "x"}}, ("subject",)),
    "string": ({"resourceType": "Patient"}, ("name", "0", "family")),
    "unsigned_int": ({"resourceType": "Patient"}, ("photo", "0", "size")),
    "uri": ({"resourceType": "Patient"}, ("implicitRules",)),
    "url": ({"resourceType": "Patient"}, ("photo", "0", "url")),
}
REQUIRED = {
    "RiskAssessment": {"status": "final", "subject": {"display": "d"}},
    "Library": {"status": "draft", "type": {"text": "x"}},
}


def holder(kind: str, value: str) -> bytes:
    """Write a resource that is valid if this JSON value is valid for the primitive type."""
    if kind in {"oid", "uuid", "xhtml"}:
        name = {"oid": "valueOid", "uuid": "valueUuid"}.get(kind)
        if name is None:
            return (
                b'{"resourceType":"Patient","text":{"status":"generated","div":%s}}'
                % value.encode()
            )
        extension = b'{"url":"u","%s":%s}' % (name.encode(), value.encode())
        return b'{"resourceType":"Patient","extension":[%s]}' % extension
    base, path = OWNERS[kind]
    content: Any = "@"
    for step in reversed(path):
        content = [content] if step.isdigit() else {step: content}
    whole = {**base, **REQUIRED.get(base["resourceType"], {}), **content}
    return json.dumps(whole).replace('"@"', value).encode()


# What the files call valid and R4 does not: "" as xhtml (no value is empty: json.html, txt-2),
# and a reference to a contained resource that is not there (ref-1).
NOT_VALID = {("xhtml", '""'), ("reference", '{"reference": "#p1"}')}


@pytest.mark.parametrize("verdict", ["valid", "invalid"])
def test_primitive_values_are_judged_as_their_files_say(verdict: str) -> None:
    wrong = []

    for path in sorted((DATA / "r4-primitives").glob(f"*.{verdict}.ndjson")):
        kind = path.name.split(".", maxsplit=1)[0]
        for line in path.read_text(encoding="utf-8").splitlines():
            # null stands for "absent" in these files.
            if line in {"null", ""} or (kind, line) in NOT_VALID:
                continue
            if accepts(holder(kind, line)) is not (verdict == "valid"):
                wrong.append((kind, line))

    assert wrong == []


def accepts(raw: bytes) -> bool:
    try:
        parse_resource(raw)
    except ContentError:
        return False
    return True


def test_the_committed_schema_is_what_the_definitions_give() -> None:
    script = REPOSITORY / "scripts" / "generate_r4_schema.py"
    artefact = REPOSITORY / "gateway" / "core" / "data" / "r4-schema.json.gz"

    result = subprocess.run(
        [sys.executable, script, DATA / "r4-definitions", artefact, "--check"], check=False
    )

    assert result.returncode == 0


def test_two_runs_of_the_generator_give_the_same_bytes(tmp_path: Path) -> None:
    script = REPOSITORY / "scripts" / "generate_r4_schema.py"
    outputs = [tmp_path / "one", tmp_path / "two"]

    for output in outputs:
        subprocess.run([sys.executable, script, DATA / "r4-definitions", output], check=True)

    assert outputs[0].read_bytes() == outputs[1].read_bytes()
