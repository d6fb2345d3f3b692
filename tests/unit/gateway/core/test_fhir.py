"""What is accepted as FHIR R4, what is refused, and how the refusal is explained."""

import json
from typing import Any

import pytest

from gateway.core import fhir, r4_schema
from gateway.core.errors import ContentError, InvalidResource, Issue, MalformedJson, TooLarge
from gateway.core.fhir import ParseLimits, parse_bundle, parse_resource, resource_type_of
from gateway.core.r4_schema import prepare_for

CODE = {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]}
OBSERVATION: dict[str, Any] = {"resourceType": "Observation", "status": "final", "code": CODE}
PATIENT: dict[str, Any] = {"resourceType": "Patient"}
CONSENT: dict[str, Any] = {
    "resourceType": "Consent",
    "status": "active",
    "scope": {"text": "privacy"},
    "category": [{"text": "privacy"}],
    "policyRule": {"text": "opt-in"},
}
EXTENSION = {"url": "http://example.org/e", "valueString": "x"}
COMPONENT = {"code": {"text": "c"}, "valueInteger": 1}


def as_bytes(content: object) -> bytes:
    return json.dumps(content).encode()


def refusal(raw: bytes) -> tuple[Issue, ...]:
    with pytest.raises(ContentError) as caught:
        parse_resource(raw)
    return caught.value.issues


def collection(*resources: object) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": each} for each in resources],
    }


