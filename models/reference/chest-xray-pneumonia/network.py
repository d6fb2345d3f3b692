# ruff: noqa: INP001 - a folder of one model's files, not a package
"""The network of chest-xray-pneumonia, and how it learns.

pixels 0..1 → each image standardised by itself, beside the same with its local contrast evened →
a committee of small residual networks → mean of their logits → calibrated probability. All of it
is in the graph, so whoever runs it passes plain pixels.

In these images the framing, the exposure and the sharpness betray the class: normal films show the
shoulders and are crisp, the others are cropped closer and are soft. What is done against that:

* standardisation per image: an exposure that differs as a whole changes nothing;
* augmentation that makes framing, exposure and sharpness of every training image random;
* both classes weigh the same, whatever their share;
* the weights are averaged along the way (EMA), and over a committee of differently seeded members.
"""

import copy
import io
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 28
_FLOOR = 0.02
_NEIGHBOURHOOD = 9
_BINOMIAL = torch.tensor([1.0, 2.0, 1.0]) / 4


@dataclass(frozen=True)
class Schedule:
    """How long and how fast something is trained.

    Attributes:
        epochs: Passes over the images.
        rate: Largest learning rate; it rises to it and falls to nothing.
        batch: Images of one step.
        decay: Weight decay.
        moves: How far `augment` turns, frames anew, stretches and (above 1) shifts: 1 is 5 degrees,
            7 % of the size, 3 % of the proportions, 4 % of the place.
        mirror: Whether half of the images are mirrored.
        memory: How much of the running average of the weights survives a step, at most.
    """

    epochs: int
    rate: float
    moves: float
    mirror: bool = False
    batch: int = 32
    decay: float = 0.01
    memory: float = 0.99


class Standardise(nn.Module):  # type: ignore[misc]  # untyped where PyTorch is absent
    """(n, 1, h, w) → (n, 2, h, w): standardised by the whole image, and by each neighbourhood."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Any exposure → mean 0, deviation about 1."""
        rest = pixels - pixels.mean((2, 3), keepdim=True)
        whole = rest / ((rest * rest).mean((2, 3), keepdim=True).sqrt() + _FLOOR)
        rest = pixels - _blurred(pixels)
        return torch.cat([whole, rest / (_blurred(rest * rest).sqrt() + _FLOOR)], 1)


class Residual(nn.Module):  # type: ignore[misc]
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(width_in, width, 3, stride)
        self.second = _convolution(width, width, 3, 1)
        same = stride == 1 and width_in == width
        self.shortcut = nn.Identity() if same else _convolution(width_in, width, 1, stride)

    def forward(self, signal: Tensor) -> Tensor:
        """(n, width_in, h, w) → (n, width, h / stride, w / stride)."""
        inner = functional.relu(self.first(signal))
        return functional.relu(self.second(inner) + self.shortcut(signal))


class Member(nn.Module):  # type: ignore[misc]
    """One network of the committee: standardised images (n, 2, 28, 28) → logits (n, 1)."""

    def __init__(self, widths: tuple[int, ...], *, dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(2, widths[0], 3, 1), nn.ReLU())
        blocks = []
        for place, width in enumerate(widths):
            before = widths[max(place - 1, 0)]
            blocks.append(Residual(before, width, 2 if place else 1))
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(widths[-1], 1)

    def forward(self, signal: Tensor) -> Tensor:
        """Logits before calibration."""
        return self.last(self.dropout(self.blocks(self.stem(signal)).mean((2, 3))))


class Committee(nn.Module):  # type: ignore[misc]
    """Members that answer together: pixels (n, 1, 28, 28), 0..1 → probability (n, 1)."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.standardise = Standardise()
        self.members = nn.ModuleList(members)

    def logits(self, pixels: Tensor) -> Tensor:
        """The mean of the members' logits, (n, 1)."""
        signal = self.standardise(pixels)
        return torch.stack([each(signal) for each in self.members]).mean(0)

    def forward(self, pixels: Tensor) -> Tensor:
        """The probability of pneumonia."""
        return self.logits(pixels).sigmoid()

    def calibrated(self, slope: float, intercept: float) -> "Committee":
        """The same with Platt's slope and intercept folded into every member's last layer."""
        result = copy.deepcopy(self)
        with torch.no_grad():
            for each in result.members:
                each.last.weight.mul_(slope)
                each.last.bias.mul_(slope).add_(intercept)
        return result


