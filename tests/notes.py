"""Synthetic notes for tests, and a tokenizer that knows the words of one."""

from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.manifest import TextInput

NOTE = "Referred for review of the heart: chest pain since two days. Please see him."
_WORDS = (
    *("chest", "pain", "since", "two", "days", "referred", "for", "review", "of", "the", "heart"),
    *("please", "see", "him", ".", ":"),
)
_SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}


def word_tokenizer() -> bytes:
    """A `tokenizers` file of whole words, numbered from 4 in the order of `NOTE`'s vocabulary."""
    vocabulary = {word: len(_SPECIAL) + place for place, word in enumerate(_WORDS)}
    made = Tokenizer(models.WordLevel(_SPECIAL | vocabulary, unk_token="[UNK]"))  # noqa: S106
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.enable_padding(length=512)
    return made.to_str().encode()


def text_input(**changes: Any) -> TextInput:
    """The `[text]` of a model of referral notes, with changes."""
    told = {
        "label": "Referral note",
        "ids_name": "ids",
        "mask_name": "mask",
        "tokenizer": "tokenizer.json",
        "tokenizer_sha256": "0" * 64,
        "max_tokens": 32,
        "languages": ("en",),
    }
    return TextInput.model_validate(told | changes)