VALID: dict[str, dict[str, Any]] = {
    "the least": OBSERVATION,
    "a primitive that has only an extension": {
        "resourceType": "Observation",
        "_status": {"extension": [EXTENSION]},
        "code": CODE,
    },
    "a primitive with value and id": {**PATIENT, "birthDate": "1970", "_birthDate": {"id": "a"}},
    "placeholders on both sides": {
        **PATIENT,
        "name": [{"given": ["A", None], "_given": [None, {"extension": [EXTENSION]}]}],
    },
    "extensions shorter than values": {
        **PATIENT,
        "name": [{"given": ["A", "B"], "_given": [{"id": "a"}]}],
    },
    "a leap day": {**PATIENT, "birthDate": "2024-02-29"},
    "a leap second": {**OBSERVATION, "issued": "2016-12-31T23:59:60Z"},
    "a reference to an allowed type": {
        **OBSERVATION,
        "performer": [{"reference": "http://ehr/fhir/Practitioner/1/_history/2"}],
    },
    "a reference that tells no type": {
        **OBSERVATION,
        "performer": [{"reference": "urn:uuid:0d8e2b5c-7f7c-4b3f-9a1d-2b8f6f0d7a11"}],
    },
    "a contained resource that is referred to": {
        **OBSERVATION,
        "contained": [{"resourceType": "Patient", "id": "p"}],
        "subject": {"reference": "#p"},
    },
    "a contained resource that refers to its container": {
        "resourceType": "Provenance",
        "target": [{"reference": "Patient/1"}],
        "recorded": "2026-01-01T00:00:00Z",
        "agent": [{"who": {"display": "d"}}],
        "contained": [
            {"resourceType": "Provenance", "target": [{"reference": "#"}]}
            | {"recorded": "2026-01-01T00:00:00Z", "agent": [{"who": {"display": "d"}}]}
        ],
    },
    "two choices, each of one type": {
        **OBSERVATION,
        "effectiveDateTime": "2026",
        "valueString": "x",
        "_valueString": {"id": "a"},
    },
    "a batch response without an outcome": {
        "resourceType": "Bundle",
        "type": "batch-response",
        "entry": [{"response": {"status": "204"}}],
    },
    "an age": {
        "resourceType": "Condition",
        "subject": {"display": "d"},
        "onsetAge": {"value": 1, "code": "a", "system": "http://unitsofmeasure.org"},
    },
    "a huge decimal": {**OBSERVATION, "valueQuantity": {"value": 1e300}},
    "a period open at its end": {**OBSERVATION, "effectivePeriod": {"start": "2026-01-02"}},
    "a period within the precision": {
        **OBSERVATION,
        "effectivePeriod": {"start": "2026-01-02", "end": "2026-01"},
    },
    "a period of a date and a time": {
        **OBSERVATION,
        "effectivePeriod": {"start": "2026-01-02T10:00:00Z", "end": "2026-01-02"},
    },
    "a period in two zones": {
        **OBSERVATION,
        "effectivePeriod": {"start": "2026-01-02T10:00:00+05:30", "end": "2026-01-02T05:00:00Z"},
    },
    "a period that ends in a leap second": {
        **OBSERVATION,
        "effectivePeriod": {"start": "2016-12-31T23:59:60Z", "end": "2016-12-31T23:59:59Z"},
    },
    "a range in two units": {
        **OBSERVATION,
        "valueRange": {"low": {"value": 2, "unit": "g"}, "high": {"value": 1, "unit": "kg"}},
    },
    "an ordered range": {
        **OBSERVATION,
        "valueRange": {"low": {"value": 1}, "high": {"value": 2}},
    },
    "a range without its low value": {
        **OBSERVATION,
        "valueRange": {"low": {"extension": [EXTENSION]}, "high": {"extension": [EXTENSION]}},
    },
    "components with codes of their own": {
        **OBSERVATION,
        "valueInteger": 1,
        "component": [COMPONENT],
    },
    "components of the same code without a value": {
        **OBSERVATION,
        "component": [{"code": CODE, "valueInteger": 1}],
    },
    "a risk as a percentage": {
        "resourceType": "RiskAssessment",
        "status": "final",
        "subject": {"reference": "Patient/1"},
        "prediction": [{"probabilityDecimal": 100}],
    },
    "a risk without a number": {
        "resourceType": "RiskAssessment",
        "status": "final",
        "subject": {"reference": "Patient/1"},
        "prediction": [{"_probabilityDecimal": {"extension": [EXTENSION]}}],
    },
    "a Bundle in a Bundle": collection(collection(OBSERVATION)),
    "Parameters with resources": {
        "resourceType": "Parameters",
        "parameter": [{"name": "a", "part": [{"name": "b", "resource": OBSERVATION}]}],
    },
    "a consent": CONSENT,
    "a narrative": {
        **PATIENT,
        "text": {
            "status": "generated",
            "div": '<div xmlns="http://www.w3.org/1999/xhtml"><!-- c --><p>based on = x</p></div>',
        },
    },
    "a history": {
        "resourceType": "Bundle",
        "type": "history",
        "entry": [
            {
                "fullUrl": "http://ehr/fhir/Patient/1",
                "resource": PATIENT,
                "request": {"method": "PUT", "url": "Patient/1"},
                "response": {"status": "200"},
            }
        ]
        * 2,
    },
    "a search set": {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 2,
        "entry": [
            {"fullUrl": "http://ehr/fhir/Patient/1", "resource": PATIENT},
            {
                "fullUrl": "http://ehr/fhir/Patient/2",
                "resource": {**PATIENT, "meta": {"versionId": "1"}},
                "search": {"mode": "match"},
            },
        ],
    },
}

