# ruff: noqa: INP001 - a folder of one model's files, not a package
"""The network of ckd-risk: how it is fitted, and the same thing as an ONNX graph.

raw values with NaN → logarithm of skewed ones → standardised and clipped → beside each a flag
"was present" → hidden layer → one logit → calibrated probability. All of it is in the graph,
so whoever runs it passes raw values in the manifest's units.

Two things are done against what a small hospital table teaches wrongly:

* each training patient appears many times with random values hidden, so that no single result is
  needed;
* in this table the sick lack far more results than the healthy. Every copy of a patient is also
  given the gaps of a random patient of the other class, so that *which* results are missing says
  nothing of the class during training.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Layer = tuple[Array, Array]

HIDDEN = (64,)
COPIES = 60
EPOCHS = 10
PENALTY = 2.0
LARGEST_SHARE_HIDDEN = 0.7
CLIP = 2.5
SMALLEST_LOGGED = 1e-3
LAST_LAYER = "logit"


@dataclass(frozen=True)
class Network:
    """A fitted network.

    Attributes:
        logged: Which inputs are read through a logarithm.
        centre: Mean of each input, after the logarithm.
        spread: Standard deviation likewise.
        layers: Weights and biases.
    """

    logged: Flags
    centre: Array
    spread: Array
    layers: tuple[Layer, ...]

    def logit(self, values: Array) -> Array:
        """The answer before the sigmoid, one number per row of raw values."""
        signal = _signal(values, self.logged, (self.centre, self.spread))
        for weights, bias in self.layers[:-1]:
            signal = np.maximum(signal @ weights + bias, 0)
        weights, bias = self.layers[-1]
        return np.asarray((signal @ weights + bias)[:, 0])

    def calibrated(self, slope: float, intercept: float) -> "Network":
        """The same network with Platt's slope and intercept folded into the last layer."""
        weights, bias = self.layers[-1]
        last = (weights * slope, bias * slope + intercept)
        return replace(self, layers=(*self.layers[:-1], last))


def fit(values: Array, truth: Flags, logged: Flags, *, seed: int) -> Network:
    """Fit a network to raw values (NaN where missing)."""
    generator = np.random.default_rng(seed)
    scaled = _logarithm(values, logged)
    centre, spread = np.nanmean(scaled, axis=0), np.nanstd(scaled, axis=0)
    copies = [_with_gaps(values, truth, generator) for _ in range(COPIES)]
    signal = _signal(np.vstack(copies), logged, (centre, spread))
    classifier = MLPClassifier(
        HIDDEN,
        alpha=PENALTY,
        batch_size=256,
        learning_rate_init=2e-3,
        max_iter=EPOCHS,
        n_iter_no_change=EPOCHS,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # EPOCHS is the chosen end
        classifier.fit(signal, np.tile(truth, COPIES))
    layers = tuple(zip(classifier.coefs_, classifier.intercepts_, strict=True))
    return Network(logged, centre, spread, layers)


def platt(logits: Array, truth: Flags) -> tuple[float, float]:
    """Slope and intercept that turn logits of unseen patients into honest probabilities."""
    regression = LogisticRegression(C=1e3).fit(logits[:, None], truth)
    return float(regression.coef_[0, 0]), float(regression.intercept_[0])


def swap_gaps(values: Array, truth: Flags, generator: np.random.Generator) -> Array:
    """Hide from each patient also what a random patient of the other class lacks."""
    gaps = np.isnan(values)
    swapped = gaps.copy()
    for group in (False, True):
        mine, others = np.flatnonzero(truth == group), np.flatnonzero(truth != group)
        swapped[mine] |= gaps[generator.choice(others, len(mine))]
    return np.where(swapped, np.nan, values)


def to_onnx(network: Network) -> onnx.ModelProto:
    """The network as an ONNX graph: `features` (n, k), NaN where missing → `probability` (n, 1)."""
    width = len(network.centre)
    constants: dict[str, npt.NDArray[np.generic]] = {
        "logged": network.logged[None, :],
        "centre": network.centre[None, :].astype(np.float32),
        "spread": network.spread[None, :].astype(np.float32),
        "one": np.array([1], dtype=np.float32),
        "zero": np.array([0], dtype=np.float32),
        "smallest": np.array([SMALLEST_LOGGED], dtype=np.float32),
        "low": np.array(-CLIP, dtype=np.float32),
        "high": np.array(CLIP, dtype=np.float32),
    }
    nodes = [
        helper.make_node("IsNaN", ["features"], ["absent"]),
        helper.make_node("Where", ["absent", "one", "features"], ["filled"]),
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
        *_layer_nodes(network, constants),
    ]
    graph = helper.make_graph(
        nodes,
        "ckd-risk",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="nadi")
    onnx.checker.check_model(model, full_check=True)
    return model


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
            ("Sigmoid", "probability") if is_last else ("Relu", f"signal_{depth + 1}")
        )
        nodes.append(helper.make_node("Gemm", inputs, [f"sum_{depth}"], name=name))
        nodes.append(helper.make_node(activation, [f"sum_{depth}"], [result]))
    return nodes


def _with_gaps(values: Array, truth: Flags, generator: np.random.Generator) -> Array:
    swapped = swap_gaps(values, truth, generator)
    share = generator.uniform(0, LARGEST_SHARE_HIDDEN, (len(values), 1))
    return np.where(generator.random(values.shape) < share, np.nan, swapped)


def _logarithm(values: Array, logged: Flags) -> Array:
    positive = np.log(np.maximum(values, SMALLEST_LOGGED))
    return np.where(logged, positive, values)


def _signal(values: Array, logged: Flags, scaling: tuple[Array, Array]) -> Array:
    centre, spread = scaling
    standard = np.clip((_logarithm(values, logged) - centre) / spread, -CLIP, CLIP)
    absent = np.isnan(values)
    return np.hstack([np.where(absent, 0.0, standard), ~absent])
