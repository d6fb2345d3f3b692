"""The words a manifest is written in: names, ranges, codes, and how a rule is insisted on.

Source: units are UCUM codes (https://ucum.org/ucum); codes are FHIR R4 `Coding` pairs.
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Prose = Annotated[Text, AfterValidator(lambda text: " ".join(text.split()))]
"""Sentences for people: a line break of the TOML file is a space."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
FILE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
FileName = Annotated[str, StringConstraints(pattern=FILE_NAME.pattern)]


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] >= bounds[1]:
        raise ValueError("the low bound must be below the high bound")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
"""A closed interval `[low, high]`."""


class Part(BaseModel):
    """A table of the manifest; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CodeRef(Part):
    """A code in its system: what FHIR calls a Coding.

    Attributes:
        system: Canonical URI of the code system, for example `http://loinc.org`.
        code: The code.
        display: The words people read; never matched on.
    """

    system: Text
    code: Text
    display: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """System and code, the pair that is compared."""
        return (self.system, self.code)


def require(*rules: tuple[bool, str]) -> None:
    """Insist that rules hold.

    Raises:
        ValueError: Some do not; every one that is broken is named.
    """
    broken = [message for holds, message in rules if not holds]
    if broken:
        raise ValueError("; ".join(broken))


def repeated(values: Sequence[Hashable]) -> list[Hashable]:
    """Give the values that stand more than once."""
    return [value for value, count in Counter(values).items() if count > 1]
