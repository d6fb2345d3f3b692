"""Which code that a model wants a laboratory's own code may stand for.

What is offered is only a hint for a person who knows the laboratory: the likeness of names, and
whether the unit can be converted at all. Only codes that the site's models read are offered.

`adapters/lab_names.csv` says what laboratories write for a name.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from importlib.resources import files

from models.manifest import Input, InputCode, Manifest
from workers.units import Converter, Substance, UnitNotConvertible, UnitUnknown

LOINC = "http://loinc.org"

_WORD = re.compile(r"[a-z][a-z0-9]*")
#: Words of LOINC's names that do not tell one thing from another.
_EMPTY = frozenset(
    (
        *("mass", "volume", "moles", "substance", "concentration", "ratio", "units", "level"),
        *("serum", "plasma", "blood", "arterial", "cord", "in", "of", "or", "by", "the", "s"),
        *("test", "total"),
    )
)
_ALIKE = 0.8
#: Below this nothing is offered.
_LEAST = 0.3
_UNIT_COUNTS = 0.2
_OTHER_QUANTITY = 0.1


@dataclass(frozen=True)
class Unmapped:
    """A code that arrived and means nothing here.

    Attributes:
        system: URI of its code system; empty where there is none.
        name: The words that came with it.
        units: Units of its values, as they were written.
    """

    system: str
    code: str
    name: str
    units: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Candidate:
    """A code that a model reads.

    Attributes:
        likeness: From 0 to 1.
    """

    loinc: str
    label: str
    model: str
    likeness: float


def candidates(
    unmapped: Unmapped, manifests: Sequence[Manifest], *, most: int = 3
) -> tuple[Candidate, ...]:
    """Give the codes that a local code may stand for, the likeliest first.

    Args:
        unmapped: The local code.
        manifests: Of the models that the site uses.
        most: How many at most.
    """
    found: dict[str, Candidate] = {}
    for manifest, each, code in _wanted(manifests):
        likeness = _likeness(unmapped, each, code)
        known = found.get(code.code)
        if likeness >= _LEAST and (known is None or known.likeness < likeness):
            found[code.code] = Candidate(code.code, each.label, manifest.name, likeness)
    # Of equal ones the code that the manifest names first: it is the usual one.
    ranked = sorted(found.values(), key=lambda each: -each.likeness)
    return tuple(ranked[:most])


def _wanted(manifests: Sequence[Manifest]) -> Iterable[tuple[Manifest, Input, InputCode]]:
    for manifest in manifests:
        for each in manifest.inputs:
            for code in each.codes:
                if code.system == LOINC:
                    yield manifest, each, code


def _likeness(unmapped: Unmapped, wanted: Input, code: InputCode) -> float:
    written = _words(f"{unmapped.code} {unmapped.name}")
    # Label and display together: "urea" is not yet urea nitrogen.
    label, display = (_shared(written, _words(text)) for text in (wanted.label, code.display))
    names = (label + display) / 2 if code.display else label
    if not names:
        return 0.0
    fits = [fit for unit in unmapped.units if (fit := _fits(unit, wanted, code)) is not None]
    if fits and not any(fits):
        return 0.0
    less = _OTHER_QUANTITY if _is_other_quantity(unmapped.units, code.display) else 0.0
    return round(max(0.0, names * (1 - _UNIT_COUNTS) + _UNIT_COUNTS * bool(fits) - less), 2)


def _is_other_quantity(units: Sequence[str], display: str) -> bool:
    """Say whether a unit is one of mass where a code is of moles, or the other way round."""
    has_moles = any("mol" in unit for unit in units)
    return bool(units) and (
        (has_moles and "[Mass/" in display) or (not has_moles and "[Moles/" in display)
    )


def _fits(unit: str, wanted: Input, code: InputCode) -> bool | None:
    """Say whether a unit can be converted into the model's; None where it is not known."""
    mass = wanted.molar_mass_g_per_mol
    substance = Substance(code.molar_mass_g_per_mol or mass, mass, wanted.valence)
    try:
        Converter(wanted.unit, substance).conversion({"unit": unit})
    except UnitUnknown:
        return None
    except UnitNotConvertible:
        return False
    return True


def _shared(written: frozenset[str], wanted: frozenset[str]) -> float:
    """Give how much two names have in common: of the words wanted, and of those written."""
    if not written or not wanted:
        return 0.0
    met = sum(any(_alike(word, other) for other in written) for word in wanted)
    told = sum(any(_alike(word, other) for other in wanted) for word in written)
    return (met / len(wanted) + min(1.0, told / len(wanted))) / 2


def _alike(word: str, other: str) -> bool:
    return word == other or SequenceMatcher(None, word, other).ratio() >= _ALIKE


@cache
def _words(text: str) -> frozenset[str]:
    found = [word for word in _WORD.findall(text.lower()) if word not in _EMPTY]
    meant = (_names().get(word, word) for word in found)
    return frozenset(word for name in meant for word in name.split() if word not in _EMPTY)


@cache
def _names() -> dict[str, str]:
    text = (files("adapters") / "lab_names.csv").read_text("utf-8")
    return {row["written"]: row["means"] for row in csv.DictReader(io.StringIO(text))}
