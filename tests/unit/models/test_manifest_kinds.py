"""Manifests of images, texts, classes, scores and panels: what is accepted and what is refused."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.manifest import ManifestError, Validity, parse

HEAD = """
manifest_version = 1
name = "toy"
version = "1.2.3"
title = "Toy"
intended_use = "Tests."
not_for = "Anything else."
demonstration_only = true
manufacturer = "Nobody"
licence = "Apache-2.0"
card = "card.md"
golden = "golden.json"
"""
WEIGHTS = """
[weights]
file = "model.onnx"
sha256 = "{zeros}"
format = "onnx-int8-qdq"
tolerance = 0.01
output_name = "y"
""".format(zeros="0" * 64)
IMAGE = """
[image]
label = "Chest X-ray"
input_name = "image"
height = 28
width = 28
modalities = ["DX", "CR"]
body_parts = ["CHEST"]
mean = [0.5]
std = [0.25]
"""
TEXT = """
[text]
label = "Referral note"
ids_name = "input_ids"
mask_name = "attention_mask"
tokenizer = "tokenizer.json"
tokenizer_sha256 = "{zeros}"
max_tokens = 128
languages = ["en"]
""".format(zeros="0" * 64)
GUARD = """
[[inputs]]
id = "age"
label = "Age"
source = "patient-age"
unit = "a"
plausible = [0, 120]
intended = [1, 5]
missing = "refuse"
"""
PROBABILITY = """
[[outputs]]
name = "risk"
column = 0
code = { system = "http://example.org", code = "risk" }
outcome = { system = "http://snomed.info/sct", code = "233604007", display = "Pneumonia" }
unit = "{probability}"
range = [0, 1]
bands = [{ at_least = 0, label = "low", advice = "None." }]
summary = "{label}, {percent} %."
"""
CLASSES = """
[[outputs]]
name = "specialty"
kind = "class"
column = 0
code = { system = "http://example.org", code = "specialty" }
min_confidence = 0.5
classes = [
  { system = "http://example.org", code = "cardiology", display = "Cardiology", advice = "Refer." },
  { system = "http://example.org", code = "urology", label = "Urologist", interpretation = "A" },
  { system = "http://example.org", code = "ent" },
]
summary = "{label} ({percent} %). {advice}"
"""
SCORE = """
[[outputs]]
name = "total"
kind = "score"
column = 0
code = { system = "http://example.org", code = "total" }
unit = "{score}"
range = [0, 20]
reference_range = [0, 4]
bands = [
  { at_least = 0, label = "low", advice = "Go on." },
  { at_least = 7, interpretation = "HH", label = "high", advice = "Call." },
]
summary = "Score {value}: {label}."

[[outputs]]
name = "part"
kind = "regression"
column = 1
code = { system = "http://example.org", code = "part" }
unit = "mL/min"
range = [0, 200]
"""
IMAGE_MODEL = HEAD + WEIGHTS + IMAGE + PROBABILITY
TEXT_MODEL = HEAD + WEIGHTS + TEXT + CLASSES


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def test_a_model_of_images_says_what_becomes_of_the_pixels():
    manifest = parse(IMAGE_MODEL)

    assert manifest.image is not None
    assert (manifest.image.height, manifest.image.channels) == (28, 1)
    assert manifest.image.if_unstated == "refuse"
    assert (manifest.width, manifest.output_width, manifest.look_back_h) == (0, 1, 0)


def test_numbers_beside_an_image_guard_without_being_fed():
    manifest = parse(changed(IMAGE_MODEL, IMAGE, IMAGE + GUARD))

    assert manifest.width == 0
    assert not manifest.input("age").is_intended(40)


def test_a_model_names_every_file_that_belongs_to_it_once():
    text = changed(
        TEXT_MODEL,
        'golden = "golden.json"',
        """golden = "golden.json"
