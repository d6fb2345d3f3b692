"""Loads a model once and asks it, within the limits of its manifest.

* Weights are loaded only if they are the ones the manifest names, and used only if they answer the
  golden cases within the manifest's tolerance *on this machine*; that run also warms them up.
* A batch larger than `limits.max_batch` is run in parts; a graph of a fixed batch is given just
  that, filled up. A run longer than `limits.timeout_s` is stopped.
"""

from pathlib import Path

import numpy as np

from models.engines import Engine, EngineBusy, RunTimedOut
from models.kernels import KernelClass, cpu_kernel_class, kernel_class_of, needs_exact_int8
from models.manifest import Manifest
from models.onnx_engine import OnnxEngine, open_session
from models.registry import InstalledModel, ModelUnusable
from models.tensors import FloatArray, Tensors, batch_size, filled, parts_of

__all__ = [
    "EngineBusy",
    "GoldenCasesFailed",
    "KernelClass",
    "RunTimedOut",
    "Runtime",
    "cpu_kernel_class",
    "kernel_class_of",
    "needs_exact_int8",
    "open_session",
]


class GoldenCasesFailed(ModelUnusable):
    """On this machine the model does not give the answers its maker recorded; don't use it."""


class Runtime:
    """One model, ready to answer; shared by the threads of one process.

    Attributes:
        model: What it runs.
        kernel_class: The machine's int8 kernels; goes into the Provenance.
        exact_int8: Whether kernels that can't saturate were chosen.
        golden_gap: Largest difference to a golden answer.
    """

    def __init__(self, model: InstalledModel, *, exact_int8: bool | None = None) -> None:
        """Load the weights and try the golden cases.

        Args:
            model: What to run.
            exact_int8: Overrides what the CPU suggests; for tests and for measuring.

        Raises:
            WeightsAltered: The weights are not the manifest's.
            GoldenCasesFailed: It answers a golden case differently on this machine.
            ModelUnusable: It can't be loaded, or is quantized and declared as float32.
        """
        self.model = model
        self.kernel_class: KernelClass = cpu_kernel_class()
        wants_exact = needs_exact_int8() if exact_int8 is None else exact_int8
        self.exact_int8 = wants_exact and not model.manifest.weights.is_tflite
        self._engine = open_engine(model, exact_int8=self.exact_int8)
        self._check_format()
        self._check_gaps()
        sizes = [spec.shape[0] for spec in self._engine.inputs]
        self._fixed_batch = next((size for size in sizes if size), None)
        self.golden_gap = self._try_golden_cases()

    @property
    def version(self) -> str:
        """Name and version of the inference runtime."""
        return self._engine.version

    @property
    def digest(self) -> str:
        """SHA-256 over manifest and weights."""
        return self.model.digest

    def predict(self, batch: Tensors) -> FloatArray:
        """Ask the model.

        Whether an answer lies in the range of the manifest is for the caller to check row by row
        (`Output.band` raises), so that one odd row does not fail its batch.

        Args:
            batch: The graph's inputs by name; numbers float32 (n, k), NaN where one is missing.

        Returns:
            float32 of shape (n, m), columns as the manifest's outputs say.

        Raises:
            ValueError: The batch has another shape or type.
            RunTimedOut: It took longer than the manifest allows.
            EngineBusy: An earlier run that was given up still goes on.
            ModelUnusable: The network answers in another shape.
        """
        self._check(batch)
        most = self._fixed_batch or self.model.manifest.limits.max_batch
        answers = [self._ask(part) for part in parts_of(batch, most)]
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def _ask(self, batch: Tensors) -> FloatArray:
        manifest, count = self.model.manifest, batch_size(batch)
        given = filled(batch, self._fixed_batch) if self._fixed_batch else batch
        answer = self._engine.run(given, timeout_s=manifest.limits.timeout_s)
        if answer.shape != (batch_size(given), manifest.output_width):
            raise ModelUnusable("the network's output doesn't fit the manifest")
        return answer[:count]

    def _check(self, batch: Tensors) -> None:
        """Insist on the graph's inputs, of their types and shapes where those are fixed."""
        wanted = {each.name: each for each in self._engine.inputs}
        if wanted.keys() != batch.keys():
            raise ValueError(f"the batch must have the tensors {', '.join(sorted(wanted))}")
        for name, array in batch.items():
            if not wanted[name].fits(array):
                raise ValueError(str(wanted[name]))

    def _check_format(self) -> None:
        """Insist that weights which no gate has judged, since they are float32, are float32."""
        weights = self.model.manifest.weights
        if weights.is_quantized:
            return
        # Imported for such a model only: it takes 8 MB, which other workers need not have.
        from models.precision import narrow_parts_of  # noqa: PLC0415

        found = getattr(self._engine, "narrow_parts", None)
        narrow = narrow_parts_of(self.model.weights_file()) if found is None else found
        if narrow:
            raise ModelUnusable(
                f"{self.model.reference} is declared as {weights.format}, but it is quantized: "
                f"{', '.join(narrow)}; its maker has to name its format and show that it passes "
                "its [gate]"
            )

    def _check_gaps(self) -> None:
        """Insist on an input that can say "missing" where the manifest lets a value be missing."""
        manifest = self.model.manifest
        masked = [each.id for each in manifest.inputs if each.missing == "mask"]
        for spec in self._engine.inputs:
            if spec.name == manifest.weights.input_name and masked and not spec.can_miss:
                raise ModelUnusable(
                    f"{self.model.reference}: {masked[0]} may be missing, which a quantized input "
                    "can't say; impute it, or leave the input float32"
                )

    def _try_golden_cases(self) -> float:
        batch, expected = self.model.golden_cases()
        try:
            gap = float(np.abs(self.predict(batch) - expected).max())
        except ModelUnusable:
            raise
        except Exception as error:  # the runtimes' own error types are not public
            raise GoldenCasesFailed(
                f"{self.model.reference} can't answer its golden cases on this machine: "
                f"{str(error).splitlines()[0]}"
            ) from error
        if not gap <= self.model.manifest.weights.tolerance:  # a NaN fails too
            raise GoldenCasesFailed(
                f"{self.model.reference} answers its golden cases differently on this machine "
                f"({self.kernel_class}, {self.version})"
            )
        return gap


