"""What is hidden of which model, and that one answer never costs more than the manifest allows."""

import numpy as np
import pytest

from models.explain import Unexplainable, answer_and_explain, plan_of
from models.manifest import Manifest
from models.tensors import FloatArray, Tensors
from models.texts import TextEncoder
from tests.notes import NOTE, text_input, word_tokenizer
from tests.result_models import CLASSES, LABELS, RISK

ENCODER = TextEncoder(word_tokenizer(), text_input())
CASES: dict[str, tuple[Manifest, Tensors]] = {
    "inputs": (RISK, {"x": np.array([1.8, 64], np.float32)}),
    "squares": (LABELS, {"image": np.random.default_rng(1).random((1, 28, 28), np.float32)}),
    "phrases": (CLASSES, ENCODER.encode(NOTE)),
}


class Network:
    """Answers alike whatever it is given; counts its cases."""

    def __init__(self, width: int) -> None:
        self.sizes: list[int] = []
        self._row = np.full(width, 1 / width, np.float32)

    def __call__(self, batch: Tensors) -> FloatArray:
        self.sizes.append(len(next(iter(batch.values()))))
        return np.tile(self._row, (self.sizes[-1], 1))


@pytest.mark.parametrize("kind", CASES)
def test_numbers_images_and_texts_are_each_hidden_in_their_parts(kind: str) -> None:
    manifest, case = CASES[kind]

    plan = plan_of(manifest, case, ENCODER)

    assert plan.kind == kind
    assert (plan.draw is not None) == (kind == "squares")


@pytest.mark.parametrize("kind", CASES)
def test_an_explanation_runs_at_most_what_the_manifest_allows_in_batches_of_its_limit(
    kind: str,
) -> None:
    manifest, case = CASES[kind]
    limits = manifest.limits.model_copy(update={"max_batch": 10})
    network = Network(manifest.output_width)

    row, explained = answer_and_explain(
        network,
        manifest.model_copy(update={"limits": limits}),
        case,
        encoder=ENCODER,
        is_late=lambda: False,
    )

    assert max(network.sizes) <= 10
    hidden = sum(network.sizes) - len(network.sizes)
    assert hidden == len(explained.effects) + 1 <= manifest.explanation.max_evaluations
    assert row == pytest.approx([1 / manifest.output_width] * manifest.output_width)


def test_an_explanation_that_is_late_before_it_began_runs_nothing() -> None:
    manifest, case = CASES["inputs"]
    network = Network(1)

    with pytest.raises(Unexplainable, match="longer than"):
        answer_and_explain(network, manifest, case, encoder=None, is_late=lambda: True)

    assert network.sizes == []


def test_a_model_of_texts_without_its_tokenizer_can_t_be_explained() -> None:
    manifest, case = CASES["phrases"]

    with pytest.raises(Unexplainable, match="tokenizer"):
        plan_of(manifest, case, None)