evaluation = "evaluation.json"
licence_file = "card.md"
""",
    )

    assert parse(text).files == (
        "manifest.toml",
        "model.onnx",
        "tokenizer.json",
        "golden.json",
        "card.md",
        "evaluation.json",
    )


def test_the_likeliest_class_is_named():
    (specialty,) = parse(TEXT_MODEL).outputs

    answer = specialty.read([0.1, 0.8, 0.1])

    assert (answer.label, answer.interpretation, answer.value) == ("Urologist", "A", 0.8)
    assert answer.describe(used=1, total=1) == "Urologist (80 %)."
    assert not answer.is_uncertain


def test_a_class_without_a_word_of_its_own_is_called_by_its_code():
    (specialty,) = parse(TEXT_MODEL).outputs

    assert [each.words for each in specialty.classes] == ["Cardiology", "Urologist", "ent"]


def test_a_class_that_is_not_likely_enough_is_not_named():
    (specialty,) = parse(TEXT_MODEL).outputs

    answer = specialty.read([0.4, 0.3, 0.3])

    assert answer.is_uncertain
    assert (answer.label, answer.interpretation, answer.advice) == ("uncertain", "IND", "")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([0.9, 0.9, 0.1], "don't add up"),
        ([1.2, -0.1, -0.1], "outside its range"),
        ([float("nan"), 0.5, 0.5], "outside its range"),
    ],
)
def test_what_is_no_distribution_is_no_answer(row, said):
    (specialty,) = parse(TEXT_MODEL).outputs

    with pytest.raises(ValueError, match=said):
        specialty.read(row)


@pytest.mark.parametrize(("value", "read"), [(1.0000001192092896, 1.0), (-1e-7, 0.0), (0.7, 0.7)])
def test_what_float32_carries_just_beyond_the_range_is_its_end(value, read):
    (chance,) = parse(IMAGE_MODEL).outputs

    assert chance.read([value]).value == read


@pytest.mark.parametrize("value", [1.001, -1e-4, float("nan"), float("inf")])
def test_what_is_further_outside_is_no_answer(value):
    (chance,) = parse(IMAGE_MODEL).outputs

    with pytest.raises(ValueError, match="outside its range"):
        chance.read([value])


JUDGED = """
[[outputs]]
name = "urgency"
kind = "score"
column = 2
code = { system = "http://example.org", code = "urgency" }
unit = "{score}"
range = [0, 1]
bands = [
  { at_least = 0, label = "calm", advice = "Go on." },
  { at_least = 1, interpretation = "A", label = "alarming", advice = "Look." },
]
"""


def test_an_output_may_be_judged_by_the_bands_of_another():
    score = SCORE[: SCORE.index("bands")] + SCORE[SCORE.index("summary") :]
    judged = changed(score, "reference_range", 'judged_by = "urgency"\nreference_range')
    manifest = parse(HEAD + WEIGHTS + IMAGE + judged + JUDGED)

    total, _, urgency = manifest.read([3, 50, 1])

    assert (total.value, total.label, total.advice) == (3, "alarming", "Look.")
    assert total.interpretation == urgency.interpretation == "A"
    assert total.describe(used=1, total=1) == "Score 3: alarming."


def test_what_is_not_judged_by_another_is_read_as_it_is():
    manifest = parse(HEAD + WEIGHTS + IMAGE + SCORE)

    assert manifest.read([7, 50]) == tuple(each.read([7, 50]) for each in manifest.outputs)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'name = "part"',
            'name = "part"\njudged_by = "nobody"',
            "must name an output that has bands",
        ),
        (
            'name = "part"',
            'name = "part"\njudged_by = "part"',
            "must name an output that has bands",
        ),
        ('name = "total"', 'name = "total"\njudged_by = "urgency"', "not with bands of its own"),
        ('name = "part"', 'name = "total"', "name used twice"),
    ],
)
def test_a_judge_must_be_another_output_with_bands(old, new, said):
    with pytest.raises(ManifestError, match=said):
        parse(HEAD + WEIGHTS + IMAGE + changed(SCORE, old, new) + JUDGED)


def test_a_score_is_a_whole_number_with_its_band():
    total, part = parse(HEAD + WEIGHTS + IMAGE + SCORE).outputs

    assert total.read([7.0001, 0]).value == 7
    assert total.read([7, 0]).interpretation == "HH"
    assert part.read([7, 93.5]).value == 93.5
    assert (part.read([0, 9]).label, part.read([0, 9]).advice) == ("", "")
    assert part.read([0, 9]).interpretation is None
    assert part.read([0, 9]).describe(used=1, total=1) == ""


@pytest.mark.parametrize("value", [3.4, float("nan"), float("inf"), 20.6])
def test_a_score_that_is_not_whole_is_no_answer(value):
    total, _ = parse(HEAD + WEIGHTS + IMAGE + SCORE).outputs

    with pytest.raises(ValueError, match="no whole number"):
        total.read([value, 0])


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_a_distribution_is_always_answered_by_its_largest_share(weights):
    (specialty,) = parse(TEXT_MODEL).outputs
    shares = [each / sum(weights) for each in weights]

    answer = specialty.read(shares)

    assert answer.value == max(shares)
    assert answer.shares == tuple(shares)
    assert answer.chosen in (None, specialty.classes[shares.index(max(shares))])


@pytest.mark.parametrize(
    ("text", "old", "new", "said"),
    [
        (IMAGE_MODEL, IMAGE, "", "inputs: needed with weights.input_name"),
        (IMAGE_MODEL, 'output_name = "y"', 'output_name = "y"\ninput_name = "x"', "no inputs"),
        (IMAGE_MODEL, IMAGE, IMAGE + TEXT, "image: not together with text"),
        (IMAGE_MODEL, "mean = [0.5]", "mean = [0.5, 0.5]", "mean: one number per channel"),
        (IMAGE_MODEL, 'modalities = ["DX", "CR"]', "modalities = []", r"image\.modalities"),
        (IMAGE_MODEL, "height = 28", "height = 28\nwindows = 1", r"image\.windows"),
        (IMAGE_MODEL, "range = [0, 1]", "range = [0, 2]", r"of a probability it is \[0, 1\]"),
        (IMAGE_MODEL, 'unit = "{probability}"', "", "unit: for every kind but class"),
        (
            IMAGE_MODEL,
            'bands = [{ at_least = 0, label = "low", advice = "None." }]',
            "",
            "bands: a probability needs them",
        ),
        (IMAGE_MODEL, 'summary = "{label}, {percent} %."', "", "the first needs a summary"),
        (TEXT_MODEL, 'kind = "class"', 'kind = "class"\nunit = "1"', "unit: for every kind but"),
        (TEXT_MODEL, 'code = "ent"', 'code = "urology"', "classes: code used twice"),
        (TEXT_MODEL, "min_confidence = 0.5", "min_confidence = 1.5", "min_confidence"),
        (TEXT_MODEL, "max_tokens = 128", "max_tokens = 4", r"text\.max_tokens"),
        (
            TEXT_MODEL,
            'kind = "class"',
            'kind = "class"\nreference_range = [0, 1]',
            "reference_range: not for a class",
        ),
        (
            HEAD + WEIGHTS + IMAGE + SCORE,
            "reference_range",
            "min_confidence = 0.5\nreference_range",
            "min_confidence: only for kind class",
        ),
        (
            TEXT_MODEL,
            TEXT,
            TEXT + '[result]\nresource = "RiskAssessment"\n',
            "a RiskAssessment needs probabilities with an outcome",
        ),
        (
            IMAGE_MODEL,
            IMAGE,
            IMAGE
            + '[result]\nresource = "RiskAssessment"\n[panel]\nlabel = "Findings"\n'
            + 'code = { system = "s", code = "c" }\n',
            "panel: not with a RiskAssessment",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_by_key(text, old, new, said):
    with pytest.raises(ManifestError, match=said):
        parse(changed(text, old, new))


def test_a_risk_of_an_outcome_may_be_reported_as_a_risk_assessment():
    text = changed(IMAGE_MODEL, IMAGE, IMAGE + '[result]\nresource = "RiskAssessment"\n')

    assert parse(text).result.resource == "RiskAssessment"


def test_labels_that_may_hold_together_are_reported_under_a_panel():
    panel = '[panel]\nlabel = "Findings"\ncode = { system = "s", code = "c" }\n'
    second = PROBABILITY.replace('"risk"', '"other"').replace("column = 0", "column = 1")

    manifest = parse(changed(IMAGE_MODEL, IMAGE, IMAGE + panel) + second)

    assert manifest.panel is not None
    assert manifest.output_width == 2


@pytest.mark.parametrize(
    ("day", "valid"),
    [(date(2026, 1, 1), True), (date(2025, 12, 31), False), (date(2027, 1, 1), False)],
)
def test_a_model_is_valid_on_the_days_its_maker_says(day, valid):
    until = Validity(not_before=date(2026, 1, 1), not_after=date(2026, 12, 31))

    assert until.includes(day) == valid
    assert Validity().includes(day)


@pytest.mark.parametrize(("name", "is_tflite"), [("tflite-int8", True), ("onnx-fp32", False)])
def test_the_format_tells_which_runtime_runs_it(name, is_tflite):
    manifest = parse(changed(IMAGE_MODEL, "onnx-int8-qdq", name))

    assert manifest.weights.is_tflite == is_tflite


@pytest.mark.parametrize(
    ("text", "gate", "said"),
    [
        (IMAGE_MODEL, 'metric = "macro-f1"', "gate.threshold: needed where"),
        (IMAGE_MODEL, 'metric = "mae"', "gate.metric: mae means nothing"),
        (TEXT_MODEL, 'metric = "rmse"', "gate.metric: rmse means nothing"),
        (TEXT_MODEL, 'metric = "macro-f1"\nthreshold = 0.5', "gate.threshold: only for"),
        (HEAD + WEIGHTS + IMAGE + SCORE, 'metric = "auroc"', "gate.metric: auroc means nothing"),
    ],
)
def test_a_gate_that_can_not_judge_the_answer_is_refused(text, gate, said):
    with pytest.raises(ManifestError, match=said):
        parse(f"{text}\n[gate]\n{gate}\n")


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        (IMAGE_MODEL, 'metric = "auroc"'),
        (IMAGE_MODEL, 'metric = "accuracy"\nthreshold = 0.4'),
        (TEXT_MODEL, 'metric = "macro-f1"'),
        (HEAD + WEIGHTS + IMAGE + SCORE, 'metric = "accuracy"'),
        (HEAD + WEIGHTS + IMAGE + SCORE, 'metric = "mae"'),
    ],
)
def test_a_gate_that_can_judge_the_answer_is_accepted(text, gate):
    assert parse(f"{text}\n[gate]\n{gate}\n").gate is not None
