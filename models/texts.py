"""A note → a network's tensors, or a reasoned refusal.

What is refused, in this order: more characters than one note has; a language that is stated and is
not one of the model's; hardly any letters; letters of other scripts than the model reads; words
that the model's vocabulary does not know; a text that is in another language by its words
(`models.plain_language`).

The script of a letter is read off its Unicode name ("CYRILLIC SMALL LETTER A"), which is right for
the letters of living scripts and needs no table.

Source: Unicode Standard annex 24 (script names); BCP 47 (language tags).
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from tokenizers import Tokenizer

from models.manifest_inputs import TextInput
from models.plain_language import Piece, is_plain
from models.tensors import Tensors

TextReason = Literal["text-missing", "text-foreign", "text-too-long"]

_CONTINUES = "##"
"""How WordPiece marks a token that goes on with a word."""
_BEGINS = ("\u0120", "\u2581")
"""How byte-level BPE and SentencePiece mark a token that begins a word: by the space before it."""
_SCRIPTS = {"CJK": "Han"}
"""What the names of letters begin with where that is not the name of their script."""


class TextRefused(ValueError):
    """A text can't be given to a model.

    The message is a sentence's end for people ("… is empty"); it quotes nothing of the text.

    Attributes:
        reason: Why, as a code.
    """

    def __init__(self, reason: TextReason, text: str) -> None:
        self.reason: TextReason = reason
        super().__init__(text)


class TextEncoder:
    """Makes tensors of texts with a model's own tokenizer; threads may share it."""

    def __init__(self, tokenizer: bytes, spec: TextInput) -> None:
        """Prepare the tokenizer; paddings and truncations of its own are put aside.

        Args:
            tokenizer: The `tokenizers` JSON.
            spec: The manifest's `[text]`.

        Raises:
            ValueError: It is no such file.
        """
        self._spec = spec
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer)
        except Exception as error:  # the library raises plain Exception
            raise ValueError("the tokenizer is no file of the tokenizers library") from error
        direction = "right" if spec.truncation == "end" else "left"
        self._tokenizer.enable_truncation(spec.max_tokens, direction=direction)
        self._tokenizer.no_padding()
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self._unknown = self._tokenizer.token_to_id(unknown or "<unk>")
        added = self._tokenizer.get_added_tokens_decoder()
        marks = {token for token, each in added.items() if each.special}
        self._marks = (marks | set(self._tokenizer.encode("").ids)) - {self._unknown}

    def encode(self, text: str, *, language: str | None = None) -> Tensors:
        """Make the tensors of one text.

        Args:
            text: The note, as plain text.
            language: The language it is said to be in, a BCP 47 tag.

        Returns:
            int64 of shape (length,) for each of the graph's two inputs, without the batch axis.

        Raises:
            TextRefused: It is too long, empty, or in another language or script.
        """
        check_text(text, self._spec, language=language)
        encoded = self._tokenizer.encode(text)
        words = [
            token
            for token, special in zip(encoded.ids, encoded.special_tokens_mask, strict=True)
            if not special or token == self._unknown
        ]
        unknown = sum(token == self._unknown for token in words)
        if unknown > self._spec.max_unknown_share * len(words):
            raise TextRefused("text-foreign", "has too many words that the model does not know")
        self._check_plain(text, words)
        return {
            self._spec.ids_name: np.asarray(encoded.ids, dtype=np.int64),
            self._spec.mask_name: np.asarray(encoded.attention_mask, dtype=np.int64),
        }

    def _check_plain(self, text: str, tokens: Sequence[int]) -> None:
        if self._spec.plain is None:
            return
        if not is_plain(text, map(self._piece, tokens), self._spec.plain):
            raise TextRefused("text-foreign", "is in no language that the model reads")

    def _piece(self, token: int) -> Piece:
        piece = self._tokenizer.id_to_token(token) or ""
        letters = piece.removeprefix(_CONTINUES).lstrip("".join(_BEGINS))
        return Piece(letters, max(0, token - self._first_letter), self.begins_word(token))

    @cached_property
    def _first_letter(self) -> int:
        """Where the vocabulary's letters begin, after its marks, unused places and digits."""
        places = [place for piece, place in self._tokenizer.get_vocab().items() if piece.isalpha()]
        return min(places, default=0)

    def is_word(self, token: int) -> bool:
        """Say whether a token stands for something in the text, and not for its begin or end."""
        return token not in self._marks

    @cached_property
    def _marks_beginnings(self) -> bool:
        return any(piece.startswith(_BEGINS) for piece in self._tokenizer.get_vocab())

    def begins_word(self, token: int) -> bool:
        """Say whether a token is not the continuation of the one before it."""
        piece = self._tokenizer.id_to_token(token) or ""
        return not piece.startswith(_CONTINUES) and (
            not self._marks_beginnings or piece.startswith(_BEGINS)
        )

    def decode(self, tokens: Sequence[int]) -> str:
        """Give the words that tokens stand for, as far as the tokenizer keeps them."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True).strip()


def check_text(text: str, spec: TextInput, *, language: str | None = None) -> None:
    """Refuse a text that the model was not made for.

    Args:
        text: The note, as plain text.
        spec: What the model was made for.
        language: The language it is said to be in, a BCP 47 tag.

    Raises:
        TextRefused: It is too long, empty, or in another language or script.
    """
    if len(text) > spec.max_characters:
        raise TextRefused("text-too-long", "is longer than one note is")
    if language and primary_language(language) not in spec.languages:
        raise TextRefused("text-foreign", "is in a language that the model does not read")
    letters = count_letters(text)
    readable = sum(letters[script] for script in spec.scripts)
    total = letters.total()
    if total < spec.min_letters:
        raise TextRefused("text-missing", "is empty")
    if total - readable > spec.max_foreign_share * total:
        raise TextRefused("text-foreign", "is in a script that the model does not read")
    if readable < spec.min_letters:
        raise TextRefused("text-missing", "is empty")


def primary_language(tag: str) -> str:
    """Give the primary subtag of a language tag: `en` of `en-IN`."""
    return tag.strip().replace("_", "-").partition("-")[0].lower()


def count_letters(text: str) -> Counter[str]:
    """Count the letters of a text by their script; marks, digits and signs are none."""
    found: Counter[str] = Counter()
    for character, count in Counter(text).items():
        if script := script_of(character):
            found[script] += count
    return found


@lru_cache(maxsize=4096)
def script_of(character: str) -> str | None:
    """Give the Unicode script of a letter, for example `Latin`; None of what is no letter."""
    # Compatibility forms (a full-width A, the sign of ångström) count as the letter they are.
    plain = unicodedata.normalize("NFKC", character)[:1]
    if not plain or not unicodedata.category(plain).startswith("L"):
        return None
    first = unicodedata.name(plain, "UNKNOWN").partition(" ")[0].partition("-")[0]
    return _SCRIPTS.get(first, first.title())
