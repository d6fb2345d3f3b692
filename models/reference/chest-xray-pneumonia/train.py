# ruff: noqa: INP001 - a folder of one model's files, not a package
"""Trains, quantizes, measures and writes chest-xray-pneumonia; anyone can rerun it.

    python models/reference/chest-xray-pneumonia/train.py --data pneumoniamnist.npz

The images are PneumoniaMNIST of MedMNIST v2 (CC BY 4.0), 28 x 28. Everything is seeded and runs on
one thread. With `--work FOLDER` a run that was stopped goes on after the last network that was
done, and the test images are left there for `nadi models evaluate`. Three forms of the same
network come out: fp32, static int8 (PTQ), and int8 by quantization-aware training (QAT), which is
shipped. Network, calibration and threshold are chosen on the training and validation splits; the
test split is read once, at the end, to be reported. What it writes: `model.onnx`,
`model.fp32.onnx`, `golden.json`, and the measured parts of `manifest.toml` and `card.md`. It fails,
writing nothing, when int8 is not fp32 any more.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import onnx
import torch
import typer
from network import SIDE, Committee, Member, Schedule, Standardise, fit, to_onnx
from phantoms import phantoms, png
from rich.console import Console
from rich.progress import Progress
from sklearn.linear_model import LogisticRegression

from models import qat, qdq
from models.onnx_engine import open_session
from models.quantize import static_int8
from models.registry import sha256
from models.statistics import (
    Estimate,
    Measure,
    auroc,
    bootstrap,
    brier,
    calibration_error,
    sensitivity,
    specificity,
)

HERE = Path(__file__).parent
INPUT, OUTPUT = "image", "probability"
MOVES = {0: 1.0, 1: 1.0, 2: 1.0, 3: 0.0, 4: 0.0, 5: 1.0}
"""Seed of each member → how far its training images are moved at first."""
WIDTHS = (16, 32, 64)
LEARN = Schedule(epochs=16, rate=2e-3, moves=1.0)
HARDEN = Schedule(epochs=20, rate=1e-3, moves=3.0, mirror=True)
ADAPT = Schedule(epochs=2, rate=2e-4, moves=3.0, mirror=True)
CALIBRATION_IMAGES = 512
SENSITIVITY = 0.95
LARGEST_LOSS = 0.005
PARITY = 1e-3
LARGEST_SIZE = 0.30
MARK = "# Written by train.py\n"
CARD_MARKS = ("<!-- measured by train.py -->\n", "<!-- end -->\n")

Images = npt.NDArray[np.float32]
Truth = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Images of one split.

    Attributes:
        images: (n, 1, 28, 28), float32, 0..1.
        truth: (n,), who has pneumonia.
    """

    images: Images
    truth: Truth

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels for training."""
        return torch.from_numpy(self.images), torch.from_numpy(self.truth.astype(np.float32))


@dataclass(frozen=True)
class Measured:
    """One form of the network, and how it does.

    Attributes:
        weights: The ONNX file.
        threshold: Chosen on the validation split.
        scores: Kernels that can't saturate → probabilities on the test split.
        found: Measure → estimate on the test split, with the default kernels.
        latency_ms: Kernels that can't saturate → median of one image on one thread.
    """

    weights: bytes
    threshold: float
    scores: dict[bool, Scores]
    found: dict[str, Estimate]
    latency_ms: dict[bool, float]


def read(path: Path, split: str) -> Split:
    """One split of the archive."""
    with np.load(path, allow_pickle=False) as archive:
        pixels, labels = archive[f"{split}_images"], archive[f"{split}_labels"]
    return Split((pixels[:, None] / 255).astype(np.float32), labels.ravel() == 1)


def train(seed: int, member: torch.nn.Module, data: Split) -> Iterator[float]:
    """Train one member in fp32; gives the loss of each epoch."""
    first = replace(LEARN, moves=MOVES[seed])
    yield from fit(member, *data.tensors, first, seed=seed)
    yield from fit(member, *data.tensors, HARDEN, seed=500 + seed)


def rounded(member: torch.nn.Module, data: Split) -> torch.nn.Module:
    """The same member as quantization-aware training begins."""
    signal = Standardise()(torch.from_numpy(calibration(data)))
    return qat.prepare(member, signal.split(64), keep_fp32=["last"])


def adapt(
    seed: int, quantized: torch.nn.Module, member: torch.nn.Module, data: Split
) -> Iterator[float]:
    """Quantization-aware training of a member, with itself in fp32 as its teacher."""
    standardise = Standardise()

    def teacher(pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return member(standardise(pixels)).sigmoid()

    yield from fit(quantized, *data.tensors, ADAPT, seed=1000 + seed, teacher=teacher)


def kept(
    network: torch.nn.Module, epochs: Iterator[float], file: Path | None, told: Callable[[], None]
) -> torch.nn.Module:
    """The network after its training, or as an earlier run left it.

    Args:
        network: As it begins.
        epochs: Trains it.
        file: Where its weights are kept; None: nowhere.
        told: Called after each epoch.
    """
    if file is not None and file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
        # As `fit` leaves it: another order in memory is another rounding.
        return network.to(memory_format=torch.channels_last).eval()
    for _ in epochs:
        told()
    if file is not None:
        torch.save(network.state_dict(), file)
    return network


def calibration(data: Split) -> Images:
    """Training images that set the ranges of the activations."""
    chosen = np.random.default_rng(0).choice(len(data.images), CALIBRATION_IMAGES, replace=False)
    return data.images[chosen]


def platt(committee: Committee, validation: Split) -> Committee:
    """Turn logits into probabilities that are honest on the validation split."""
    with torch.no_grad():
        logits = committee.logits(torch.from_numpy(validation.images)).numpy()
    found = LogisticRegression(C=1e3).fit(logits, validation.truth)
    return committee.calibrated(float(found.coef_[0, 0]), float(found.intercept_[0]))


def threshold(validation: Split, scores: Scores) -> float:
    """The highest threshold that still finds SENSITIVITY of the sick on the validation split."""
    sick = np.sort(scores[validation.truth])
    missed = math.floor((1 - SENSITIVITY) * len(sick))
    return math.floor(float(sick[missed]) * 1e4) / 1e4


def answers(weights: bytes, images: Images, *, exact_int8: bool = False) -> Scores:
    """What the runtime answers, (n,)."""
    session = open_session(weights, exact_int8=exact_int8)
    return np.asarray(session.run([OUTPUT], {INPUT: images})[0][:, 0], dtype=np.float64)


def latency_ms(weights: bytes, image: Images, *, exact_int8: bool) -> float:
    """Median time of one image on one thread, after a warm-up."""
    session = open_session(weights, exact_int8=exact_int8)
    times = []
    for _ in range(400):
        start = time.perf_counter()
        session.run([OUTPUT], {INPUT: image})
        times.append(time.perf_counter() - start)
    return float(np.median(times[100:]) * 1000)


def accuracy(at: float) -> Measure:
    """Share of right decisions at a threshold."""
    return lambda truth, score: float(np.mean((score >= at) == truth))


def measure(weights: bytes, validation: Split, test: Split) -> Measured:
    """Choose the threshold on validation, then measure on test."""
    at = threshold(validation, answers(weights, validation.images))
    scores = {exact: answers(weights, test.images, exact_int8=exact) for exact in (False, True)}
    wanted = {
        "auroc": auroc,
        "accuracy": accuracy(at),
        "sensitivity": sensitivity(at),
        "specificity": specificity(at),
        "brier": brier,
        "calibration-error": calibration_error,
    }
    found = {name: bootstrap(each, test.truth, scores[False]) for name, each in wanted.items()}
    times = {
        exact: latency_ms(weights, test.images[:1], exact_int8=exact) for exact in (False, True)
    }
    return Measured(weights, at, scores, found, times)


def golden(fp32: bytes) -> str:
    """The phantoms, and the fp32 answer to each."""
    cases = []
    for name, picture in phantoms().items():
        pixels = (picture / 255).astype(np.float32).reshape(1, 1, SIDE, SIDE)
        cases.append(
            {
                "id": name,
                "note": "a drawn image, nobody's; the answer of the fp32 network",
                "image": png(picture),
                "expected": [round(float(answers(fp32, pixels)[0]), 7)],
            }
        )
    return json.dumps({"cases": cases}, indent=1) + "\n"


def largest_gap(forms: dict[str, Measured]) -> float:
    """How far int8 is from fp32 at most: test images and phantoms, both kernels."""
    drawn = np.stack([picture / 255 for picture in phantoms().values()])[:, None]
    images = drawn.astype(np.float32)
    int8, fp32 = forms["int8, QAT"], forms["fp32"]
    gaps = [np.abs(int8.scores[exact] - fp32.scores[exact]).max() for exact in (False, True)]
    gaps += [
        np.abs(
            answers(int8.weights, images, exact_int8=exact) - answers(fp32.weights, images)
        ).max()
        for exact in (False, True)
    ]
    return float(max(gaps))


def refusals(forms: dict[str, Measured]) -> list[str]:
    """Why the int8 form can't stand for the fp32 one; empty when it can."""
    int8, fp32 = forms["int8, QAT"], forms["fp32"]
    lost = {name: fp32.found[name].value - int8.found[name].value for name in ("auroc", "accuracy")}
    problems = [f"{name} falls by {loss:.4f}" for name, loss in lost.items() if loss > LARGEST_LOSS]
    size = len(int8.weights) / len(fp32.weights)
    return problems + ([f"size is {size:.0%} of fp32"] if size > LARGEST_SIZE else [])


