import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.tensors import stack
from models.texts import TextEncoder, TextRefused, count_letters, script_of
from tests.notes import NOTE, text_input, word_tokenizer

TOKENIZER = word_tokenizer()


def encode(text: str, language: str | None = None, **spec: object) -> dict[str, list[int]]:
    tensors = TextEncoder(TOKENIZER, text_input(**spec)).encode(text, language=language)
    return {name: array.tolist() for name, array in tensors.items()}


def refused(text: str, language: str | None = None, **spec: object) -> str:
    with pytest.raises(TextRefused) as caught:
        encode(text, language, **spec)
    assert not text.strip() or text not in str(caught.value)
    return caught.value.reason


def test_a_note_becomes_its_tokens_and_a_mask():
    encoded = encode("Chest pain since two days.")

    assert encoded["ids"] == [2, 4, 5, 6, 7, 8, 18, 3]
    assert encoded["mask"] == [1] * 8


def test_a_long_note_is_cut_at_the_side_the_manifest_says():
    text = "pain " * 50 + "chest " * 50
    end, start = (encode(text, max_tokens=8, truncation=side)["ids"] for side in ("end", "start"))

    assert end == [2, *[5] * 6, 3]
    assert start == [2, *[4] * 6, 3]


def test_notes_of_different_lengths_make_one_batch():
    encoder = TextEncoder(TOKENIZER, text_input())

    batch = stack([encoder.encode(NOTE), encoder.encode("Chest pain since two days.")])

    assert batch["ids"].dtype == batch["mask"].dtype == np.int64
    assert batch["mask"].sum(axis=1).tolist() == [19, 8]
    assert batch["ids"][1, 8:].sum() == 0


@pytest.mark.parametrize("text", ["", "   \n\t", "...", "12.5 / 7 + 3", "no", "1" * 500])
def test_an_empty_note_is_refused(text):
    assert refused(text) == "text-missing"


@pytest.mark.parametrize(
    "text",
    [
        "रोगी को दो दिन से सीने में दर्द है",
        "நோயாளிக்கு இரண்டு நாட்களாக நெஞ்சு வலி",
        "患者两天以来一直胸痛请会诊谢谢您的帮助",
        "Пациент жалуется на боль в груди",
        "Chest pain: रोगी को दो दिन से सीने में दर्द है",
    ],
)
def test_a_note_in_a_script_the_model_does_not_read_is_refused(text):
    assert refused(text) == "text-foreign"


def test_a_few_foreign_letters_do_no_harm():
    assert encode(f"{NOTE} µg β")["ids"][:3] == [2, 9, 10]


def test_words_that_the_vocabulary_does_not_know_are_refused():
    assert refused("Schmerzen in der Brust seit zwei Tagen, bitte ansehen") == "text-foreign"


def test_a_stated_language_that_is_not_the_model_s_is_refused():
    assert refused(NOTE, "hi") == "text-foreign"
    for tag in ("en", "en-IN", "EN_us", None, ""):
        assert encode(NOTE, tag)["mask"]


def test_a_text_that_is_longer_than_a_note_is_refused_unread():
    assert refused(NOTE * 100, max_characters=500) == "text-too-long"


def test_a_file_that_is_no_tokenizer_is_said_to_be_none():
    with pytest.raises(ValueError, match="no file of the tokenizers library"):
        TextEncoder(b"{}", text_input())


@pytest.mark.parametrize(
    ("character", "script"),
    [
        ("a", "Latin"), ("Ł", "Latin"), ("\uff21", "Latin"), ("ª", "Latin"), ("Å", "Latin"),
        ("я", "Cyrillic"), ("μ", "Greek"), ("क", "Devanagari"), ("த", "Tamil"),
        ("ਪ", "Gurmukhi"), ("ع", "Arabic"), ("语", "Han"), ("한", "Hangul"), ("か", "Hiragana"),
        ("1", None), ("े", None), ("€", None), (" ", None), ("\ud800", None),
    ],
)  # fmt: skip
def test_letters_are_told_apart_by_script(character, script):
    assert script_of(character) == script


@given(st.text(max_size=80))
def test_any_text_is_encoded_or_refused_and_nothing_else(text):
    try:
        encoded = encode(text)
    except TextRefused:
        return
    assert len(encoded["ids"]) == len(encoded["mask"]) <= 32
    assert count_letters(text)["Latin"] >= 10
