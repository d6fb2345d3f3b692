import pytest

from models.draft import Draft, NotNamed
from models.manifest import ManifestError

GATE = """
[gate]
metric = "auroc"
max_loss = 0.01
"""
OUTPUT = """
[[outputs]]
name = "risk"
column = 0
code = { system = "http://snomed.info/sct", code = "1" }
unit = "1"
range = [0, 1]
bands = [
  { at_least = 0, label = "low", advice = "Look." },
  { at_least = 0.3, label = "high", advice = "Look twice." },
]
"""


@pytest.fixture
def drafted(tmp_path):
    def draft(text="", files=()):
        (tmp_path / "manifest.toml").write_text(text, encoding="utf-8")
        for name in files:
            (tmp_path / name).write_bytes(b"")
        return Draft(tmp_path)

    return draft


def test_an_empty_manifest_is_a_beginning(drafted, tmp_path):
    draft = drafted()

    assert draft.name == tmp_path.name
    assert draft.output_name is None
    assert draft.weights_path == tmp_path / "model.onnx"
    assert draft.data_path() is None
    assert draft.gate({"metric": "mae"}).metric == "mae"
    assert draft.task(draft.gate({"metric": "mae"})) is None


def test_what_a_manifest_tells_is_taken(drafted, tmp_path):
    text = 'name = "mine"\n[weights]\nfile = "int8.onnx"\noutput_name = "risk"\n' + GATE + OUTPUT
    draft = drafted(text, ["evaluation.npz"])

    assert draft.name == "mine"
    assert draft.output_name == "risk"
    assert draft.weights_path == tmp_path / "int8.onnx"
    assert draft.data_path() == tmp_path / "evaluation.npz"
    assert draft.gate({}).max_loss == 0.01
    assert draft.gate({"max_loss": 0.1}).max_loss == 0.1
    assert draft.task(draft.gate({})).turns == ((0.3,),)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "model.fp32.onnx"),
        ('[weights]\nfile = "a.onnx"\nformat = "onnx-int8-qdq"', "model.fp32.onnx"),
        ('[weights]\nfile = "a.onnx"\nformat = "onnx-fp32"', "a.onnx"),
        ('[weights]\nfile = "a.onnx"\nreference = { file = "b.onnx" }', "b.onnx"),
    ],
    ids=["nothing said", "int8", "fp32", "twin"],
)
def test_the_fp32_network_is_found(drafted, tmp_path, text, name):
    assert drafted(text, [name]).fp32_path() == tmp_path / name


def test_a_missing_fp32_network_is_said_with_the_places_that_were_looked_at(drafted):
    with pytest.raises(NotNamed, match=r"model.fp32.onnx is missing: .* --model"):
        drafted().fp32_path()


def test_a_missing_metric_is_said(drafted):
    with pytest.raises(NotNamed, match=r"names no metric under \[gate\]; or give --metric"):
        drafted().gate({})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GATE + "max_los = 1", r"gate.max_los: Extra inputs"),
        (GATE.replace("0.01", "-1"), r"gate.max_loss: Input should be greater than 0"),
        (GATE + OUTPUT.replace('unit = "1"', ""), r"outputs.0: .*unit"),
    ],
    ids=["misspelt", "negative", "output"],
)
def test_a_wrong_key_is_named_with_its_file(drafted, text, says):
    draft = drafted(text)

    with pytest.raises(ManifestError, match=r"manifest.toml: " + says):
        draft.task(draft.gate({}))


def test_what_is_no_toml_or_not_there_is_said(drafted, tmp_path):
    with pytest.raises(ManifestError, match="not valid TOML"):
        drafted("gate = ")
    with pytest.raises(NotNamed, match=r"give --model, --data and --metric"):
        Draft(tmp_path / "elsewhere")
