import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.dataset import DatasetUnusable
from models.draft import NotNamed
from models.registry import ModelUnusable
from models.subject import Named, read_subject
from tests import networks
from tests.quantizing import written

NOTHING = {
    "folder": None,
    "model": None,
    "data": None,
    "calibration": None,
    "gate": {"metric": "auroc"},
    "output": None,
}
BANDS = [{"at_least": 0, "label": "low", "advice": "Look."}]


@pytest.fixture
def files(tmp_path):
    return written(tmp_path, networks.dense())


def named(files, **more):
    return Named(**(NOTHING | {"model": files[0], "data": files[1]} | more))


def several_outputs(path):
    """As scikit-learn's converter writes a classifier: a label and two probabilities."""
    nodes = [
        helper.make_node("Gemm", ["features", "w"], ["p"], name="scores"),
        helper.make_node("Softmax", ["p"], ["probabilities"], name="softmax"),
        helper.make_node("Sigmoid", ["p"], ["other"], name="sigmoid"),
    ]
    content = networks.network(
        nodes,
        {"w": networks.normal(16, 2)},
        inputs={"features": (TensorProto.FLOAT, ["n", 16])},
        outputs={"other": ["n", 2], "probabilities": ["n", 2]},
    )
    path.write_bytes(content)
    return path


def test_a_file_with_its_cases_is_enough(files):
    subject = read_subject(named(files))

    assert subject.name == "mine"
    assert subject.output == "risk"
    assert subject.gate.max_loss == 0.005
    assert subject.task.kind == "probability"
    assert subject.cases.fp32.shape == (320, 1)
    assert set(subject.cases.groups) == {"sex"}
    assert sum(len(each["features"]) for each in subject.calibration) == 80


def test_a_folder_with_an_unfinished_manifest_is_enough(tmp_path):
    model, data = written(tmp_path, networks.dense())
    model.rename(tmp_path / "model.fp32.onnx")
    data.rename(tmp_path / "evaluation.npz")
    (tmp_path / "manifest.toml").write_text('name = "liver"\n[gate]\nmetric = "accuracy"\n')

    subject = read_subject(Named(**(NOTHING | {"folder": tmp_path, "gate": {}})))

    assert subject.name == "liver"
    assert subject.gate.metric == "accuracy"


@pytest.mark.parametrize(
    ("metric", "truth", "kind"),
    [("accuracy", np.arange(90) % 2, "class"), ("mae", np.zeros((90, 2)), "value")],
)
def test_what_the_answers_mean_is_told_from_the_metric_and_the_truth(tmp_path, metric, truth, kind):
    data = tmp_path / "set.npz"
    np.savez(data, **networks.features(90), truth=truth)
    model = several_outputs(tmp_path / "two.onnx")

    subject = read_subject(named((model, data), gate={"metric": metric}, output="probabilities"))

    assert subject.task.kind == kind
    assert subject.task.columns == (0, 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": None}, "No model is named: give a model folder, or --model"),
        ({"data": None}, r"No evaluation set is named: give --data FILE.npz"),
        ({"gate": {}}, "No metric is named: give --metric"),
    ],
    ids=["model", "data", "metric"],
)
def test_what_was_not_named_is_asked_for(files, change, says):
    with pytest.raises(NotNamed, match=says):
        read_subject(named(files, **change))


def test_several_outputs_must_be_told_apart(tmp_path, files):
    model = several_outputs(tmp_path / "two.onnx")

    with pytest.raises(NotNamed, match="Name it with --output: other, probabilities"):
        read_subject(named((model, files[1])))


@pytest.mark.parametrize(
    ("truth", "says"),
    [
        (np.full(400, np.nan), "400 of 400 are no number, the first in row 0"),
        (np.arange(400), "truth must be whole numbers from 0 to 1"),
        (np.zeros(400), "auroc needs cases with the condition and cases without"),
        (np.zeros((400, 2)), "truth has 2 columns"),
    ],
    ids=["missing", "classes", "one class", "columns"],
)
def test_a_truth_that_does_not_fit_is_refused_with_its_file(tmp_path, truth, says):
    files = written(tmp_path, networks.dense(), truth=truth)

    with pytest.raises(DatasetUnusable, match=rf"mine.npz: .*{says}"):
        read_subject(named(files))


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "no ONNX model that can be run"), (None, "can't be read: No such file")],
    ids=["empty", "missing"],
)
def test_what_is_no_model_is_refused_with_its_file(files, content, says):
    files[0].unlink()
    if content is not None:
        files[0].write_bytes(content)

    with pytest.raises(ModelUnusable, match=rf"mine.onnx .*{says}|mine.onnx is {says}") as caught:
        read_subject(named(files))

    assert "\n" not in str(caught.value)


def test_a_network_of_a_fixed_batch_is_refused_with_the_way_to_mend_it(files):
    single = onnx.load(files[0])
    single.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(single, files[0])

    with pytest.raises(
        ModelUnusable, match=r"first axis of features is fixed to 1. .*dynamic_axes"
    ):
        read_subject(named(files))


def test_an_output_that_is_not_there_is_refused(files):
    with pytest.raises(ModelUnusable, match=r"mine.onnx: it can't answer the cases: .*chance"):
        read_subject(named(files, output="chance"))


def test_a_manifest_of_more_columns_than_the_network_has_is_refused(tmp_path, files):
    classes = ", ".join(f'{{ system = "urn:x", code = "{at}" }}' for at in range(3))
    (tmp_path / "manifest.toml").write_text(
        '[gate]\nmetric = "accuracy"\n[[outputs]]\nname = "kind"\nkind = "class"\ncolumn = 0\n'
        f'code = {{ system = "urn:x", code = "k" }}\nclasses = [{classes}]\n'
    )

    with pytest.raises(ModelUnusable, match=r"risk has 1 columns, \[\[outputs\]\] more"):
        read_subject(named(files, folder=tmp_path, gate={}))


def test_a_sample_is_of_the_same_cases_every_time(files):
    subject = read_subject(named(files))

    few = subject.sample(100)

    assert len(few.cases.truth) == len(few.inputs["features"]) == 100
    assert few.metric(few.cases.fp32) == subject.sample(100).metric(few.cases.fp32)
    assert abs(few.metric(few.cases.fp32) - subject.metric(subject.cases.fp32)) < 0.15


def test_a_sample_that_lacks_the_condition_is_no_sample(tmp_path):
    truth = np.zeros(400, dtype=int)
    truth[:20] = 1
    subject = read_subject(named(written(tmp_path, networks.dense(), truth=truth)))

    assert subject.sample(1) is subject
