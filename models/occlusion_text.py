"""Which words of a note carried the answer: phrase after phrase is left out.

A phrase ends with a punctuation mark, or after so many words. It is hidden by taking its tokens
out, so that the rest is cut into tokens as before; tokens behind the model's limit were never read
and are no phrases. Phrases are told in the model's own spelling: lower case where its vocabulary
has no other. They are a patient's words, for the result alone, never for a log.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from models.manifest import Manifest, TextInput
from models.occlusion import Plan, check_budget
from models.tensors import Tensors
from models.texts import TextEncoder

#: A longer phrase is cut here: what carried an answer should be small enough to be looked at.
MOST_WORDS = 8
#: Characters of a phrase that are shown.
SHOWN = 60

_ENDS = frozenset(".,;:!?")
_STRIPPED = " .,;:!?-"

Phrase = tuple[int, ...]
"""Places in the sequence of tokens."""


def plan_text(manifest: Manifest, text: TextInput, encoder: TextEncoder, case: Tensors) -> Plan:
    """Plan to leave out phrase after phrase.

    Args:
        manifest: Of the model.
        text: Its `[text]`.
        encoder: Made the tensors.
        case: One patient's tensors, ids and mask int64 of shape (length,).

    Raises:
        Unexplainable: There are no words.
    """
    ids: list[int] = case[text.ids_name].tolist()
    phrases = merged(phrases_of(ids, encoder), manifest.explanation.max_evaluations - 1)
    check_budget(manifest, len(phrases))
    everything = tuple(place for phrase in phrases for place in phrase)
    return Plan(
        "phrases",
        tuple(_shown(encoder.decode([ids[place] for place in phrase])) for phrase in phrases),
        tuple(_without(case, text, phrase) for phrase in (*phrases, everything)),
        tuple(each.label for each in manifest.inputs if manifest.width),
    )


def phrases_of(ids: Sequence[int], encoder: TextEncoder) -> list[Phrase]:
    """Cut a sequence of tokens into phrases; begin and end marks belong to none."""
    phrases: list[list[int]] = [[]]
    words, is_ended = 0, False
    for place, token in enumerate(ids):
        if not encoder.is_word(token):
            continue
        is_end = encoder.decode([token]) in _ENDS
        begins = encoder.begins_word(token) and not is_end
        if begins and (is_ended or words == MOST_WORDS):
            phrases.append([])
            words, is_ended = 0, False
        phrases[-1].append(place)
        words += begins
        is_ended = is_ended or is_end
    return [tuple(phrase) for phrase in phrases if phrase]


def merged(phrases: Sequence[Phrase], most: int) -> list[Phrase]:
    """Join neighbours, the shortest first, until there are few enough."""
    found = list(phrases)
    while len(found) > max(most, 1):
        sizes = [len(one) + len(other) for one, other in pairwise(found)]
        first = sizes.index(min(sizes))
        found[first : first + 2] = [found[first] + found[first + 1]]
    return found


def _without(case: Tensors, text: TextInput, phrase: Phrase) -> Tensors:
    kept = np.delete(np.arange(len(case[text.ids_name])), phrase)
    cut = {name: case[name][kept] for name in (text.ids_name, text.mask_name)}
    return {**case, **cut}


def _shown(words: str) -> str:
    words = " ".join(words.split()).strip(_STRIPPED)
    return words if len(words) <= SHOWN else f"{words[: SHOWN - 1].rstrip()}…"
