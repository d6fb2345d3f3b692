import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from models.quantize import NotQuantizable, StaticInt8, dynamic_int8
from models.runtime import open_session
from models.sensitivity import Sensitivity, mend, scan
from tests import networks

WIDTH, NODES = 32, ("layer0", "layer1", "layer2", "layer3")


def with_a_sensitive_node(place):
    """Four layers; the weights of one are tiny but for a column that nothing comes of.

    Per-channel scales can't help: the large weight stands in every column of that layer.
    """
    layers = {f"w{at}": networks.normal(WIDTH, WIDTH, seed=at) for at in range(len(NODES))}
    layers[f"w{place}"][0] = 40.0
    nodes = []
    for at, name in enumerate(NODES):
        nodes += [
            helper.make_node("MatMul", [f"x{at}", f"w{at}"], [f"h{at}"], name=name),
            helper.make_node("Mul", [f"h{at}", f"k{at}"], [f"x{at + 1}"], name=f"scale{at}"),
        ]
    scales = {f"k{at}": np.ones(WIDTH, dtype=np.float32) for at in range(len(NODES))}
    # What feeds the large weights is silenced, so that they matter to the scale only.
    if place:
        scales[f"k{place - 1}"][0] = 0.0
    return networks.network(
        nodes,
        layers | scales,
        inputs={"x0": (TensorProto.FLOAT, ["n", WIDTH])},
        outputs={f"x{len(NODES)}": ["n", WIDTH]},
    )


def damage_to(fp32, batch):
    expected = open_session(fp32, exact_int8=False).run(None, batch)[0]

    def damage(model):
        answer = open_session(model, exact_int8=False).run(None, batch)[0]
        return 0.0, float(np.sqrt(np.mean((answer - expected) ** 2)) / expected.std())

    return damage


@pytest.mark.parametrize("place", [1, 2, 3])
@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_the_scan_finds_the_planted_node_and_mending_stops_there(place, method):
    fp32 = with_a_sensitive_node(place)
    batch = {"x0": networks.normal(64, WIDTH, seed=99, scale=1.0)}
    damage = damage_to(fp32, batch)
    quantize = (
        StaticInt8(fp32, [batch])
        if method == "static"
        else lambda names: dynamic_int8(fp32, keep_fp32=names)
    )

    ranked = scan(quantize, NODES, damage)
    mended = mend(quantize, ranked, lambda model: damage(model)[1] < 0.1)

    assert damage(quantize(()))[1] > 0.2
    assert ranked[0].nodes == (NODES[place],)
    assert mended.left_alone == (NODES[place],)
    assert mended.evaluations == 1
    assert damage(mended.model)[1] < 0.1


class Counted:
    """Quantizes by name only, so that what is asked for can be counted.

    A "network" is the list of nodes in fp32; the others do the damage that the table says.
    """

    def __init__(self, harm):
        self.harm = harm
        self.asked = []

    def __call__(self, names):
        if set(names) == set(self.harm):
            raise NotQuantizable("nothing is left")
        self.asked.append(tuple(names))
        return ",".join(names).encode()

    def damage(self, model):
        kept = model.decode().split(",")
        return 0.0, sum(harm for name, harm in self.harm.items() if name not in kept)


def test_nodes_are_left_alone_one_by_one_until_the_target_is_met():
    network = Counted({"a": 1.0, "b": 4.0, "c": 2.0, "d": 0.5})

    ranked = scan(network, list("abcd"), network.damage)
    mended = mend(network, ranked, lambda model: network.damage(model)[1] <= 2.0)

    assert [each.nodes for each in ranked] == [("b",), ("c",), ("a",), ("d",)]
    assert mended.left_alone == ("b", "c")
    assert network.asked[5:] == [("b",), ("b", "c")]


def test_a_target_out_of_reach_is_given_up_within_the_budget():
    network = Counted(dict.fromkeys("abcdefgh", 1.0))
    ranked = scan(network, list("abcdefgh"), network.damage)
    asked = len(network.asked)

    assert mend(network, ranked, lambda _: False, most=3) is None
    assert len(network.asked) == asked + 3


def test_leaving_everything_alone_is_no_answer():
    network = Counted({"a": 1.0, "b": 2.0})
    ranked = scan(network, ["a", "b"], network.damage)

    assert mend(network, ranked, lambda _: False) is None


def test_a_single_node_can_not_be_left_alone():
    network = Counted({"a": 1.0})

    assert scan(network, ["a"], network.damage) == ()


def test_what_mends_nothing_is_not_named():
    network = Counted({"a": 0.0, "b": 4.0})

    assert scan(network, ["a", "b"], network.damage) == (Sensitivity(("b",), (0.0, 0.0)),)


@given(count=st.integers(1, 60), most=st.integers(2, 20))
def test_a_scan_keeps_to_its_budget_and_covers_every_node(count, most):
    names = [f"n{at}" for at in range(count)]
    network = Counted(dict.fromkeys([*names, "other"], 1.0))
    told = []

    ranked = scan(
        network, names, network.damage, most=most, progress=lambda *told_: told.append(told_)
    )

    assert len(network.asked) <= most
    assert sorted(itertools.chain(*(each.nodes for each in ranked))) == sorted(names)
    assert told[-1][0] == told[-1][1] == len(told)
