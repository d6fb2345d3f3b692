"""B4b: formats of the X-ray model that were not shipped, on every kind of int8 kernels.

Made here from the fp32 network and judged on the published test films, on which nothing was
trained: dynamic and static int8 with weights of 7 bits (as `nadi models quantize` makes them),
static int8 with weights of 8 bits (as ONNX Runtime's quantizer makes them by itself), and half
precision. Beside the speed stands the accuracy on kernels with VNNI and on those of AVX2, by the
runtime's default and by its exact ones; those that this machine lacks are emulated, in agreement
with what they answered under `qemu` (docs/decisions/0015-kernel-classes.md).
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from benchmarks.documents import DATA
from benchmarks.figures import Rows
from benchmarks.result import Chart, Result, Scale
from models.evaluate import Setting, answers
from models.measure import Measurement, measure
from models.quantize import CONVOLUTION_OPERATORS, dynamic_int8, prepared, static_int8
from models.registry import load_installed
from models.runtime import needs_exact_int8
from models.statistics import auroc
from models.tensors import FloatArray

_MODEL, _INPUT = "chest-xray-pneumonia", "image"
_FILMS = DATA / "pneumoniamnist" / "pneumoniamnist.npz"
#: The model's own, chosen on the validation split (its card).
_THRESHOLD = 0.818
_CALIBRATION = 256
_ROUNDS = 3
_MB, _PERCENT = 1e6, 100
_FP32, _SHIPPED = "fp32", "int8, shipped (trained for it)"
_DYNAMIC, _STATIC, _EIGHT_BITS = "int8 dynamic", "int8 static", "int8 static, weights of 8 bits"
_HALF = "fp16"
_SETTINGS: Mapping[Setting, str] = {
    "vnni": "VNNI",
    "avx2": "AVX2, default",
    "avx2-exact": "AVX2, exact",
}

Truth = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Films:
    """Films with what they show.

    Attributes:
        images: (n, 1, 28, 28), 0 to 1.
        truth: Pneumonia or not, (n,).
    """

    images: FloatArray
    truth: Truth

    @classmethod
    def of(cls, split: str) -> "Films":
        """Read a published split."""
        with np.load(_FILMS, allow_pickle=False) as archive:
            pixels, labels = archive[f"{split}_images"], archive[f"{split}_labels"]
        return cls((pixels[:, None] / 255).astype(np.float32), labels.ravel() == 1)


@dataclass(frozen=True)
class Form:
    """A format, judged and measured.

    Attributes:
        auroc: Setting -> on the test films.
        accuracy: Setting -> percent of right decisions on them, at the model's threshold.
        methods: Setting -> how that is known.
        rounds: What serving it takes, a measurement per round.
    """

    auroc: Mapping[Setting, float]
    accuracy: Mapping[Setting, float]
    methods: Mapping[Setting, str]
    rounds: Sequence[Measurement]

    def p50_ms(self, cases: int) -> float:
        """The time of a run of so many cases, the median of the rounds."""
        return statistics.median(each.p50_ms[cases] for each in self.rounds)


def run(scale: Scale) -> Result:
    """Make every format, judge it, and measure it by turns."""
    if not _FILMS.exists():
        return _result({}, ["Formats: the films (PneumoniaMNIST) are not on this machine."])
    scale.tell("quantizing")
    made, test = dict(_made()), Films.of("test")
    rounds: dict[str, list[Measurement]] = {name: [] for name in made}
    sample = {_INPUT: test.images[:16]}
    for number in range(scale.pick(_ROUNDS, 1)):
        for name, weights in made.items():
            scale.tell(f"round {number + 1}: {name}")
            rounds[name].append(measure(weights, sample, exact_int8=needs_exact_int8()))
    judged = scale.pick(len(test.truth), 60)
    films = Films(test.images[:judged], test.truth[:judged])
    forms = {}
    for name, weights in made.items():
        scale.tell(f"judging {name}")
        forms[name] = _judged(weights, films, rounds[name])
    return _result(forms, [])


def _made() -> Iterator[tuple[str, bytes]]:
    model = load_installed()[_MODEL]
    fp32 = model.reference_weights()
    if fp32 is None:
        raise FileNotFoundError(f"{model.folder}: the fp32 network is missing")
    films, ready = Films.of("train"), prepared(fp32)
    chosen = np.random.default_rng(0).choice(len(films.images), _CALIBRATION, replace=False)
    batches = [films.images[chosen]]
    yield _FP32, fp32
    yield _SHIPPED, model.weights()
    yield _DYNAMIC, dynamic_int8(ready)
    for name, seven_bit in ((_STATIC, True), (_EIGHT_BITS, False)):
        yield (
            name,
            static_int8(ready, batches, operators=CONVOLUTION_OPERATORS, seven_bit=seven_bit),
        )
    half = convert_float_to_float16(onnx.load_from_string(fp32), keep_io_types=True)
    yield _HALF, half.SerializeToString()


def _judged(weights: bytes, films: Films, rounds: Sequence[Measurement]) -> Form:
    output = load_installed()[_MODEL].manifest.weights.output_name
    found = answers(weights, {_INPUT: films.images}, output)
    scores = {name: each[:, 0].astype(np.float64) for name, each in found.scores.items()}
    right = {
        name: float(np.mean((score >= _THRESHOLD) == films.truth)) * _PERCENT
        for name, score in scores.items()
    }
    areas = {name: auroc(films.truth, score) for name, score in scores.items()}
    return Form(areas, right, found.methods, rounds)


def _result(forms: Mapping[str, Form], skipped: Sequence[str]) -> Result:
    return Result(
        number="B4b",
        name="formats",
        title="Formats of the X-ray model that were not shipped, and what kernels do to them",
        fairness=f"One thread, the same films, each network in a process of its own, by turns. "
        f"Accuracy is the share of right decisions at the model's threshold ({_THRESHOLD}). A "
        "setting that can't change the answers is proved to be as VNNI, the others are emulated. "
        "The model is for demonstration only. fp16 is computed in fp32 by this runtime.",
        tables={"Formats": _rows(forms)} if forms else {},
        values=_values(forms) if forms else {},
        charts=[
            Chart(
                "One film", "p50, ms", bars={name: each.p50_ms(1) for name, each in forms.items()}
            ),
            Chart(
                "Right decisions on AVX2, default kernels",
                "%",
                bars={name: each.accuracy["avx2"] for name, each in forms.items()},
            ),
        ]
        if forms
        else [],
        skipped=skipped,
    )


def _rows(forms: Mapping[str, Form]) -> Rows:
    heads = (
        *("format", "size MB", "memory MB", "p50 of 1, ms", "p50 of 16, ms", "auroc, VNNI"),
        *(f"accuracy %, {told}" for told in _SETTINGS.values()),
    )
    return [heads, *((name, *_cells(each)) for name, each in forms.items())]


def _cells(form: Form) -> tuple[str, ...]:
    first = form.rounds[0]
    return (
        f"{first.size_bytes / _MB:.3f}",
        f"{statistics.median(each.model_mb for each in form.rounds):.3g}",
        *(f"{form.p50_ms(cases):.3g}" for cases in (1, 16)),
        f"{form.auroc['vnni']:.3f}",
        *(f"{form.accuracy[name]:.1f} ({form.methods[name]})" for name in _SETTINGS),
    )


def _values(forms: Mapping[str, Form]) -> dict[str, float]:
    """Say how many points of accuracy the kernels of AVX2 lose against those with VNNI."""
    eight, seven = forms[_EIGHT_BITS].accuracy, forms[_STATIC].accuracy
    return {
        "points_lost_default": eight["vnni"] - eight["avx2"],
        "points_lost_exact": eight["vnni"] - eight["avx2-exact"],
        "points_lost_seven_bit": seven["vnni"] - seven["avx2"],
        **{
            f"{key}_times_fp32": forms[_FP32].p50_ms(1) / forms[name].p50_ms(1)
            for key, name in (("dynamic", _DYNAMIC), ("static", _STATIC), ("fp16", _HALF))
        },
    }
