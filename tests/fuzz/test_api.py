"""A moment of fuzzing for the whole application; `make fuzz` goes on from here."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import shared_data
from tests.fuzz.fhir import broken
from tests.fuzz.pushing import LONG, asked, insist_on_answers, operations
from tests.fuzz.served import insist_on_explained, served

pytestmark = pytest.mark.integration

# The same inputs every time, and none made smaller: that takes longer than the test itself.
_SHORT = settings(LONG, derandomize=True, phases=[Phase.generate])
_HEAD = (
    b'{"resourceType":"Observation","status":"final","code":{"text":"x"},"extension":[{"url":"x",'
)


@pytest.mark.parametrize("operation", operations(), ids=lambda each: each.label)
def test_whatever_is_asked_by_whomever_is_answered_as_documented(operation):
    @settings(_SHORT, max_examples=4)
    @given(asked(operation))
    def ask(case):
        insist_on_answers(case)

    ask()


@settings(_SHORT, max_examples=80)
@given(broken(), st.booleans())
def test_a_resource_that_something_is_wrong_with_is_taken_or_refused_with_a_reason(
    made, names_type
):
    kind, body = made

    insist_on_explained(served().post(body, f"/fhir/{kind}" if names_type else "/fhir"))


def test_json_that_parses_is_taken_and_what_may_is_answered():
    statuses: dict[str, set[int]] = {"y": set(), "i": set(), "n": set()}
    for path in sorted(shared_data("json-test-suite").glob("*.json")):
        answer = served().post(
            _HEAD + b'"valueString":' + path.read_bytes() + b"}]}", "/fhir/Observation"
        )
        insist_on_explained(answer)
        statuses[path.name[0]].add(answer.status_code)

    # Well-formed JSON that is no text is no valueString: refused as FHIR, not as JSON.
    assert statuses["y"] <= {202, 400, 422}
    assert statuses["n"] <= {400, 413}
    assert all(statuses.values())
