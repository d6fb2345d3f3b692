import json

import numpy as np
import pytest

from models.golden import GoldenUnusable, encode, read_golden
from models.images import decode, to_tensors
from models.manifest import parse
from models.texts import TextEncoder
from tests.notes import NOTE, word_tokenizer
from tests.pictures import gradient, png
from tests.toy_models import PROBABILITY, numbers, picture_case
from tests.unit.models.test_manifest_kinds import HEAD, IMAGE, TEXT, WEIGHTS

FED = WEIGHTS + 'input_name = "x"\n'
NUMBERS = parse(HEAD + FED + numbers("ab") + PROBABILITY)
PICTURES = parse(HEAD + WEIGHTS + IMAGE + PROBABILITY)
GUARDED = parse(HEAD + WEIGHTS + IMAGE + numbers("ab") + PROBABILITY)
NOTES = parse(HEAD + WEIGHTS + TEXT + PROBABILITY)


def golden(*cases):
    named = [{"id": f"case-{at}", "note": "", **case} for at, case in enumerate(cases)]
    return json.dumps({"cases": named}).encode()


def test_numbers_become_columns_in_the_order_of_the_manifest_and_gaps_nan():
    cases = read_golden(
        golden(
            {"inputs": {"b": 2, "a": 1}, "expected": [0.25]},
            {"inputs": {"a": None, "b": 3}, "expected": [0.5]},
        ),
        NUMBERS,
    )

    batch, expected = encode(cases, NUMBERS, None)

    np.testing.assert_array_equal(batch["x"], np.array([[1, 2], [np.nan, 3]], np.float32))
    assert expected.tolist() == [[0.25], [0.5]]
    assert batch["x"].dtype == expected.dtype == np.float32


@pytest.mark.parametrize("manifest", [PICTURES, GUARDED], ids=["alone", "with guards"])
def test_an_image_becomes_the_tensor_it_is_in_service(manifest):
    picture = png(gradient(40, 50))

    batch, _ = encode(read_golden(golden(picture_case(picture, [0.5])), manifest), manifest, None)

    spec = manifest.image
    assert batch[spec.input_name].shape == (1, 1, 28, 28)
    np.testing.assert_array_equal(
        batch[spec.input_name][0], to_tensors(decode(picture, "image/png", spec), spec)["image"]
    )


def test_a_text_becomes_the_tokens_it_is_in_service():
    longer = {"text": NOTE, "expected": [0.5]}
    shorter = {"text": "Chest pain since two days.", "expected": [0.25]}

    batch, _ = encode(read_golden(golden(longer, shorter), NOTES), NOTES, word_tokenizer())

    alone = TextEncoder(word_tokenizer(), NOTES.text).encode(NOTE)
    assert batch["input_ids"][0].tolist() == alone["input_ids"].tolist()
    assert batch["attention_mask"].sum(axis=1)[0] > batch["attention_mask"].sum(axis=1)[1]


@pytest.mark.parametrize(
    ("manifest", "case"),
    [
        (NUMBERS, {"inputs": {"a": 1}, "expected": [0.5]}),
        (NUMBERS, {"inputs": {"a": 1, "b": 2, "c": 3}, "expected": [0.5]}),
        (NUMBERS, {"inputs": {"a": 1, "b": 2}, "expected": [0.5, 0.5]}),
        (NUMBERS, {"text": "Chest pain", "expected": [0.5]}),
        (NUMBERS, {"expected": [0.5]}),
        (PICTURES, {"inputs": {"a": 1, "b": 2}, "expected": [0.5]}),
        (GUARDED, {**picture_case(png(gradient()), [0.5]), "inputs": {"a": 1, "b": 2}}),
        (NOTES, picture_case(png(gradient()), [0.5])),
    ],
)
def test_a_case_that_does_not_fit_the_manifest_is_named(manifest, case):
    with pytest.raises(GoldenUnusable, match="golden case case-0 doesn't fit the manifest"):
        read_golden(golden(case), manifest)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"cases": []}',
        golden({"inputs": {"a": 1, "b": 2}, "expected": [0.5], "unknown": 1}),
    ],
)
def test_a_file_of_another_kind_is_refused(content):
    with pytest.raises(GoldenUnusable, match="not a file of golden cases"):
        read_golden(content, NUMBERS)


@pytest.mark.parametrize(
    ("manifest", "case"),
    [
        (PICTURES, picture_case(b"no png", [0.5])),
        (NOTES, {"text": "?", "expected": [0.5]}),
    ],
)
def test_a_case_that_would_be_refused_in_service_is_named(manifest, case):
    cases = read_golden(golden(case), manifest)

    with pytest.raises(GoldenUnusable, match="golden case case-0: "):
        encode(cases, manifest, word_tokenizer())