INVALID: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown element": (PATIENT | {"nickname": "x"}, "structure", "Patient"),
    "required element missing": (
        {"resourceType": "Observation", "status": "final"},
        "required",
        "Observation.code",
    ),
    "required primitive missing": (
        {"resourceType": "Observation", "code": CODE},
        "required",
        "Observation.status",
    ),
    "required primitive with an id only": (
        {"resourceType": "Observation", "code": CODE, "_status": {"id": "a"}},
        "required",
        "Observation.status",
    ),
    "code outside of its value set": (
        OBSERVATION | {"status": "finall"},
        "code-invalid",
        "Observation.status",
    ),
    "concept outside of its value set": (
        {"resourceType": "Condition", "subject": {"display": "d"}, "clinicalStatus": CODE},
        "code-invalid",
        "Condition.clinicalStatus",
    ),
    "two types of a choice": (
        OBSERVATION | {"component": [COMPONENT | {"valueString": "x"}]},
        "structure",
        "Observation.component[0]",
    ),
    "an array instead of an object": (
        OBSERVATION | {"code": [CODE]},
        "structure",
        "Observation.code",
    ),
    "an object instead of an array": (
        PATIENT | {"name": {"family": "x"}},
        "structure",
        "Patient.name",
    ),
    "a string instead of a boolean": (PATIENT | {"active": "true"}, "structure", "Patient.active"),
    "a string instead of a decimal": (
        OBSERVATION | {"valueQuantity": {"value": "1"}},
        "structure",
        "Observation.value.ofType(Quantity).value",
    ),
    "an integer with a point": (
        OBSERVATION | {"valueInteger": 1.0},
        "structure",
        "Observation.value.ofType(integer)",
    ),
    "an integer too large": (
        OBSERVATION | {"valueInteger": 2**31},
        "value",
        "Observation.value.ofType(integer)",
    ),
    "a positiveInt of zero": (
        {"resourceType": "Patient", "telecom": [{"rank": 0}]},
        "value",
        "Patient.telecom[0].rank",
    ),
    "a date that is none": (PATIENT | {"birthDate": "2023-02-29"}, "value", "Patient.birthDate"),
    "a dateTime without a zone": (
        OBSERVATION | {"effectiveDateTime": "2026-01-01T10:00:00"},
        "value",
        "Observation.effective.ofType(dateTime)",
    ),
    "an id with a bad character": (PATIENT | {"id": "a_b"}, "value", "Patient.id"),
    "an id of 65 characters": (PATIENT | {"id": "a" * 65}, "too-long", "Patient.id"),
    "a string with NUL": (
        PATIENT | {"name": [{"family": "a\x00b"}]},
        "value",
        "Patient.name[0].family",
    ),
    "an empty string": (PATIENT | {"name": [{"family": ""}]}, "value", "Patient.name[0].family"),
    "an empty array": (PATIENT | {"name": []}, "structure", "Patient.name"),
    "an empty object": (PATIENT | {"name": [{}]}, "structure", "Patient.name[0]"),
    "an id alone": (PATIENT | {"name": [{"id": "a"}]}, "structure", "Patient.name[0]"),
    "null": (PATIENT | {"gender": None}, "code-invalid", "Patient.gender"),
    "null in an array": (
        PATIENT | {"name": [{"given": ["A", None]}]},
        "structure",
        "Patient.name[0].given",
    ),
    "null on both sides": (
        PATIENT | {"name": [{"given": ["A", None], "_given": [{"id": "i"}, None]}]},
        "structure",
        "Patient.name[0].given",
    ),
    "an extension of no value": (
        PATIENT | {"_birthDate": {"id": "i"}},
        "structure",
        "Patient.birthDate",
    ),
    "a reference to a wrong type": (
        OBSERVATION | {"performer": [{"reference": "Device/1"}]},
        "structure",
        "Observation.performer[0]",
    ),
    "a conditional reference to a wrong type": (
        OBSERVATION | {"performer": [{"reference": "Device?identifier=x|y"}]},
        "structure",
        "Observation.performer[0]",
    ),
    "a reference that says a wrong type": (
        OBSERVATION | {"performer": [{"type": "Device", "display": "d"}]},
        "structure",
        "Observation.performer[0]",
    ),
    "base64 of a wrong length": (
        {"resourceType": "Binary", "contentType": "a/b", "data": "QUI"},
        "value",
        "Binary.data",
    ),
    "a script in a narrative": (
        PATIENT | {"text": {"status": "generated", "div": "<div><ScRipt>alert(1)</ScRipt></div>"}},
        "invariant",
        "Patient.text.div",
    ),
    "an event in a narrative": (
        PATIENT | {"text": {"status": "generated", "div": '<div><p onClick="x">x</p></div>'}},
        "invariant",
        "Patient.text.div",
    ),
    "obs-6": (
        OBSERVATION | {"valueInteger": 1, "dataAbsentReason": {"text": "x"}},
        "invariant",
        "Observation",
    ),
    "obs-7": (
        OBSERVATION | {"valueInteger": 1, "component": [{"code": CODE, "valueInteger": 2}]},
        "invariant",
        "Observation",
    ),
    "per-1 of dates": (
        OBSERVATION | {"effectivePeriod": {"start": "2026-02", "end": "2026-01-31"}},
        "invariant",
        "Observation.effective.ofType(Period)",
    ),
    "per-1 of times": (
        OBSERVATION
        | {
            "effectivePeriod": {"start": "2026-01-01T10:00:00+05:30", "end": "2026-01-01T04:00:00Z"}
        },
        "invariant",
        "Observation.effective.ofType(Period)",
    ),
    "age-1": (
        {
            "resourceType": "Condition",
            "subject": {"display": "d"},
            "onsetAge": {"value": 0, "code": "a", "system": "http://unitsofmeasure.org"},
        },
        "invariant",
        "Condition.onset.ofType(Age)",
    ),
    "a period of numbers": (
        OBSERVATION | {"effectivePeriod": {"start": 2, "end": 1}},
        "structure",
        "Observation.effective.ofType(Period).start",
    ),
    "a range of numbers": (
        OBSERVATION | {"valueRange": {"low": 2, "high": 1}},
        "structure",
        "Observation.value.ofType(Range).low",
    ),
    "a parameter that is no object": (
        {"resourceType": "Parameters", "parameter": [1, {"name": "a", "valueString": "x"}]},
        "structure",
        "Parameters.parameter[0]",
    ),
    "an entry that is no object": (
        {"resourceType": "Bundle", "type": "collection", "entry": [1]},
        "structure",
        "Bundle.entry[0]",
    ),
    "rng-2": (
        OBSERVATION | {"valueRange": {"low": {"value": 2}, "high": {"value": 1}}},
        "invariant",
        "Observation.value.ofType(Range)",
    ),
    "ras-2": (
        {
            "resourceType": "RiskAssessment",
            "status": "final",
            "subject": {"display": "d"},
            "prediction": [{"probabilityDecimal": 100.5}],
        },
        "invariant",
        "RiskAssessment.prediction[0]",
    ),
    "ppc-1": ({k: v for k, v in CONSENT.items() if k != "policyRule"}, "invariant", "Consent"),
    "ext-1": (PATIENT | {"extension": [{"url": "u"}]}, "invariant", "Patient.extension[0]"),
    "ref-1": (
        OBSERVATION | {"subject": {"reference": "#nobody"}},
        "invariant",
        "Observation.subject",
    ),
    "dom-2": (
        OBSERVATION
        | {
            "subject": {"reference": "#p"},
            "contained": [
                {
                    "resourceType": "Patient",
                    "id": "p",
                    "contained": [{"resourceType": "Group", "type": "person", "actual": True}],
                }
            ],
        },
        "invariant",
        "Observation.contained[0]",
    ),
    "dom-3": (OBSERVATION | {"contained": [PATIENT]}, "invariant", "Observation.contained[0]"),
    "dom-4": (
        OBSERVATION
        | {"subject": {"reference": "#p"}}
        | {"contained": [{"resourceType": "Patient", "id": "p", "meta": {"versionId": "1"}}]},
        "invariant",
        "Observation.contained[0]",
    ),
    "dom-5": (
        OBSERVATION
        | {"subject": {"reference": "#p"}}
        | {
            "contained": [
                {"resourceType": "Patient", "id": "p", "meta": {"security": [{"code": "R"}]}}
            ]
        },
        "invariant",
        "Observation.contained[0]",
    ),
    "a contained resource that is invalid": (
        OBSERVATION
        | {"subject": {"reference": "#p"}}
        | {"contained": [{"resourceType": "Patient", "id": "p", "gender": "x"}]},
        "code-invalid",
        "Observation.contained[0].gender",
    ),
    "a contained string": (
        OBSERVATION | {"contained": ["x"]},
        "structure",
        "Observation.contained[0]",
    ),
    "a parameter that is invalid": (
        {
            "resourceType": "Parameters",
            "parameter": [
                {
                    "name": "a",
                    "part": [
                        {"name": "b", "resource": {"resourceType": "Observation", "code": CODE}}
                    ],
                }
            ],
        },
        "required",
        "Parameters.parameter[0].part[0].resource.status",
    ),
    "bdl-1": (
        {"resourceType": "Bundle", "type": "collection", "total": 1},
        "invariant",
        "Bundle",
    ),
    "bdl-2": (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": PATIENT, "search": {"mode": "match"}}],
        },
        "invariant",
        "Bundle",
    ),
    "bdl-3": (
        {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": PATIENT}]},
        "invariant",
        "Bundle",
    ),
    "bdl-4": (
        {"resourceType": "Bundle", "type": "batch-response", "entry": [{"resource": PATIENT}]},
        "invariant",
        "Bundle",
    ),
    "bdl-5": (
        {"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "urn:x"}]},
        "invariant",
        "Bundle.entry[0]",
    ),
    "bdl-7": (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": "urn:x", "resource": PATIENT}] * 2,
        },
        "invariant",
        "Bundle",
    ),
    "bdl-8": (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": "http://e/Patient/1/_history/1", "resource": PATIENT}],
        },
        "invariant",
        "Bundle.entry[0]",
    ),
    "bdl-11": (
        {
            "resourceType": "Bundle",
            "type": "document",
            "identifier": {"system": "urn:x", "value": "1"},
            "timestamp": "2026-01-01T00:00:00Z",
            "entry": [{"resource": PATIENT}],
        },
        "invariant",
        "Bundle",
    ),
    "bdl-12": ({"resourceType": "Bundle", "type": "message"}, "invariant", "Bundle"),
}