def open_engine(model: InstalledModel, *, exact_int8: bool) -> Engine:
    """Load a model's weights into the runtime of their format.

    Raises:
        WeightsAltered: The weights are not the manifest's.
        ModelUnusable: They can't be loaded, or the runtime is not installed.
    """
    file, weights = model.weights_file(), model.manifest.weights
    if is_tflite(file) != weights.is_tflite:
        raise ModelUnusable(f"{file} is not of the format {weights.format} that its manifest says")
    return open_engine_of(file, model.manifest, exact_int8=exact_int8)


def open_engine_of(file: Path, manifest: Manifest, *, exact_int8: bool) -> Engine:
    """Load a network that answers as a manifest says: its weights, or their fp32 twin.

    Raises:
        ModelUnusable: It can't be loaded, or the runtime is not installed.
    """
    output = manifest.weights.output_name
    if not is_tflite(file):
        return OnnxEngine(file, output, exact_int8=exact_int8)
    # Imported when such a model is opened: it is an extra, and takes 20 MB.
    from models.tflite import LiteRtEngine  # noqa: PLC0415

    return LiteRtEngine(file, output, manifest.image.input_name if manifest.image else None)


def is_tflite(file: Path) -> bool:
    """Whether a file begins as TFLite does.

    Raises:
        ModelUnusable: It can't be read.
    """
    try:
        with file.open("rb") as content:
            return content.read(8)[4:] == b"TFL3"
    except OSError as error:
        raise ModelUnusable(f"{file} can't be read") from error
