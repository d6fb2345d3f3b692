"""What a network may be made of; every network here is built with ONNX's own tools."""

import re

import onnx
import pytest
from onnx import TensorProto, helper

from models.manifest import parse
from models.network_check import check_onnx, check_tflite, declared_inputs
from models.refusals import (
    ExternalData,
    NestedTooDeep,
    NetworkNotAsDeclared,
    NetworkUnreadable,
    OperatorNotAllowed,
)
from tests.odd_networks import (
    WIDTH,
    branch,
    condition,
    external_networks,
    field,
    if_node,
    network,
    tensor,
)
from tests.packages import files
from tests.tflite_models import float_model

TEXT = files()["manifest.toml"].decode()
MANIFEST = parse(TEXT)


def declaring(line: str):
    """Give the manifest with one more line about the weights."""
    return parse(TEXT.replace("tolerance = 0.03", f"tolerance = 0.03\n{line}"))


def check(content, *, manifest=MANIFEST, allowed=()):
    check_onnx(content, "model.onnx", manifest, allowed)


def test_a_plain_network_passes():
    check(network())


def test_a_network_with_a_branch_passes():
    check(network(condition(), if_node("yes", "unused", branch())))


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08" * 50, bytes(10)])
def test_what_is_no_onnx_is_refused(content):
    with pytest.raises(NetworkUnreadable):
        check(content)


@pytest.mark.parametrize(("place", "content"), external_networks().items(), ids=external_networks())
def test_data_in_another_file_is_refused_wherever_it_hides(place, content):
    with pytest.raises(ExternalData, match="lies in another file") as caught:
        check(content)
    assert "passwd" not in str(caught.value), place


def test_operators_of_another_domain_need_the_manifest_and_the_site():
    node = helper.make_node("Launch", ["features"], ["unused"], domain="com.evil")
    content = network(node, domains=[("com.evil", 1)])
    declared = declaring('operator_domains = ["com.evil"]')

    with pytest.raises(OperatorNotAllowed, match=r"'com\.evil' are used.*manifest"):
        check(content, allowed=["com.evil"])
    with pytest.raises(OperatorNotAllowed, match=r"'com\.evil'.*site file does not allow"):
        check(content, manifest=declared)
    check(content, manifest=declared, allowed=["com.evil"])


def test_an_operator_of_another_domain_is_found_inside_a_branch():
    node = helper.make_node("Launch", [], ["unused"], domain="com.evil")

    with pytest.raises(OperatorNotAllowed):
        check(network(condition(), if_node("yes", "out", branch(node))))


def test_the_runtimes_own_operators_need_nobodys_word():
    node = helper.make_node("Gelu", ["features"], ["unused"], domain="com.microsoft")

    check(network(node, domains=[("com.microsoft", 1)]))


def test_an_operator_that_onnx_does_not_know_is_refused():
    with pytest.raises(NetworkUnreadable, match="ONNX checker"):
        check(network(helper.make_node("Conjure", ["features"], ["unused"])))


def test_functions_of_its_own_are_refused_with_the_way_to_mend_it():
    node = helper.make_node("Identity", ["x"], ["y"])
    function = helper.make_function("local", "Twice", ["x"], ["y"], [node], [])

    with pytest.raises(OperatorNotAllowed, match=r"onnx\.inliner"):
        check(network(functions=[function], domains=[("local", 1)]))


def test_a_part_for_training_is_refused():
    model = onnx.load_from_string(network())
    model.training_info.add()

    with pytest.raises(NetworkUnreadable, match="training"):
        check(model.SerializeToString())


@pytest.mark.parametrize("depth", [5, 12])
def test_branches_that_nest_too_deep_are_refused(depth):
    with pytest.raises(NestedTooDeep, match="more than 4 deep"):
        check(network(condition(), if_node("yes", "unused", branch(depth=depth))))


def test_nesting_that_no_parser_survives_is_refused():
    graph = b""
    for _ in range(300):
        graph = field(1, field(5, field(6, graph)))  # GraphProto.node, .attribute, .g

    with pytest.raises(NetworkUnreadable, match="can't be read as ONNX"):
        check(field(7, graph))


