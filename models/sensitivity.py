"""Which nodes of a network suffer most from quantization, and which to leave alone.

1. `scan` leaves each node alone in turn and notes how much damage is left.
2. `mend` leaves alone the one that helps most, then the two, and so on, and stops as soon as the
   target is met: every node in fp32 costs speed and size.

Both have a budget of evaluations. A network with more nodes than that is scanned in groups of
neighbours, which then stand or fall together.

Source: the accuracy-driven tuning of Intel Neural Compressor, in its simplest form.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.quantize import NotQuantizable

Quantize = Callable[[Sequence[str]], bytes]
"""Names of nodes to leave alone → the quantized network."""
Damage = tuple[float, float]
"""Loss of the metric, then difference of the answers; the smaller the better."""
Progress = Callable[[int, int], None]
"""Told how many evaluations are done, of how many at most."""


@dataclass(frozen=True)
class Sensitivity:
    """What is gained by leaving nodes alone.

    Attributes:
        nodes: A node, or neighbours that were tried together.
        damage: What is left with them in fp32.
    """

    nodes: tuple[str, ...]
    damage: Damage


@dataclass(frozen=True)
class Mended:
    """A network that meets the target since some nodes are left alone.

    Attributes:
        model: The quantized network.
        left_alone: The nodes that are left alone.
        evaluations: How many networks were tried against the target.
    """

    model: bytes
    left_alone: tuple[str, ...]
    evaluations: int


def scan(
    quantize: Quantize,
    nodes: Sequence[str],
    damage: Callable[[bytes], Damage],
    *,
    most: int = 64,
    progress: Progress = lambda _done, _of: None,
) -> tuple[Sensitivity, ...]:
    """Rank nodes by what is gained when they are left alone.

    Args:
        quantize: Quantizes the network but for some nodes.
        nodes: What can be left alone, in the order of the graph.
        damage: How far a quantized network is from its original.
        most: Evaluations that are allowed; at least 1.
        progress: Is told of each.

    Returns:
        Those whose absence mends most first; without any that mends nothing.
    """
    groups = _groups(nodes, most - 1)
    before = damage(quantize(()))
    found = []
    for done, group in enumerate(groups, start=1):
        progress(done, len(groups))
        try:
            found.append(Sensitivity(group, damage(quantize(group))))
        except NotQuantizable:
            continue  # it was the last thing to quantize: fp32 is a candidate of its own
    mending = [each for each in found if each.damage < before]
    return tuple(sorted(mending, key=lambda each: each.damage))


def mend(
    quantize: Quantize,
    ranked: Sequence[Sensitivity],
    meets: Callable[[bytes], bool],
    *,
    most: int = 16,
    progress: Progress = lambda _done, _of: None,
) -> Mended | None:
    """Leave more and more nodes alone until the target is met.

    Args:
        quantize: Quantizes the network but for some nodes.
        ranked: What a scan found.
        meets: Whether a quantized network meets the target.
        most: Evaluations that are allowed.
        progress: Is told of each.

    Returns:
        The first network that meets it; None when none does within the budget.
    """
    kept: tuple[str, ...] = ()
    tried = ranked[:most]
    for evaluations, each in enumerate(tried, start=1):
        progress(evaluations, len(tried))
        kept += each.nodes
        try:
            model = quantize(kept)
        except NotQuantizable:
            return None
        if meets(model):
            return Mended(model, kept, evaluations)
    return None


def _groups(nodes: Sequence[str], most: int) -> list[tuple[str, ...]]:
    size = max(1, math.ceil(len(nodes) / max(1, most)))
    return [tuple(nodes[start : start + size]) for start in range(0, len(nodes), size)]
