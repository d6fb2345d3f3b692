import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from models.quantize import NotQuantizable, prepared
from models.runtime import open_session
from models.weight_only import blocks_of, compact_tables, packed, weight_only
from tests import networks

EMBEDDING, TOKENS = networks.embedding(), networks.tokens()
DENSE, FEATURES = networks.dense(64, 128), networks.features(width=64)
ROWS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 40)),
    elements=st.floats(-1000, 1000, width=32),
)


def answers(model, batch):
    return open_session(model, exact_int8=False).run(None, batch)[0]


def off(model, fp32, batch):
    expected = answers(fp32, batch)
    return float(np.sqrt(np.mean((answers(model, batch) - expected) ** 2)) / expected.std())


def operators_of(model):
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


@pytest.mark.parametrize(
    ("fp32", "batch"), [(EMBEDDING, TOKENS), (DENSE, FEATURES)], ids=["embedding", "dense"]
)
@pytest.mark.parametrize(
    ("bits", "most", "share"), [(8, 0.05, 0.36), (4, 0.4, 0.23)], ids=["int8", "int4"]
)
def test_smaller_weights_answer_nearly_as_before(fp32, batch, bits, most, share):
    smaller = weight_only(prepared(fp32), bits=bits, least_weights=256)

    assert len(smaller) < share * len(fp32)
    assert 0 < off(smaller, fp32, batch) < most
    onnx.checker.check_model(onnx.load_from_string(smaller))


def test_tables_and_matrices_become_blocks_and_their_fp32_weights_go():
    smaller = onnx.load_from_string(weight_only(EMBEDDING, least_weights=256))

    assert "GatherBlockQuantized" in {node.op_type for node in smaller.graph.node}
    assert [node.name for node in smaller.graph.node if node.op_type == "MatMulNBits"] == [
        "project",
        "last",
    ]
    assert {"table", "w1", "w2"}.isdisjoint(each.name for each in smaller.graph.initializer)


def test_only_tables_are_compacted_where_that_is_asked_for():
    smaller = compact_tables(EMBEDDING)

    assert operators_of(smaller).count("MatMul") == 2
    assert "GatherBlockQuantized" in operators_of(smaller)
    assert off(smaller, EMBEDDING, TOKENS) < 0.02


def test_small_matrices_and_named_nodes_are_left_alone():
    smaller = weight_only(DENSE, keep_fp32=["second"], least_weights=256)

    assert operators_of(smaller).count("MatMulNBits") == 1  # the first; the last has 128 weights
    assert operators_of(smaller).count("MatMul") == 2


@pytest.mark.parametrize(
    "shrink",
    [lambda: weight_only(DENSE, least_weights=10**6), lambda: compact_tables(DENSE)],
    ids=["too small", "no table"],
)
def test_nothing_to_shrink_is_said(shrink):
    with pytest.raises(NotQuantizable, match="no layers"):
        shrink()


def test_a_misspelt_node_is_named():
    with pytest.raises(NotQuantizable, match="no node is called secnod"):
        weight_only(DENSE, keep_fp32=["secnod"])


def test_a_lookup_along_the_second_axis_is_left_alone():
    fp32 = networks.network(
        [
            helper.make_node("Gather", ["t", "i"], ["e"], name="columns", axis=1),
            helper.make_node("MatMul", ["e", "w"], ["y"], name="sum"),
        ],
        {"t": networks.normal(128, 64), "w": networks.normal(4, 128)},
        inputs={"i": (TensorProto.INT64, [4])},
        outputs={"y": [128, 128]},
    )

    assert operators_of(weight_only(fp32, least_weights=256)) == ["Gather", "MatMulNBits"]


@given(rows=ROWS, bits=st.sampled_from([4, 8]), size=st.sampled_from([16, 32]))
def test_a_weight_comes_back_within_a_step(rows, bits, size):
    levels, scales, zeros = blocks_of(rows, size=size, most=2**bits - 1)

    back = (levels.astype(np.float64) - zeros[..., None]) * scales[..., None].astype(np.float64)
    back = back.reshape(len(rows), -1)[:, : rows.shape[1]]
    steps = np.repeat(scales, size, axis=1)[:, : rows.shape[1]]
    assert levels.max() < 2**bits
    assert (np.abs(back - rows) <= steps * 1.01 + 1e-30).all()


@given(
    arrays.arrays(
        np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.integers(0, 15)
    )
)
def test_packed_levels_can_be_taken_apart(levels):
    bytes_ = packed(levels, bits=4)

    apart = np.stack([bytes_ & 15, bytes_ >> 4], axis=-1).reshape(len(levels), -1)
    np.testing.assert_array_equal(apart[:, : levels.shape[1]], levels)
    np.testing.assert_array_equal(packed(levels, bits=8), levels)


def test_seven_bits_in_smaller_blocks_keep_the_answers_and_no_byte_is_above_127():
    small = weight_only(DENSE, block=32, seven_bit=True)

    levels = [
        numpy_helper.to_array(each)
        for each in onnx.load_from_string(small).graph.initializer
        if each.data_type == TensorProto.UINT8 and each.dims[-1] == 32
    ]

    assert levels
    assert max(each.max() for each in levels) <= 127
    assert off(small, DENSE, FEATURES) < 0.05