def manifest_tail(
    files: dict[str, bytes], forms: dict[str, Measured], tolerance: float, test: Split
) -> str:
    """The measured part of the manifest: bands, weights, metrics."""
    int8, fp32 = forms["int8, QAT"], forms["fp32"]
    named = {**int8.found, "auroc-fp32": fp32.found["auroc"]}
    cohort = f"{len(test.truth)} children's films, {int(test.truth.sum())} with pneumonia"
    parts = [
        f"""
[[outputs.bands]]
at_least = 0
label = "not suggested"
advice = "The image resembles those read as normal; this does not rule pneumonia out."

[[outputs.bands]]
at_least = {int8.threshold}
interpretation = "A"
label = "suggested"
advice = "The image resembles those read as pneumonia; have the film read."

[weights]
file = "model.onnx"
sha256 = "{sha256(files["model.onnx"])}"
format = "onnx-int8-qdq"
tolerance = {tolerance}
output_name = "{OUTPUT}"
reference = {{ file = "model.fp32.onnx", sha256 = "{sha256(files["model.fp32.onnx"])}" }}
"""
    ]
    parts += [
        f"""
[[metrics]]
name = "{name}"
value = {each.value:.4f}
ci95 = [{each.low:.4f}, {each.high:.4f}]
cohort = "{cohort}, the published test split"
method = "threshold {int8.threshold} from the validation split; bootstrap over images"
"""
        for name, each in named.items()
    ]
    return "".join(parts)