@pytest.mark.parametrize("content", VALID.values(), ids=VALID)
def test_what_r4_allows_is_accepted(content: dict[str, Any]) -> None:
    raw = as_bytes(content)

    resource = parse_resource(raw)

    assert (resource.type, resource.content, resource.raw) == (
        content["resourceType"],
        content,
        raw,
    )


@pytest.mark.parametrize(("content", "code", "expression"), INVALID.values(), ids=INVALID)
def test_what_r4_forbids_is_refused_with_its_place(
    content: dict[str, Any], code: str, expression: str
) -> None:
    issues = refusal(as_bytes(content))

    assert (code, expression) in [(issue.code, issue.expression) for issue in issues]


@pytest.mark.parametrize("name", [n for n in INVALID if "-" in n and n[0].islower()])
def test_an_invariant_is_named_by_its_key(name: str) -> None:
    key = name.split(maxsplit=1)[0]

    issues = refusal(as_bytes(INVALID[name][0]))

    assert any(issue.diagnostics.startswith(f"{key}: ") for issue in issues if key != "an")


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", MalformedJson),
        (b"{", MalformedJson),
        (b'{"resourceType":"Patient",}', MalformedJson),
        (b'{"resourceType":"Patient","active":NaN}', MalformedJson),
        (b'{"resourceType":"Patient","active":1e999}', MalformedJson),
        (b'{"resourceType":"Patient","id":"\xff"}', MalformedJson),
        (b'{"resourceType":"Patient","id":"\\ud800"}', MalformedJson),
        (b'{"resourceType":"Patient","id":"a","id":"b"}', MalformedJson),
        (b'{"resourceType":"Patient","id":"a","\\u0069d":"b"}', MalformedJson),
        (b'{"resourceType":"Patient","a \\\\\\"":1,"a \\\\\\"":2}', MalformedJson),
        (b"[" * 100 + b"]" * 100, TooLarge),
        (b"[" * 100_000, TooLarge),
        (b'{"a":' * 50_000, TooLarge),
        (b"[]", InvalidResource),
        (b"null", InvalidResource),
        (b"{}", InvalidResource),
        (b'{"resourceType":1}', InvalidResource),
        (b'{"resourceType":"Resource"}', InvalidResource),
        (b'{"resourceType":"patient"}', InvalidResource),
    ],
)
def test_what_is_no_resource_at_all_is_refused(raw: bytes, error: type[ContentError]) -> None:
    with pytest.raises(error):
        parse_resource(raw)


