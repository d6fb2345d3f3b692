"""Cases whose answers are known: what a model must still answer on every machine that serves it.

A case gives what the manifest feeds: `inputs` (numbers by input id, null for a missing one),
`image` (a PNG in base64) or `text`; and `expected`, one row of the output tensor. Images and texts
are encoded as in service, so a change of the encoding shows too.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, ValidationError

from models.manifest import Manifest
from models.tensors import FloatArray, Tensors, stack


class GoldenUnusable(ValueError):
    """A file of golden cases can't be read, or does not fit the manifest; the case is named."""


class GoldenCase(BaseModel):
    """An input whose answer is known.

    Attributes:
        id: Short name.
        note: What it shows.
        inputs: Input id → value in the manifest's unit; None where it is missing.
        image: An image, encoded as PNG; base64 in the file.
        text: A note, as plain text.
        expected: What the model answers, one number per column of its output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    note: str
    inputs: Mapping[str, float | None] | None = None
    image: Base64Bytes | None = None
    text: str | None = None
    expected: tuple[float, ...]

    def fits(self, manifest: Manifest) -> bool:
        """Whether it gives exactly what the model is fed, and an answer of its shape."""
        ids = {each.id for each in manifest.inputs} if manifest.weights.input_name else None
        return (
            (None if self.inputs is None else set(self.inputs)) == ids
            and (self.image is None) == (manifest.image is None)
            and (self.text is None) == (manifest.text is None)
            and len(self.expected) == manifest.output_width
        )


class GoldenCases(BaseModel):
    """The golden cases of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: Annotated[tuple[GoldenCase, ...], Field(min_length=1)]


def read_golden(content: bytes, manifest: Manifest) -> tuple[GoldenCase, ...]:
    """Read a file of golden cases.

    Raises:
        GoldenUnusable: It is no such file, or a case does not fit the manifest.
    """
    try:
        cases = GoldenCases.model_validate_json(content).cases
    except ValidationError as error:
        raise GoldenUnusable("not a file of golden cases") from error
    for case in cases:
        if not case.fits(manifest):
            raise GoldenUnusable(f"golden case {case.id} doesn't fit the manifest")
    return cases


def encode(
    cases: Sequence[GoldenCase], manifest: Manifest, tokenizer: bytes | None
) -> tuple[Tensors, FloatArray]:
    """Make a batch of golden cases, as features are made in service.

    Args:
        cases: At least one, all fitting the manifest.
        manifest: Of the model.
        tokenizer: Of a model of texts.

    Returns:
        The graph's inputs by name; the answers of shape (n, m).

    Raises:
        GoldenUnusable: An image or a text is refused, so it can have no answer.
    """
    encoder = _Encoder(manifest, tokenizer)
    tensors = [encoder.encode(case) for case in cases]
    return stack(tensors), np.asarray([case.expected for case in cases], dtype=np.float32)


class _Encoder:
    def __init__(self, manifest: Manifest, tokenizer: bytes | None) -> None:
        self._manifest = manifest
        # Images and texts need libraries of their own, which a model of numbers does without.
        if manifest.text is not None:
            from models.texts import TextEncoder  # noqa: PLC0415

            self._texts = TextEncoder(tokenizer or b"", manifest.text)

    def encode(self, case: GoldenCase) -> Tensors:
        try:
            return {**self._numbers(case), **self._image(case), **self._text(case)}
        except ValueError as error:
            raise GoldenUnusable(f"golden case {case.id}: {error}") from error

    def _numbers(self, case: GoldenCase) -> Tensors:
        name = self._manifest.weights.input_name
        if name is None or case.inputs is None:
            return {}
        values = [case.inputs[each.id] for each in self._manifest.inputs]
        return {name: np.asarray(values, dtype=np.float32)}

    def _image(self, case: GoldenCase) -> Tensors:
        spec = self._manifest.image
        if spec is None or case.image is None:
            return {}
        from models.images import decode, to_tensors  # noqa: PLC0415

        return to_tensors(decode(case.image, "image/png", spec), spec)

    def _text(self, case: GoldenCase) -> Tensors:
        return {} if case.text is None else self._texts.encode(case.text)
