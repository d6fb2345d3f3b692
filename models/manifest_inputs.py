"""What a model is given: numbers from the record, an image, or a text.

* `[[inputs]]` are numbers. They are the columns of the input tensor when the weights name one;
  beside an image or a text that has none they only guard: a child's model refuses an adult.
* `[image]` and `[text]` say how pixels and words become tensors, and what is refused before.

Source: DICOM PS3.3 C.7.3.1.1.1 (Modality), PS3.16 annex L (Body Part Examined), BCP 47 (languages).
"""

from math import inf
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, StringConstraints, model_validator

from models.manifest_terms import CodeRef, FileName, Name, Part, Range, Sha256, Text, require

Source = Literal["observation", "patient-age", "patient-sex"]
Aggregation = Literal["latest", "mean", "min", "max"]
MissingPolicy = Literal["refuse", "mask", "impute"]
Unstated = Literal["refuse", "accept"]
Resize = Literal["stretch", "fit", "crop"]
Window = Literal["voi", "full-range", "min-max"]
Truncation = Literal["end", "start"]

DicomCode = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_ ]{1,16}$")]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
Script = Annotated[str, StringConstraints(pattern=r"^[A-Z][a-z]+$")]
ContentType = Annotated[str, StringConstraints(pattern=r"^[a-z]+/[a-z0-9.+-]+$")]
Share = Annotated[float, Field(ge=0, le=1)]

_MOST_PIXELS = 64_000_000
_MOST_BYTES = 32 * 2**20


class InputCode(CodeRef):
    """A code that feeds an input.

    Attributes:
        molar_mass_g_per_mol: Molar mass of what is measured *under this code*, where it is not the
            input's own: urea nitrogen (28.01) for an input of urea (60.06).
    """

    molar_mass_g_per_mol: PositiveFloat | None = None


class Category(CodeRef):
    """The number that stands for a coded answer, for example 2 for "++" on a test strip.

    Attributes:
        value: What the model is given, in the input's unit.
    """

    value: float


class Input(Part):
    """One column of the input tensor.

    Attributes:
        id: Short name, used in reasons and in the audit trail.
        label: The words a clinician knows it by.
        source: Where the value comes from.
        codes: Codes of the Observation, or of the component, that hold the value.
        panels: Codes of Observations that hold it as a component; used when asking an EHR.
        unit: UCUM code of the unit the model was trained in.
        unit_text: The unit as people write it, where that is not the code: "mmHg" for `mm[Hg]`.
        molar_mass_g_per_mol: Lets mass and substance concentrations convert into each other.
        valence: Charge of the ion; lets equivalents and moles convert into each other.
        max_age_h: A value older than this, in hours before the event, is stale.
        aggregation: How several values become one.
        look_back_h: The window of `mean`, `min` and `max`, in hours before the event.
        plausible: What a living person can have; outside it the value is taken for an error.
        intended: What the model was made for; outside it the model refuses.
        intended_codes: Codes of `categories` that the model was made for; others are refused.
        missing: `refuse` the case, `mask` (NaN reaches the model) or `impute` a constant.
        impute_value: The constant of `impute`, in `unit`.
        impute_reason: Why this constant is defensible; required with it.
        categories: Numbers for coded answers (Observation) or for Patient.gender (`patient-sex`).
        baseline: What an explanation puts in its place, in `unit`; "not known" when absent.
    """

    id: Name
    label: Text
    source: Source = "observation"
    codes: tuple[InputCode, ...] = ()
    panels: tuple[CodeRef, ...] = ()
    unit: Text
    unit_text: Text | None = None
    molar_mass_g_per_mol: PositiveFloat | None = None
    valence: PositiveInt | None = None
    max_age_h: PositiveFloat | None = None
    aggregation: Aggregation = "latest"
    look_back_h: PositiveFloat | None = None
    plausible: Range
    intended: Range | None = None
    intended_codes: tuple[Text, ...] = ()
    missing: MissingPolicy
    impute_value: float | None = None
    impute_reason: str = ""
    categories: tuple[Category, ...] = ()
    baseline: float | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        require(*_source_rules(self), *_window_rules(self), *_missing_rules(self))
        require(*_code_rules(self))
        return self

    def is_plausible(self, value: float) -> bool:
        """Whether a living person can have this value, given in `unit`."""
        return self.plausible[0] <= value <= self.plausible[1]

    def is_intended(self, value: float) -> bool:
        """Whether the model was made for this value, given in `unit`."""
        low, high = self.intended or (-inf, inf)
        named = {each.value for each in self.categories if each.code in self.intended_codes}
        return low <= value <= high and (value in named or not self.intended_codes)