def test_a_network_of_too_many_nodes_is_refused():
    nodes = [helper.make_node("Identity", ["features"], ["x"])] * 200_000

    with pytest.raises(NestedTooDeep, match="200,000 nodes"):
        check(network(*nodes))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"inputs": [tensor("features", "n", 7)]}, r"float32 \(n, 7\).*says float32 \(n, 11\)"),
        ({"inputs": [tensor("features", WIDTH)]}, r"float32 \(11\)"),
        ({"inputs": [tensor("features", "n", WIDTH, dtype=TensorProto.DOUBLE)]}, r"type 11"),
        (
            {"inputs": [tensor("features", "n", WIDTH), tensor("more", 1)]},
            "takes 'features', 'more', the manifest feeds 'features'",
        ),
        ({"outputs": [tensor("probability", "n", 2)]}, r"output 'probability'.*float32 \(n, 2\)"),
        ({"outputs": [tensor("probability", "n", 1, dtype=TensorProto.INT64)]}, "int64"),
        ({"outputs": [tensor("weights", WIDTH, 1)]}, "gives 'weights', the manifest reads"),
    ],
)
def test_other_inputs_or_outputs_than_the_manifests_are_refused(changed, said):
    with pytest.raises(NetworkNotAsDeclared, match=said):
        check(network(**changed))


def test_an_axis_without_a_size_fits_every_size():
    check(network(inputs=[tensor("features", "n", "k")], outputs=[tensor("probability", None, 1)]))


def test_a_fixed_number_of_cases_is_the_runtimes_business():
    check(network(inputs=[tensor("features", 4, WIDTH)], outputs=[tensor("probability", 4, 1)]))


def test_a_second_output_may_be_there_for_others():
    outputs = [tensor("probability", "n", 1), tensor("weights", WIDTH, 1)]

    check(network(outputs=outputs))


def test_an_image_and_a_text_are_fed_as_their_manifest_says():
    image = (
        '[image]\nlabel = "X-ray"\ninput_name = "image"\nheight = 28\nwidth = 30\n'
        'modalities = ["DX"]\n\n'
    )
    text = (
        '[text]\nlabel = "Note"\nids_name = "ids"\nmask_name = "mask"\n'
        f'tokenizer = "tokenizer.json"\ntokenizer_sha256 = "{"0" * 64}"\nmax_tokens = 64\n'
        'languages = ["en"]\n\n'
    )

    def fed(tables):
        manifest = parse(TEXT.replace("[weights]", f"{tables}[weights]", 1))
        return {name: str(each) for name, each in declared_inputs(manifest).items()}

    assert fed(image) == {"features": "float32 (n, 11)", "image": "float32 (n, 1, 28, 30)"}
    assert fed(text) == {
        "features": "float32 (n, 11)",
        "ids": "int64 (n, n)",
        "mask": "int64 (n, n)",
    }


def test_a_tflite_file_has_to_begin_as_one_and_open():
    with pytest.raises(NetworkUnreadable, match="does not begin as a TFLite file"):
        check_tflite(b"\x1c\0\0\0ONNX" + bytes(100), "model.tflite", MANIFEST)


def test_a_tflite_file_that_litert_can_not_open_is_refused():
    pytest.importorskip("ai_edge_litert", reason="LiteRT (extra `tflite`) is not installed")

    with pytest.raises(NetworkUnreadable, match=r"model\.tflite: LiteRT can't load"):
        check_tflite(b"\x1c\0\0\0TFL3" + bytes(100), "model.tflite", MANIFEST)


def test_a_tflite_file_takes_and_gives_what_the_manifest_says():
    pytest.importorskip("ai_edge_litert", reason="LiteRT (extra `tflite`) is not installed")
    few = re.sub(r"(?ms)^any_of = .*?$|^min_present = .*?$", "", TEXT)
    inputs = re.findall(r"(?ms)^\[\[inputs\]\].*?(?=^\[)", few)
    for each in inputs[4:]:
        few = few.replace(each, "", 1)

    check_tflite(float_model(), "model.tflite", parse(few))
    with pytest.raises(NetworkNotAsDeclared, match=r"float32 \(n, 4\), the manifest says"):
        check_tflite(float_model(), "model.tflite", MANIFEST)
    renamed = parse(few.replace('output_name = "probability"', 'output_name = "risk"'))
    with pytest.raises(NetworkUnreadable, match="has no output risk"):
        check_tflite(float_model(), "model.tflite", renamed)