def test_a_repeated_property_is_named() -> None:
    (issue,) = refusal(b'{"resourceType":"Patient","gender":"male","gender":"female"}')

    assert issue.diagnostics == "A property is given twice in the same object ('gender')."


def test_the_wrong_resource_type_is_refused() -> None:
    with pytest.raises(InvalidResource) as caught:
        parse_resource(as_bytes(PATIENT), expected_type="Observation")

    assert caught.value.issues[0].expression == "resourceType"


def test_the_expected_resource_type_is_accepted() -> None:
    assert parse_resource(as_bytes(PATIENT), expected_type="Patient").type == "Patient"


def test_at_most_twenty_issues_are_given() -> None:
    issues = refusal(as_bytes(PATIENT | {"name": [{"family": ""}] * 100}))

    assert len(issues) == 20


def test_only_the_first_issue_of_a_very_large_resource_is_given() -> None:
    issues = refusal(as_bytes(PATIENT | {"name": [{"family": ""}] * 5000}))

    assert [issue.expression for issue in issues] == ["Patient.name[0].family"]


def test_no_value_of_the_resource_is_in_an_issue() -> None:
    canary = "Zanzibar Quibble"
    content = {
        "resourceType": "Observation",
        "status": canary,
        "code": {"coding": [{"system": canary, "code": f" {canary}", canary: canary}]},
        "effectiveDateTime": canary,
        "issued": canary,
        "valueInteger": canary,
        "valueString": canary,
        "id": canary,
        "subject": {"reference": f"#{canary}"},
        "performer": [{"reference": "Device/1", "display": canary}],
        "note": canary,
        "text": {"status": canary, "div": canary},
        canary: [canary],
    }

    issues = refusal(as_bytes(content))

    assert len(issues) > 10
    assert not any("Zanzibar" in f"{i.diagnostics} {i.expression}" for i in issues)


