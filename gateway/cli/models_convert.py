"""`nadi models convert`: TensorFlow Lite → ONNX, if both are shown to answer alike."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.context import AsJson, explained, fail, out, print_json
from models.manifest import MANIFEST_FILE, Manifest, parse
from models.registry import InstalledModel, ModelUnusable

if TYPE_CHECKING:
    from models.tensors import Tensors

Model = Annotated[Path, typer.Argument(help="The .tflite file.")]
Converted = Annotated[
    Path | None, typer.Option(help="What a converter made of it already, instead of tf2onnx.")
]
Python = Annotated[
    Path | None,
    typer.Option(help="Python of an environment with tf2onnx and TensorFlow.", show_default="this"),
]
Data = Annotated[
    Path | None,
    typer.Option(help=".npz of inputs that must be answered alike, beside made-up ones."),
]
Image = Annotated[
    str | None,
    typer.Option(help="The input that is an image.", show_default="as the manifest beside it says"),
]
Output = Annotated[
    str | None,
    typer.Option(help="The output that is the answer.", show_default="as the manifest says"),
]
Tolerance = Annotated[
    float | None,
    typer.Option(help="Largest accepted difference.", show_default="that of rounding"),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Where the ONNX file goes.", show_default="beside it")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")]


@dataclass(frozen=True)
class _Beside:
    """What the manifest in the folder of a file says of it; nothing where there is none.

    Attributes:
        model: The folder as a model.
    """

    model: InstalledModel | None

    @property
    def manifest(self) -> Manifest | None:
        """The manifest."""
        return self.model.manifest if self.model else None

    @property
    def image(self) -> str | None:
        """The input that is an image."""
        spec = self.manifest.image if self.manifest else None
        return spec.input_name if spec else None

    @property
    def output(self) -> str | None:
        """The output that is the answer."""
        return self.manifest.weights.output_name if self.manifest else None

    def golden(self) -> "list[Tensors]":
        """The golden cases as a batch, where there are any yet.

        Raises:
            ModelUnusable: They can't be read.
        """
        model = self.model
        if model is None or not (model.folder / model.manifest.golden).exists():
            return []
        return [model.golden_cases()[0]]


@explained
def convert(  # noqa: PLR0913 (one parameter per option)
    model: Model,
    *,
    converted: Converted = None,
    python: Python = None,
    data: Data = None,
    image: Image = None,
    output: Output = None,
    tolerance: Tolerance = None,
    out_file: Out = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Convert a TensorFlow Lite model to ONNX, unless one answer would differ."""
    from models import convert as conversion  # noqa: PLC0415 - keep `--help` quick
    from models.dataset import arrays_of  # noqa: PLC0415
    from models.tflite import LiteRtEngine  # noqa: PLC0415

    target = out_file or model.with_suffix(".onnx")
    if target.exists() and not force:
        fail(f"{target}: already there. Name another with --out, or overwrite with --force.")
    try:
        beside = _beside(model)
        original = LiteRtEngine(model, output or beside.output, image or beside.image)
        known = [*beside.golden(), *([arrays_of(data, data.read_bytes())] if data else [])]
        wanted = {spec.name for spec in original.inputs}
        batches = [{name: batch[name] for name in wanted} for batch in known]
        made = (
            converted.read_bytes()
            if converted
            else conversion.run_converter(python or Path(sys.executable), model)
        )
        content, found = conversion.convert(original, made, batches, tolerance=tolerance)
        target.write_bytes(content)
    except (ValueError, ModelUnusable) as error:
        fail(str(error))
    except KeyError as error:
        fail(f"{data}: there is no array {error} for the network's input.")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}.")
    told = {"file": str(target), "cases": found.cases, "gap": found.gap, "allowed": found.allowed}
    if as_json:
        print_json(told)
        return
    out.print(
        f"[green]✓[/] {target}: the same answers to {found.cases} cases; largest difference "
        f"{found.gap:.2g}, allowed {found.allowed:.2g}",
        soft_wrap=True,
    )
    out.print("Judge it next, on every kind of int8 kernels: nadi models evaluate", soft_wrap=True)


def _beside(model: Path) -> _Beside:
    path = model.parent / MANIFEST_FILE
    if not path.exists():
        return _Beside(None)
    manifest = parse(path.read_text(encoding="utf-8"), file=str(path))
    is_its = manifest.weights.file == model.name
    return _Beside(InstalledModel(manifest, model.parent, {}) if is_its else None)
