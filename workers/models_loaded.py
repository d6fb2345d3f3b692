"""The models of a worker process: opened on first use, shared by its threads."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.core.errors import NotFound, ProcessingError, TransientError
from gateway.core.findings import RuntimeFacts
from models.registry import InstalledModel, ModelUnusable, installed_in
from models.runtime import EngineBusy, Runtime, RunTimedOut
from models.tensors import FloatArray, Tensors

if TYPE_CHECKING:
    from models.texts import TextEncoder


class ModelTooSlow(ProcessingError):
    """The model did not answer within the time limit that its manifest sets."""


class ModelBusy(TransientError):
    """The model is still busy with a run that was given up; it is asked again later."""


class OpenModel:
    """A model whose session is open.

    Attributes:
        manifest: What it needs and gives.
        facts: On what it runs; goes into every Provenance.
        encoder: Its tokenizer, where it reads texts.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.manifest = runtime.model.manifest
        precision = " exact-int8" if runtime.exact_int8 else ""
        self.facts = RuntimeFacts(
            model_digest=runtime.digest,
            runtime=runtime.version,
            kernel_class=f"{runtime.kernel_class}{precision}",
        )
        self.encoder = encoder_of(runtime.model)

    def predict(self, batch: Tensors) -> FloatArray:
        """Ask the model: n cases by the graph's names give float32 of shape (n, columns).

        Raises:
            ModelTooSlow: It was stopped at its time limit; asked the same again, it would be again.
            ModelBusy: An earlier run that could not be stopped still goes on.
        """
        try:
            return self._runtime.predict(batch)
        except RunTimedOut as error:
            raise ModelTooSlow from error
        except EngineBusy as error:
            raise ModelBusy from error


def encoder_of(model: InstalledModel) -> "TextEncoder | None":
    """Give the tokenizer of a model that reads texts; None for any other.

    Raises:
        ModelUnusable: The tokenizer's file is missing, altered or none.
    """
    tokenizer = model.tokenizer()
    if tokenizer is None or model.manifest.text is None:
        return None
    # Imported when wanted: models of numbers do without.
    from models.texts import TextEncoder  # noqa: PLC0415

    try:
        return TextEncoder(tokenizer, model.manifest.text)
    except ValueError as error:
        raise ModelUnusable(f"{model.reference}: {error}") from error


class OpenModels:
    """The installed models by digest; safe to share among threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[str, OpenModel] = {}

    def get(self, digest: str) -> OpenModel:
        """Give a model by its digest, opening it where it is not.

        Raises:
            NotFound: No installed model has this digest.
            ModelUnusable: Its weights were altered, or it does not answer its golden cases.
        """
        found = self._open.get(digest)
        if found is not None:
            return found
        with self._lock:
            if digest not in self._open:
                self._open[digest] = OpenModel(Runtime(self._installed(digest)))
            return self._open[digest]

    def warm_up(self) -> int:
        """Open everything that is installed, before the first job comes; count it."""
        digests = [model.digest for model in installed_in(self._folder)]
        for digest in digests:
            self.get(digest)
        return len(digests)

    def _installed(self, digest: str) -> InstalledModel:
        # Looked up anew each time: a model may have been installed since this process began.
        for model in installed_in(self._folder):
            if model.digest == digest:
                return model
        raise NotFound("No installed model has this digest.")