def fit(
    network: nn.Module,
    images: Tensor,
    truth: Tensor,
    schedule: Schedule,
    *,
    seed: int,
    teacher: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[float]:
    """Train in place; the network ends as the average of its weights along the way.

    Args:
        network: Standardised images → logits.
        images: (n, 1, 28, 28), 0..1.
        truth: (n,), 1 for pneumonia.
        schedule: How long and how fast.
        seed: Of order and augmentation.
        teacher: Pixels → probabilities to learn from instead of the labels.

    Yields:
        The mean loss of each epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout
    network.to(memory_format=torch.channels_last)  # a third faster
    standardise = Standardise()
    steps = len(images) // schedule.batch
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=schedule.rate, weight_decay=schedule.decay
    )
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.rate, total_steps=steps * schedule.epochs, pct_start=0.2
    )
    average = Average(network, schedule.memory)
    for _ in range(schedule.epochs):
        network.train()
        total = 0.0
        order = torch.randperm(len(images), generator=generator)
        for chosen in order[: steps * schedule.batch].split(schedule.batch):
            pixels = augment(images[chosen], schedule, generator)
            target = truth[chosen, None] if teacher is None else teacher(pixels)
            loss = balanced_loss(network(standardise(pixels)), target, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
            average.update(network)
            total += float(loss.detach()) / steps
        yield total
    average.copy_to(network)


class Average:
    """An exponential moving average of a network's weights and statistics."""

    def __init__(self, network: nn.Module, memory: float) -> None:
        self._memory = memory
        self._steps = 0
        self._state = {name: value.clone() for name, value in network.state_dict().items()}

    def update(self, network: nn.Module) -> None:
        """Take in the present weights; the first ones are forgotten quickly."""
        self._steps += 1
        memory = min(self._memory, (1 + self._steps) / (10 + self._steps))
        for name, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                self._state[name].lerp_(value, 1 - memory)
            else:
                self._state[name].copy_(value)

    def copy_to(self, network: nn.Module) -> None:
        """Set the network to the average."""
        network.load_state_dict(self._state)
        network.eval()


def balanced_loss(logits: Tensor, target: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy in which both classes of the training set have the same weight."""
    share = truth.mean()
    weight = target / (2 * share) + (1 - target) / (2 * (1 - share))
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (weight * losses).mean()


def to_onnx(committee: Committee) -> bytes:
    """The fp32 committee as an ONNX graph: `image` (n, 1, 28, 28) → `probability` (n, 1)."""
    target = io.BytesIO()
    with warnings.catch_warnings():
        # The newer exporter needs a package more, and QAT needs this one: decision 0014.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            committee.eval(),
            (torch.zeros(1, 1, SIDE, SIDE),),
            target,
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["probability"],
            dynamic_axes={"image": {0: "n"}, "probability": {0: "n"}},
        )
    return target.getvalue()


def augment(images: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """The images as other hands and other machines might have taken them; same shape, 0..1."""
    images = _moved(images, generator, schedule.moves)
    if schedule.mirror:
        coin = torch.rand((len(images), 1, 1, 1), generator=generator) < 0.5  # noqa: PLR2004
        images = torch.where(coin, images.flip(3), images)
    images = _sharpened(images, generator)
    return _exposed(images, generator).clamp(0, 1)


def _moved(images: Tensor, generator: torch.Generator, moves: float) -> Tensor:
    """Turned, framed closer or wider, stretched, shifted."""
    angle = _per_image(images, generator, math.radians(5) * moves)
    zoom = _per_image(images, generator, 0.07 * moves).exp()
    stretch = _per_image(images, generator, 0.03 * moves).exp()
    across, down = (_per_image(images, generator, 0.08 * max(moves, 1)) for _ in range(2))
    rows = [
        torch.cat([angle.cos() * zoom * stretch, -angle.sin() * zoom, across], 3),
        torch.cat([angle.sin() * zoom, angle.cos() * zoom / stretch, down], 3),
    ]
    matrices = torch.cat(rows, 2)[:, 0]
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _sharpened(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blurred or sharpened."""
    kernel = (_BINOMIAL[:, None] * _BINOMIAL)[None, None]
    soft = functional.conv2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), kernel)
    return images + _per_image(images, generator, 2.0) * (soft - images)


def _exposed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Another tone curve, contrast, brightness, and more or less noise."""
    images = images.clamp(0, 1) ** _per_image(images, generator, 0.7).exp()
    mean = images.mean((2, 3), keepdim=True)
    contrast = _per_image(images, generator, 0.5).exp()
    images = (images - mean) * contrast + mean + _per_image(images, generator, 0.15)
    noise = torch.randn(images.shape, generator=generator)
    return images + noise * _per_image(images, generator, 0.1).abs()


def _per_image(images: Tensor, generator: torch.Generator, most: float) -> Tensor:
    """A number between -most and most for each image, (n, 1, 1, 1)."""
    return (torch.rand((len(images), 1, 1, 1), generator=generator) * 2 - 1) * most


def _convolution(width_in: int, width: int, side: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width, side, stride, side // 2, bias=False), nn.BatchNorm2d(width)
    )


def _blurred(pixels: Tensor) -> Tensor:
    return functional.avg_pool2d(
        pixels, _NEIGHBOURHOOD, 1, _NEIGHBOURHOOD // 2, count_include_pad=False
    )