class Likeness(Part):
    """What an image has to have in common with those that the model was made for.

    It tells a ramp of greys, noise, a photograph or a film on its side from a film; it does not
    know organs.

    Attributes:
        typical: The mean of the training images, coarse: rows of grey levels on any scale.
        min_correlation: Of the image, made as coarse, with it; 1 is the same.
        edges: Mean absolute Laplacian of the tensor in standard deviations of its grey levels:
            below is smooth as no film is, above is noise or writing.
    """

    typical: Annotated[tuple[tuple[float, ...], ...], Field(min_length=2)]
    min_correlation: Annotated[float, Field(ge=-1, le=1)]
    edges: Range

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        widths = {len(row) for row in self.typical}
        levels = {level for row in self.typical for level in row}
        require(
            (len(widths) == 1 and min(widths) > 1, "typical: rows of one length, 2 or more"),
            (len(levels) > 1, "typical: one grey level is like nothing"),
        )
        return self


class ImageInput(Part):
    """How an image becomes a tensor, and which images the model was made for.

    The tensor is float32 of shape (n, channels, height, width); black is `scale[0]`, white is
    `scale[1]`, then `(x - mean) / std` per channel where those are given.

    Attributes:
        label: The words a clinician knows it by, for example "Chest X-ray".
        input_name: Name of the graph's input.
        height: Rows of the tensor.
        width: Columns of the tensor.
        channels: 1 for grey, 3 for red, green and blue.
        scale: What black and white become.
        mean: Per channel, after `scale`; empty for none.
        std: Per channel, after `scale`; empty for none.
        resize: `stretch` to the size, `fit` inside it on black, or `crop` the centre.
        window: Grey levels of a DICOM image: its own VOI window, the stored range, or its extremes.
        modalities: DICOM modality codes, for example `DX`, `CR`.
        body_parts: DICOM BodyPartExamined values, for example `CHEST`.
        body_sites: Codes of FHIR `bodySite` (or of the procedure) that mean the same.
        views: DICOM ViewPosition values that are accepted; empty for any.
        view_codes: Codes of FHIR `view` that mean the same.
        if_unstated: What happens when nothing says which modality or body part it is.
        likeness: What it has to look like; anything without it.
        min_side_px: An image with a shorter side is refused.
        max_pixels: An image that declares more pixels is refused before it is decoded.
        max_bytes: An encoded image larger than this is refused before it is opened.
        min_contrast: Smallest standard deviation of the grey levels, 0 to 1; below it is blank.
    """

    label: Text
    input_name: Text
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    channels: Literal[1, 3] = 1
    scale: Range = (0.0, 1.0)
    mean: tuple[float, ...] = ()
    std: tuple[PositiveFloat, ...] = ()
    resize: Resize = "stretch"
    window: Window = "voi"
    modalities: Annotated[tuple[DicomCode, ...], Field(min_length=1)]
    body_parts: tuple[DicomCode, ...] = ()
    body_sites: tuple[CodeRef, ...] = ()
    views: tuple[DicomCode, ...] = ()
    view_codes: tuple[CodeRef, ...] = ()
    if_unstated: Unstated = "refuse"
    likeness: Likeness | None = None
    min_side_px: PositiveInt = 16
    max_pixels: Annotated[int, Field(ge=1, le=_MOST_PIXELS)] = _MOST_PIXELS
    max_bytes: Annotated[int, Field(ge=1, le=_MOST_BYTES)] = _MOST_BYTES
    min_contrast: Share = 0.01

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        fits = {0, self.channels}
        require(
            (len(self.mean) in fits, "mean: one number per channel, or none"),
            (len(self.std) in fits, "std: one number per channel, or none"),
            (bool(self.views) or not self.view_codes, "view_codes: need views"),
        )
        return self


class PlainLanguage(Part):
    """How a text in another language of the same script, or of no words at all, is told.

    Such a text has hardly any of the commonest words of the model's language, and its longer words
    are made of many rare pieces of the tokenizer's vocabulary. It has to have both to be refused:
    shorthand and lists of procedures have few common words, drugs and organs many rare pieces. The
    vocabulary has to begin with its commonest pieces, as those of WordPiece and BPE do.

    Attributes:
        common_words: Words of the model's language, in small letters.
        min_common_share: Share of a text's words that are among them.
        max_bits_per_letter: Of its longer words: the logarithm (base 2) of the place of each piece
            in the vocabulary, summed, divided by the number of letters.
        min_words: A text with fewer longer words is not judged.
    """

    common_words: Annotated[tuple[Text, ...], Field(min_length=1)]
    min_common_share: Share
    max_bits_per_letter: PositiveFloat
    min_words: PositiveInt