def test_an_unknown_element_is_named_if_it_looks_like_one() -> None:
    (issue,) = refusal(as_bytes(PATIENT | {"nickName": "x"}))

    assert "'nickName'" in issue.diagnostics


@pytest.mark.parametrize(
    "misplaced",
    [{"system": [None]}, {"contained": [{"reference": "#nobody"}], "_value": [None]}],
    ids=["null", "null beside a reference"],
)
def test_the_place_of_an_issue_ends_before_a_name_that_looks_like_no_element(
    misplaced: dict[str, Any],
) -> None:
    issues = refusal(as_bytes(PATIENT | {"Zanzibar 1961-05-01": [misplaced]}))

    assert len(issues) >= 2
    assert {issue.expression for issue in issues} == {"Patient"}


def test_an_element_whose_name_has_a_digit_is_named() -> None:
    extension = {"url": "http://x.example/y", "valueBase64Binary": None}

    issues = refusal(as_bytes(PATIENT | {"extension": [extension]}))

    assert "Patient.extension[0].value.ofType(base64Binary)" in {i.expression for i in issues}


def test_the_bytes_of_each_entry_are_kept_as_they_came() -> None:
    first = b'{ "resourceType" : "Observation", "status":"final", "code":{"text":"\\u0041"},\n'
    first += b'"valueQuantity":{"value":1.50} }'
    raw = (
        b'{"resourceType":"Bundle","type":"batch","entry":[{"resource": %s ,"fullUrl":"urn:a",'
        % first
    )
    raw += b'"request":{"method":"POST","url":"Observation"}},'
    raw += b'{"request":{"method":"DELETE","url":"Patient/1"}}]}'

    bundle = parse_bundle(raw)

    created, deleted = bundle.entries
    assert (bundle.type, bundle.raw) == ("batch", raw)
    assert created.resource is not None
    assert created.resource.raw == first
    assert (created.index, created.full_url, created.method, created.url) == (
        0,
        "urn:a",
        "POST",
        "Observation",
    )
    assert (deleted.index, deleted.method, deleted.resource, deleted.issues) == (
        1,
        "DELETE",
        None,
        (),
    )
    assert "resource" not in bundle.content["entry"][0]


