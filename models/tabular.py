"""A dense network for a table of results: what it computes, and the same thing as an ONNX graph.

raw values with NaN → logarithm of skewed ones → standardised and clipped → beside each a flag
"was present" → hidden layers → one logit → calibrated probability. All of it is in the graph, so
whoever runs it passes raw values in the manifest's units.

How a network is fitted is for each model's own script; what they share against the teachings of
small tables is here: values are hidden in training, so that no single result is needed, and the
gaps of the sick and the healthy can be made alike.

Needs the extra `quantize`. Source: Platt, Advances in Large Margin Classifiers (1999), for the
calibration.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Layer = tuple[Array, Array]

INPUT_NAME, OUTPUT_NAME = "features", "probability"
LAST_LAYER = "logit"
CLIP = 2.5
SMALLEST_LOGGED = 1e-3


@dataclass(frozen=True)
class Scaling:
    """How raw values become what a layer can read.

    Attributes:
        logged: Which inputs are read through a logarithm.
        centre: Mean of each input, after the logarithm.
        spread: Standard deviation likewise.
    """

    logged: Flags
    centre: Array
    spread: Array

    @classmethod
    def of(cls, values: Array, logged: Flags) -> Self:
        """The scaling that fits raw values (NaN where missing)."""
        scaled = logarithm(values, logged)
        return cls(logged, np.nanmean(scaled, axis=0), np.nanstd(scaled, axis=0))

    def signal(self, values: Array) -> Array:
        """What the first layer reads: (n, 2k), values and then flags that they were there."""
        scaled = logarithm(values, self.logged)
        standard = np.clip((scaled - self.centre) / self.spread, -CLIP, CLIP)
        absent = np.isnan(values)
        return np.hstack([np.where(absent, 0.0, standard), ~absent])


@dataclass(frozen=True)
class Network:
    """A fitted network.

    Attributes:
        scaling: How raw values are read.
        layers: Weights and biases.
    """

    scaling: Scaling
    layers: tuple[Layer, ...]

    def logit(self, values: Array) -> Array:
        """The answer before the sigmoid, one number per row of raw values."""
        signal = self.scaling.signal(values)
        for weights, bias in self.layers[:-1]:
            signal = np.maximum(signal @ weights + bias, 0)
        weights, bias = self.layers[-1]
        return np.asarray((signal @ weights + bias)[:, 0])

    def calibrated(self, slope: float, intercept: float) -> "Network":
        """The same network with Platt's slope and intercept folded into the last layer."""
        weights, bias = self.layers[-1]
        last = (weights * slope, bias * slope + intercept)
        return replace(self, layers=(*self.layers[:-1], last))


def layers_of(weights: Sequence[Array], biases: Sequence[Array]) -> tuple[Layer, ...]:
    """The layers of scikit-learn's `coefs_` and `intercepts_`."""
    return tuple(zip(weights, biases, strict=True))


def platt(logits: Array, truth: Flags) -> tuple[float, float]:
    """Slope and intercept that turn logits of unseen patients into honest probabilities."""
    regression = LogisticRegression(C=1e3).fit(logits[:, None], truth)
    return float(regression.coef_[0, 0]), float(regression.intercept_[0])


def sigmoid(logits: Array) -> Array:
    """Logit → probability."""
    return np.asarray(1 / (1 + np.exp(-logits)))


def logarithm(values: Array, logged: Flags) -> Array:
    """The values, of some inputs their logarithm."""
    positive = np.log(np.maximum(values, SMALLEST_LOGGED))
    return np.where(logged, positive, values)


def swap_gaps(values: Array, truth: Flags, generator: np.random.Generator) -> Array:
    """Hide from each patient also what a random patient of the other class lacks."""
    gaps = np.isnan(values)
    swapped = gaps.copy()
    for group in (False, True):
        mine, others = np.flatnonzero(truth == group), np.flatnonzero(truth != group)
        swapped[mine] |= gaps[generator.choice(others, len(mine))]
    return np.where(swapped, np.nan, values)


def hide_shares(values: Array, largest: float, generator: np.random.Generator) -> Array:
    """Hide from each patient a random share of the values, up to the largest."""
    share = generator.uniform(0, largest, (len(values), 1))
    return np.where(generator.random(values.shape) < share, np.nan, values)


def to_onnx(network: Network, name: str) -> bytes:
    """The network as an ONNX model: `features` (n, k), NaN where missing → `probability` (n, 1).

    Args:
        network: A fitted network.
        name: Of the graph.
    """
    width = len(network.scaling.centre)
    constants = _constants(network.scaling)
    nodes = [*_reading_nodes(), *_layer_nodes(network, constants)]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.asarray(array), key) for key, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="nadi")
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _constants(scaling: Scaling) -> dict[str, npt.NDArray[np.generic]]:
    return {
        "logged": scaling.logged[None, :],
        "centre": scaling.centre[None, :].astype(np.float32),
        "spread": scaling.spread[None, :].astype(np.float32),
        "one": np.array([1], dtype=np.float32),
        "zero": np.array([0], dtype=np.float32),
        "smallest": np.array([SMALLEST_LOGGED], dtype=np.float32),
        "low": np.array(-CLIP, dtype=np.float32),
        "high": np.array(CLIP, dtype=np.float32),
    }


def _reading_nodes() -> list[onnx.NodeProto]:
    return [
        helper.make_node("IsNaN", [INPUT_NAME], ["absent"]),
        helper.make_node("Where", ["absent", "one", INPUT_NAME], ["filled"]),
        helper.make_node("Max", ["filled", "smallest"], ["positive"]),
        helper.make_node("Log", ["positive"], ["logarithm"]),
        helper.make_node("Where", ["logged", "logarithm", "filled"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "centre"], ["centred"]),
        helper.make_node("Div", ["centred", "spread"], ["standard"]),
        helper.make_node("Clip", ["standard", "low", "high"], ["clipped"]),
        helper.make_node("Where", ["absent", "zero", "clipped"], ["known"]),
        helper.make_node("Not", ["absent"], ["present"]),
        helper.make_node("Cast", ["present"], ["flags"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["known", "flags"], ["signal_0"], axis=1),
    ]


def _layer_nodes(
    network: Network, constants: dict[str, npt.NDArray[np.generic]]
) -> list[onnx.NodeProto]:
    nodes = []
    for depth, (weights, bias) in enumerate(network.layers):
        constants[f"weights_{depth}"] = weights.astype(np.float32)
        constants[f"bias_{depth}"] = bias.astype(np.float32)
        inputs = [f"signal_{depth}", f"weights_{depth}", f"bias_{depth}"]
        is_last = depth == len(network.layers) - 1
        name = LAST_LAYER if is_last else f"layer_{depth}"
        activation, result = (
            ("Sigmoid", OUTPUT_NAME) if is_last else ("Relu", f"signal_{depth + 1}")
        )
        nodes.append(helper.make_node("Gemm", inputs, [f"sum_{depth}"], name=name))
        nodes.append(helper.make_node(activation, [f"sum_{depth}"], [result]))
    return nodes