def card_part(forms: dict[str, Measured], tolerance: float, test: Split) -> str:
    """The measured part of the model card."""
    columns = [_column(each, test) for each in forms.values()]
    rows = [
        f"| {name} | " + " | ".join(each[name] for each in columns) + " |" for name in columns[0]
    ]
    head = f"| on the test split | {' | '.join(forms)} |\n|---|{'---|' * len(forms)}\n"
    cohort = f"{len(test.truth)} images, {int(test.truth.sum())} with pneumonia"
    return f"""
{head}{chr(10).join(rows)}

{cohort}. Intervals: 95 % percentile bootstrap over images, 2,000
draws. Each form has its own threshold, by the same rule, from the validation split. Tolerance of a
probability, int8 (QAT) against fp32, over test images and golden cases, both kernel settings:
{tolerance}.

"""


def _column(form: Measured, test: Split) -> dict[str, str]:
    exact = form.scores[True]
    default_ms, exact_ms = form.latency_ms[False], form.latency_ms[True]
    return {
        "threshold": f"{form.threshold}",
        **{name: str(each) for name, each in form.found.items()},
        "auroc, exact kernels": f"{auroc(test.truth, exact):.3f}",
        "accuracy, exact kernels": f"{accuracy(form.threshold)(test.truth, exact):.3f}",
        "one image, one thread": f"{default_ms:.2f} ms; exact kernels {exact_ms:.2f} ms",
        "size": f"{len(form.weights):,} bytes",
    }


