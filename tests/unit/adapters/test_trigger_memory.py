"""A remembered trigger answers as the evaluated one does, for every expression it takes on."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.site_trigger import Trigger
from adapters.trigger_memory import Remembered, elements_read

CERTAIN = [
    "Observation.where(code.coding.exists(system='http://loinc.org' and code='2160-0'))",
    "Observation.code.coding.where(system='http://loinc.org' and (code='2160-0' or code='x'))",
    "Observation.status = 'final' and Observation.code.coding.exists(code = '2160-0')",
    "Observation.exists(status = 'final')",
    "Observation.value.exists()",
    "Observation.value.ofType(Quantity).value > 3",
]
UNCERTAIN = [
    "Observation.first() = contained.first()",
    "Observation",
    "Observation.where($this is Observation)",
    "Observation.where(first().exists())",
    "Observation.where(exists())",
    "Observation.children().exists()",
    "Observation.descendants().exists()",
    "Observation.where(status='final').contained",
    "Observation = Observation.contained",
    "Observation.effective > now()",
    "Observation.contained contains Observation",
    "status = 'final'",
]


@pytest.mark.parametrize("expression", CERTAIN)
def test_what_an_expression_of_named_elements_reads_is_known(expression):
    assert elements_read(expression, "Observation") is not None


@pytest.mark.parametrize("expression", UNCERTAIN)
def test_an_expression_that_could_look_at_more_is_never_remembered(expression):
    root = "Observation" if expression.startswith("Observation") else None

    assert elements_read(expression, root) is None


codings = st.fixed_dictionaries(
    {"code": st.sampled_from(["2160-0", "x", "718-7"])},
    optional={"system": st.sampled_from(["http://loinc.org", "urn:local"])},
)
observations = st.fixed_dictionaries(
    {"resourceType": st.just("Observation")},
    optional={
        "status": st.sampled_from(["final", "preliminary"]),
        "code": st.fixed_dictionaries({"coding": st.lists(codings, min_size=1, max_size=2)}),
        "valueQuantity": st.fixed_dictionaries({"value": st.integers(0, 6)}),
        "valueString": st.just("4"),
        "note": st.lists(st.fixed_dictionaries({"text": st.text(max_size=3)}), max_size=1),
    },
)


@given(st.sampled_from(CERTAIN), st.lists(observations, min_size=2, max_size=12))
def test_a_remembered_answer_is_the_answer(expression, resources):
    trigger = Trigger(expression)
    remembered = Remembered(elements_read(expression, "Observation"), trigger)

    for resource in resources:
        assert remembered(resource) == (trigger.explain(resource) is None), orjson.dumps(resource)


def test_a_resource_that_is_seen_again_is_not_evaluated_again():
    asked = []
    remembered = Remembered(frozenset({"code"}), lambda content: asked.append(content) is None)
    same = {"resourceType": "Observation", "code": {"text": "a"}}

    assert remembered(same | {"status": "final"})
    assert remembered(same | {"status": "amended"})

    assert len(asked) == 1


def test_a_number_beyond_64_bits_is_evaluated():
    remembered = Remembered(frozenset({"value"}), lambda _content: True)

    assert remembered({"valueInteger": 10**30})
