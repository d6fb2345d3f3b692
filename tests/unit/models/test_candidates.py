import numpy as np
import onnx
import pytest

from models.candidates import RECIPES, family_of, recipes
from models.quantize import NotQuantizable
from models.runtime import open_session
from tests import networks

EMBEDDING, TOKENS = networks.embedding(vocabulary=2000), networks.tokens(vocabulary=2000)
OPERATOR_OF = {
    "dynamic": "MatMulInteger",
    "static-minmax": "QuantizeLinear",
    "static-percentile": "QuantizeLinear",
    "weights-int8": "MatMulNBits",
    "weights-int4": "MatMulNBits",
}


@pytest.fixture(scope="module")
def made():
    return {each.name: each for each in recipes(EMBEDDING, [TOKENS], tuple(OPERATOR_OF))}


@pytest.mark.parametrize("name", OPERATOR_OF)
def test_each_recipe_makes_what_it_says_and_compacts_the_table(made, name):
    model = made[name].quantize(())

    operators = {node.op_type for node in onnx.load_from_string(model).graph.node}
    expected, found = (
        open_session(each, exact_int8=False).run(None, TOKENS)[0] for each in (EMBEDDING, model)
    )
    assert {OPERATOR_OF[name], "GatherBlockQuantized"} <= operators
    assert len(model) < 0.36 * len(EMBEDDING)
    assert np.abs(found - expected).max() < (1 if name == "weights-int4" else 0.2)


def test_recipes_list_the_nodes_that_they_can_leave_alone(made):
    assert made["dynamic"].nodes == made["static-minmax"].nodes == ("project", "last")
    assert made["weights-int8"].nodes == ("table", "project", "last")


@pytest.mark.parametrize("name", OPERATOR_OF)
def test_a_node_can_be_left_alone_in_every_recipe_and_dynamic_keeps_it_in_blocks(made, name):
    without = onnx.load_from_string(made[name].quantize(["project"]))

    operators = {node.name: node.op_type for node in without.graph.node}
    assert operators["project"] == ("MatMulNBits" if name == "dynamic" else "MatMul")
    assert made[name].quantize(()) != without.SerializeToString()


def test_recipes_of_a_family_stand_together():
    families = [family_of(name) for name in RECIPES]

    assert families == sorted(families)
    assert set(families) == {"dynamic", "static", "weights"}


def test_what_can_not_be_prepared_is_said():
    with pytest.raises(NotQuantizable, match="preparing for quantization failed"):
        recipes(b"no model", [TOKENS], ["dynamic"])