def build(
    data: Split, validation: Split, work: Path | None, progress: Progress
) -> dict[str, bytes]:
    """The three forms, from training and validation images alone."""
    learning = progress.add_task("training", total=len(MOVES) * (LEARN.epochs + HARDEN.epochs))
    adapting = progress.add_task("quantization-aware", total=len(MOVES) * ADAPT.epochs)
    members, adapted = [], []
    for seed in MOVES:
        torch.manual_seed(seed)
        member = Member(WIDTHS)
        file = work / f"member-{seed}.pt" if work else None
        told = partial(progress.advance, learning)
        members.append(kept(member, train(seed, member, data), file, told))
        quantized = rounded(member, data)
        file = work / f"adapted-{seed}.pt" if work else None
        told = partial(progress.advance, adapting)
        adapted.append(kept(quantized, adapt(seed, quantized, member, data), file, told))
    return forms_of(members, adapted, data, validation)


def forms_of(
    members: list[torch.nn.Module],
    adapted: list[torch.nn.Module],
    data: Split,
    validation: Split,
) -> dict[str, bytes]:
    """Committee, calibrated → fp32, and quantized from it without training; and the adapted one."""
    fp32 = to_onnx(platt(Committee(members), validation))
    ptq = static_int8(fp32, [calibration(data)], keep_fp32=last_layers(fp32))
    learned = platt(Committee(adapted), validation)
    qat.freeze(learned)
    example = torch.from_numpy(validation.images)
    return {
        "fp32": fp32,
        "int8, PTQ": qdq.pack(ptq),
        "int8, QAT": qat.export(
            learned, example, input_name=INPUT, output_name=OUTPUT, tolerance=PARITY
        ),
    }


def last_layers(model: bytes) -> list[str]:
    """Names of the nodes that make the logits."""
    nodes = onnx.load_from_string(model).graph.node
    return [node.name for node in nodes if node.op_type == "Gemm"]


def publish(built: dict[str, bytes], validation: Split, test: Split, out: Path) -> None:
    """Measure on the test split and write all files; write nothing when int8 is not fp32 any more.

    Raises:
        typer.Exit: The gate does not hold.
    """
    forms = {name: measure(weights, validation, test) for name, weights in built.items()}
    tolerance = math.ceil(largest_gap(forms) * 100 + 1) / 100
    measured = card_part(forms, tolerance, test)
    typer.echo(measured)
    if problems := refusals(forms):
        typer.echo(f"refused: {'; '.join(problems)}", err=True)
        raise typer.Exit(1)
    files = {
        "model.fp32.onnx": built["fp32"],
        "model.onnx": built["int8, QAT"],
        "golden.json": golden(built["fp32"]).encode(),
    }
    head = (HERE / "manifest.toml").read_text(encoding="utf-8").partition(MARK)[0]
    tail = manifest_tail(files, forms, tolerance, test)
    files["manifest.toml"] = (head + MARK + tail).encode()
    card = (HERE / "card.md").read_text(encoding="utf-8")
    before, _, rest = card.partition(CARD_MARKS[0])
    after = rest.partition(CARD_MARKS[1])[2]
    files["card.md"] = (before + CARD_MARKS[0] + measured + CARD_MARKS[1] + after).encode()
    for name, content in files.items():
        (out / name).write_bytes(content)


def main(
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The npz archive.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Where the files go.")] = HERE,
    work: Annotated[
        Path | None, typer.Option(file_okay=False, help="Keeps the networks that are done.")
    ] = None,
) -> None:
    """Train, quantize, measure, and write the model's files."""
    torch.set_num_threads(1)
    if work:
        work.mkdir(parents=True, exist_ok=True)
    validation = read(data, "val")
    with Progress(console=Console(stderr=True)) as progress:
        built = build(read(data, "train"), validation, work, progress)
    test = read(data, "test")  # here, not before
    publish(built, validation, test, out)
    if work:
        np.savez_compressed(work / "evaluation.npz", image=test.images, truth=test.truth)


if __name__ == "__main__":
    typer.run(main)