class TextInput(Part):
    """How a text becomes tensors, and which texts the model was made for.

    The tensors are int64 of shape (n, length), `length` at most `max_tokens`, shorter texts padded.

    Attributes:
        label: The words a clinician knows it by, for example "Referral note".
        ids_name: Name of the graph's input of token ids.
        mask_name: Name of the graph's input that is 1 for a token and 0 for padding.
        tokenizer: File name of the tokenizer (`tokenizers` JSON), in the folder of the manifest.
        tokenizer_sha256: Digest of that file.
        max_tokens: What is longer is cut.
        truncation: Which side is cut off.
        languages: Primary language subtags that are accepted where a language is stated.
        scripts: Unicode scripts that letters may be of, for example `Latin`.
        min_letters: A text with fewer letters of those scripts is refused as empty.
        max_foreign_share: Largest share of letters of other scripts.
        max_unknown_share: Largest share of tokens that the vocabulary does not know.
        plain: How a text in another language of the same script is told; not at all without it.
        max_characters: A longer text is refused: it is not one note.
        content_types: What an attachment may be.
        sections: Codes of the sections of a Composition that are read; empty for all.
    """

    label: Text
    ids_name: Text
    mask_name: Text
    tokenizer: FileName
    tokenizer_sha256: Sha256
    max_tokens: Annotated[int, Field(ge=8, le=8192)]
    truncation: Truncation = "end"
    languages: Annotated[tuple[Language, ...], Field(min_length=1)]
    scripts: Annotated[tuple[Script, ...], Field(min_length=1)] = ("Latin",)
    min_letters: PositiveInt = 10
    max_foreign_share: Share = 0.2
    max_unknown_share: Share = 0.3
    plain: PlainLanguage | None = None
    max_characters: PositiveInt = 200_000
    content_types: Annotated[tuple[ContentType, ...], Field(min_length=1)] = (
        "text/plain",
        "text/html",
    )
    sections: tuple[CodeRef, ...] = ()


def _source_rules(each: Input) -> tuple[tuple[bool, str], ...]:
    observed = each.source == "observation"
    sexed = each.source == "patient-sex"
    return (
        (bool(each.codes) == observed, "codes: for source observation, and only there"),
        (observed or not each.panels, "panels: only for source observation"),
        (not sexed or bool(each.categories), "categories: source patient-sex needs them"),
    )


def _code_rules(each: Input) -> tuple[tuple[bool, str], ...]:
    known = {category.code for category in each.categories}
    named = set(each.intended_codes)
    meant = {category.value for category in each.categories if category.code in named}
    others = {category.value for category in each.categories if category.code not in named}
    return (
        (named <= known, "intended_codes: each must be a code of categories"),
        (not named or not meant & others, "intended_codes: a code left out has the same value"),
        (not named or each.missing == "refuse", "intended_codes: need missing refuse"),
    )


def _window_rules(each: Input) -> tuple[tuple[bool, str], ...]:
    observed = each.source == "observation"
    windowed = each.aggregation != "latest"
    too_short = (each.look_back_h or inf) < (each.max_age_h or 0)
    return (
        ((each.max_age_h is not None) == observed, "max_age_h: for source observation, only there"),
        (observed or not windowed, "aggregation: only for source observation"),
        (
            (each.look_back_h is not None) == windowed,
            "look_back_h: for aggregation mean, min and max, and only there",
        ),
        (not too_short, "look_back_h: must not be shorter than max_age_h"),
    )


def _missing_rules(each: Input) -> tuple[tuple[bool, str], ...]:
    imputed = each.missing == "impute"
    constant = each.impute_value
    own_mass = any(code.molar_mass_g_per_mol for code in each.codes)
    return (
        ((constant is not None) == imputed, "impute_value: for missing impute, and only there"),
        (bool(each.impute_reason) == imputed, "impute_reason: for missing impute, and only there"),
        (constant is None or each.is_plausible(constant), "impute_value: must be plausible"),
        (
            not own_mass or each.molar_mass_g_per_mol is not None,
            "molar_mass_g_per_mol: a code has its own, so the input needs one too",
        ),
    )
