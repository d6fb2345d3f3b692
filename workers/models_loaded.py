"""The models of a worker process: opened on first use, shared by its threads."""

import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from gateway import telemetry
from gateway.core.errors import GatewayError, NotFound, ProcessingError, TransientError
from gateway.core.findings import RuntimeFacts
from models.library import Library
from models.manifest import ManifestError
from models.registry import InstalledModel, ModelFileMissing, ModelUnusable
from models.runtime import EngineBusy, Runtime, RunTimedOut
from models.tensors import FloatArray, Tensors

if TYPE_CHECKING:
    from models.texts import TextEncoder

log = telemetry.get_logger()

_TRIED_AGAIN_S = 60.0


class ModelUnfit(ProcessingError):
    """The model does not work on this machine; `nadi doctor` says why."""


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
    """The models of this machine by digest; safe to share among threads."""

    def __init__(
        self, library: Library, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._library = library
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._open: dict[str, OpenModel] = {}
        self._unfit: dict[str, tuple[float, str]] = {}
        self._retired: frozenset[str] = frozenset()

    def get(self, digest: str) -> OpenModel:
        """Give a model by its digest, opening it where it is not.

        Raises:
            NotFound: No model on this machine has this digest and all its files, or it was retired.
            ModelUnfit: It was altered, or does not answer its golden cases on this machine.
        """
        found = self._open.get(digest)
        if found is not None:
            return found
        with self._lock:
            if digest not in self._open:
                self._insist_on_service(digest)
                self._insist_on_fit(digest)
                self._open[digest] = self._opened(digest)
            return self._open[digest]

    def retire(self, digests: Collection[str]) -> int:
        """Let go of retired models, for good; count those that were open.

        A session is freed when the last run that is under way on it ends.

        Args:
            digests: Every model that was retired.
        """
        with self._lock:
            # A retired digest never runs again, so it must not be opened again either.
            self._retired = frozenset(digests)
            dropped = self._open.keys() & self._retired
            for digest in dropped:
                del self._open[digest]
        return len(dropped)

    def warm_up(self, digests: Iterable[str]) -> int:
        """Open models before the first job comes, count them; one that can't be hides no other."""
        count = 0
        for digest in digests:
            try:
                self.get(digest)
            except GatewayError as error:
                log.warning("model-unfit", model_digest=digest, error=type(error).__name__)
            else:
                count += 1
        return count

    def _insist_on_service(self, digest: str) -> None:
        if digest in self._retired:
            raise NotFound("The model of this digest was retired.")

    def _insist_on_fit(self, digest: str) -> None:
        """Don't try anew with every job: it would cost the worker its time."""
        tried_s, why = self._unfit.get(digest, (0.0, ""))
        if why and self._monotonic() - tried_s < _TRIED_AGAIN_S:
            raise ModelUnfit(why)

    def _opened(self, digest: str) -> OpenModel:
        # Looked for anew each time: its files may have come since this process began.
        try:
            model = self._library.find(digest)
            if model is None:
                raise NotFound("No model on this machine has this digest.")
            return OpenModel(Runtime(model))
        except ModelFileMissing as error:
            # It may be back at the next look, as after an update of the files.
            raise NotFound("A file of this model is not on this machine.") from error
        except (ManifestError, ModelUnusable) as error:
            why = f"The model can't be used on this machine ({type(error).__name__})."
            self._unfit[digest] = (self._monotonic(), why)
            raise ModelUnfit(why) from error
