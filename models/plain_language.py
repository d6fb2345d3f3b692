"""Tells a text in the model's language from one in another language of the same script.

Measured is how far down the vocabulary the pieces of the longer words stand (`bits_per_letter`),
and how many of all words are common ones. A word of no language is cut into single letters, a
foreign one into short and rare pieces; a clinical word into few and longer ones.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log2

from models.manifest_inputs import PlainLanguage

_WORD = re.compile(r"[^\W\d_]+")
#: Shorter words tell little: shorthand is full of them, in every language.
_LONGER = 4


@dataclass(frozen=True)
class Piece:
    """A piece of a word.

    Attributes:
        text: Its letters, without the tokenizer's marks.
        place: Where in the vocabulary it stands, counted from its first letter; 0 and up.
        begins: Whether a word begins with it.
    """

    text: str
    place: int
    begins: bool


def is_plain(text: str, pieces: Iterable[Piece], spec: PlainLanguage) -> bool:
    """Say whether a text can be in the model's language; a short one always can.

    Args:
        text: The note.
        pieces: What the tokenizer made of it, in order.
        spec: The manifest's thresholds.
    """
    longer = [word for word in _words(pieces) if _is_longer(word)]
    if len(longer) < spec.min_words:
        return True
    if bits_per_letter(longer) <= spec.max_bits_per_letter:
        return True
    return common_share(text, spec.common_words) >= spec.min_common_share


def bits_per_letter(words: Sequence[Sequence[Piece]]) -> float:
    """Say how rare the pieces of words are: the mean, over letters, of log2 of their places."""
    bits = sum(log2(piece.place + 2) for word in words for piece in word)
    return bits / max(1, sum(len(piece.text) for word in words for piece in word))


def common_share(text: str, common: Sequence[str]) -> float:
    """Give the share of a text's words that are common ones, 0 to 1."""
    words = _WORD.findall(text.lower())
    known = set(common)
    return sum(word in known for word in words) / max(1, len(words))


def _words(pieces: Iterable[Piece]) -> list[list[Piece]]:
    found: list[list[Piece]] = []
    for piece in pieces:
        if piece.begins or not found:
            found.append([piece])
        else:
            found[-1].append(piece)
    return found


def _is_longer(word: Sequence[Piece]) -> bool:
    letters = "".join(piece.text for piece in word)
    return len(letters) >= _LONGER and letters.isalpha()