def test_one_bad_entry_does_not_spoil_the_others() -> None:
    bundle = parse_bundle(as_bytes(collection(OBSERVATION, OBSERVATION | {"status": "x"}, 5)))

    good, bad, number = bundle.entries
    assert good.resource is not None
    assert good.issues == ()
    assert bad.resource is None
    assert [i.expression for i in bad.issues] == ["Bundle.entry[1].resource.status"]
    assert [i.expression for i in number.issues] == ["Bundle.entry[2].resource"]


def test_a_resource_that_repeats_a_property_is_refused_alone() -> None:
    raw = b'{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":'
    raw += b'"Patient","id":"a","id":"b"}},{"resource":{"resourceType":"Patient"}},{"link":[]}]}'
    raw = raw.replace(b',{"link":[]}', b"")

    twice, once = parse_bundle(raw).entries

    assert [i.expression for i in twice.issues] == ["Bundle.entry[0].resource"]
    assert once.resource is not None


@pytest.mark.parametrize(
    "raw",
    [
        b'{"resourceType":"Bundle","type":"collection","type":"collection"}',
        b'{"resourceType":"Bundle","type":"collection","id":"a","id":"b","entry":[{"resource":{}}]}',
        b'{"resourceType":"Bundle","type":"collection","entry":[{"resource":{},"resource":{}}]}',
        (
            b'{"resourceType":"Bundle","type":"history","id":"a","id":"b","entry":[{"request":'
            b'{"method":"DELETE","url":"P/1"},"response":{"status":"204"}}]}'
        ),
    ],
)
def test_a_bundle_that_repeats_a_property_itself_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedJson):
        parse_bundle(raw)


@pytest.mark.parametrize(
    "content",
    [
        PATIENT,
        [],
        {"resourceType": "Bundle"},
        {"resourceType": "Bundle", "type": "collection", "entry": {}},
        {"resourceType": "Bundle", "type": "collection", "entry": [1]},
        {"resourceType": "Bundle", "type": "document", "entry": [{"resource": {}}]},
    ],
)
def test_what_is_no_valid_bundle_is_refused_as_a_whole(content: object) -> None:
    with pytest.raises(InvalidResource):
        parse_bundle(as_bytes(content))


def test_an_outcome_in_a_response_is_checked() -> None:
    content = {
        "resourceType": "Bundle",
        "type": "batch-response",
        "entry": [{"response": {"status": "400", "outcome": {"resourceType": "OperationOutcome"}}}],
    }

    (issue,) = refusal(as_bytes(content))

    assert issue.expression == "Bundle.entry[0].response.outcome.issue"


@pytest.mark.parametrize("parse", [parse_resource, parse_bundle])
def test_too_many_entries_are_refused(parse: Any) -> None:
    raw = as_bytes(collection(*[PATIENT] * 3))

    with pytest.raises(TooLarge):
        parse(raw, limits=ParseLimits(max_entries=2))


def test_depth_is_counted_to_the_level() -> None:
    raw = as_bytes({"resourceType": "Patient", "name": [{"given": ["A"]}]})

    parse_resource(raw, limits=ParseLimits(max_depth=4))
    with pytest.raises(TooLarge):
        parse_resource(raw, limits=ParseLimits(max_depth=3))


def test_bytes_that_only_one_of_the_readers_understands_are_malformed() -> None:
    with pytest.raises(MalformedJson):
        fhir._resource_slices(b'{"entry":[{"resource":}]}')


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"id":"1","resourceType":"Bundle"}', "Bundle"),
        (b'{"id":"1"}', None),
        (b"[]", None),
        (b'{"resourceType":5}', None),
        (b'{"resourceType":"\xff"}', None),
        (b"[" * 100_000, None),
        (b'{"a":' + b"[" * 100_000, None),
    ],
)
def test_the_type_is_seen_without_parsing(raw: bytes, expected: str | None) -> None:
    assert resource_type_of(raw) == expected


def test_a_validator_prepared_ahead_is_the_one_that_is_used():
    prepare_for(["Flag"])

    before = r4_schema._validator.cache_info().misses
    parse_resource(
        b'{"resourceType":"Flag","status":"active","code":{"text":"a"},'
        b'"subject":{"reference":"Patient/1"}}'
    )

    assert r4_schema._validator.cache_info().misses == before
