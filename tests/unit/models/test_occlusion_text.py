"""Leaving out phrases of a note: where they end, what is left, and which are named."""

from itertools import pairwise

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from models.explain import answer_and_explain
from models.manifest import Manifest
from models.occlusion import Unexplainable
from models.occlusion_text import MOST_WORDS, SHOWN, merged, phrases_of, plan_text
from models.tensors import FloatArray, Tensors
from models.texts import TextEncoder
from tests.notes import NOTE, text_input, word_tokenizer
from tests.result_models import CLASSES

SPEC = text_input()
ENCODER = TextEncoder(word_tokenizer(), SPEC)
PAIN = 5


def manifest(**explanation: int) -> Manifest:
    told = orjson.loads(CLASSES.model_dump_json())
    told["explanation"] = explanation
    return Manifest.model_validate(told)


def words(phrase: tuple[int, ...], ids: list[int]) -> str:
    return ENCODER.decode([ids[place] for place in phrase])


def network(batch: Tensors) -> FloatArray:
    """The word "pain" makes the first class likely."""
    is_there = ((batch["ids"] == PAIN) & (batch["mask"] == 1)).any(axis=1)
    first = np.where(is_there, 0.8, 0.2)
    return np.stack([first, (1 - first) / 2, (1 - first) / 2], axis=1).astype(np.float32)


def test_a_phrase_ends_with_a_mark_or_after_so_many_words() -> None:
    ids = ENCODER.encode(NOTE)["ids"].tolist()

    found = [words(phrase, ids) for phrase in phrases_of(ids, ENCODER)]

    assert found == [
        "referred for review of the heart :",
        "chest pain since two days .",
        "please see him .",
    ]


def test_a_long_run_of_words_is_cut() -> None:
    ids = ENCODER.encode("chest pain " * 10)["ids"].tolist()

    lengths = [len(phrase) for phrase in phrases_of(ids, ENCODER)]

    assert lengths == [MOST_WORDS, MOST_WORDS, 4]


def test_marks_of_begin_and_end_belong_to_no_phrase() -> None:
    ids = ENCODER.encode(NOTE)["ids"].tolist()

    places = [place for phrase in phrases_of(ids, ENCODER) for place in phrase]

    assert places == list(range(1, len(ids) - 1))


def test_pieces_of_one_word_stay_together() -> None:
    encoder = TextEncoder(_pieces(), SPEC)
    ids = encoder.encode("chestpain " * 9, language=None)["ids"].tolist()

    first, second = phrases_of(ids, encoder)

    assert (len(first), len(second)) == (2 * MOST_WORDS, 2)
    assert encoder.decode([ids[place] for place in second]) == "chestpain"


def test_a_tokenizer_that_marks_the_spaces_is_cut_at_words_too() -> None:
    encoder = TextEncoder(_bytes(), SPEC)
    ids = encoder.encode("chest pain " * 10)["ids"].tolist()

    found = phrases_of(ids, encoder)

    texts = [encoder.decode([ids[place] for place in phrase]) for phrase in found]
    assert all(text.split()[0] in {"chest", "pain"} for text in texts)
    assert sum(len(text.split()) for text in texts) == 20


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 40))
def test_joining_phrases_loses_no_token_and_leaves_few_enough(sizes: list[int], most: int) -> None:
    starts = np.cumsum([0, *sizes])
    phrases = [tuple(range(a, b)) for a, b in pairwise(starts)]

    found = merged(phrases, most)

    assert len(found) == min(most, len(phrases))
    assert [place for phrase in found for place in phrase] == list(range(starts[-1]))


def test_the_phrase_that_carried_the_class_is_named() -> None:
    case = ENCODER.encode(NOTE)

    answer, explained = answer_and_explain(
        network, CLASSES, case, encoder=ENCODER, is_late=lambda: False
    )

    assert answer == pytest.approx([0.8, 0.1, 0.1])
    assert explained.subject == "Cardiology"
    assert [each.part for each in explained.named] == ["chest pain since two days"]
    assert explained.total == pytest.approx(0.6)
    assert explained.describe().startswith(
        "The words that carried it, each phrase hidden in turn (Cardiology): "
        "“chest pain since two days” +60 points, 2 others +0 points."
    )


def test_a_hidden_phrase_is_taken_out_of_ids_and_mask_and_at_last_all_words_are() -> None:
    case = ENCODER.encode(NOTE)

    plan = plan_text(CLASSES, SPEC, ENCODER, case)

    whole = case["ids"].tolist()
    for names, hidden in zip(plan.names, plan.hidden, strict=False):
        left = hidden["ids"].tolist()
        assert hidden["mask"].tolist() == [1] * len(left)
        assert names not in ENCODER.decode(left)
        assert (left[0], left[-1]) == (whole[0], whole[-1])
    assert plan.hidden[-1]["ids"].tolist() == [whole[0], whole[-1]]


def test_more_phrases_than_may_be_run_are_joined() -> None:
    plan = plan_text(manifest(max_evaluations=3), SPEC, ENCODER, ENCODER.encode(NOTE))

    assert len(plan.hidden) == 3
    assert len(plan.names) == 2


def test_a_note_without_words_can_t_be_explained() -> None:
    case = {"ids": np.array([2, 3]), "mask": np.array([1, 1])}

    with pytest.raises(Unexplainable, match="nothing"):
        plan_text(CLASSES, SPEC, ENCODER, case)


def test_a_long_phrase_is_shown_in_part() -> None:
    spec = text_input(max_tokens=500)
    encoder = TextEncoder(word_tokenizer(), spec)
    case = encoder.encode("referred " * 100)

    plan = plan_text(manifest(max_evaluations=2), spec, encoder, case)

    (name,) = plan.names
    assert len(name) <= SHOWN
    assert name.endswith("…")


def _pieces() -> bytes:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "chest": 4, "##pain": 5}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.add_special_tokens(["[PAD]", "[CLS]", "[SEP]"])
    made.decoder = decoders.WordPiece()
    return made.to_str().encode()


def _bytes() -> bytes:
    made = Tokenizer(models.BPE(unk_token=None))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(["chest pain chest pain"] * 9)
    return made.to_str().encode()
