"""Which unit a Quantity is in, and how it becomes the unit a model was trained in.

Rules:

* `code` in the UCUM system is believed; free text is believed only if it is one of the spellings
  in `SPELLINGS`; a code and a text that contradict each other are believed neither.
* A dimension is never guessed: mass and moles convert only with a molar mass, moles and
  equivalents only with a valence, both declared by the model's maker.
* pint and the UCUM grammar take half a second and some 35 MB to load, so they are loaded when the
  first real conversion is asked for; every conversion is worked out once.

Source: UCUM (https://ucum.org/ucum); FHIR R4 `Quantity`.
"""

import threading
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from math import isclose
from typing import Any

from gateway.core.errors import ProcessingError

UCUM = "http://unitsofmeasure.org"

SPELLINGS: Mapping[str, str] = {
    "mg/dl": "mg/dL",
    "mg%": "mg/dL",
    "mgs/dl": "mg/dL",
    "mg/100ml": "mg/dL",
    "g/dl": "g/dL",
    "gm/dl": "g/dL",
    "gms/dl": "g/dL",
    "g%": "g/dL",
    "gm%": "g/dL",
    "gms%": "g/dL",
    "g/l": "g/L",
    "mg/l": "mg/L",
    "mmol/l": "mmol/L",
    "umol/l": "umol/L",
    "micromol/l": "umol/L",
    "meq/l": "meq/L",
    "%": "%",
    "l/l": "L/L",
    "mmhg": "mm[Hg]",
    "mmofhg": "mm[Hg]",
    "mm[hg]": "mm[Hg]",
    "/min": "/min",
    "/minute": "/min",
    "perminute": "/min",
    "bpm": "/min",
    "beats/min": "/min",
    "beats/minute": "/min",
    "breaths/min": "/min",
    "breaths/minute": "/min",
    "l/min": "L/min",
    "lpm": "L/min",
    "cel": "Cel",
    "c": "Cel",
    "\u00b0c": "Cel",
    "degc": "Cel",
    "celsius": "Cel",
    "f": "[degF]",
    "\u00b0f": "[degF]",
    "degf": "[degF]",
    "fahrenheit": "[degF]",
    "/ul": "/uL",
    "/cumm": "/uL",
    "/cmm": "/uL",
    "/mm3": "/uL",
    "cells/ul": "/uL",
    "cells/cumm": "/uL",
    "cells/cmm": "/uL",
    "cells/mm3": "/uL",
    "10^3/ul": "10*3/uL",
    "x10^3/ul": "10*3/uL",
    "10*3/ul": "10*3/uL",
    "10^9/l": "10*9/L",
    "x10^9/l": "10*9/L",
    "10*9/l": "10*9/L",
    "10^6/ul": "10*6/uL",
    "x10^6/ul": "10*6/uL",
    "10*6/ul": "10*6/uL",
    "million/ul": "10*6/uL",
    "million/cumm": "10*6/uL",
    "millions/cumm": "10*6/uL",
    "millions/cmm": "10*6/uL",
    "mill/cumm": "10*6/uL",
    "10^12/l": "10*12/L",
    "x10^12/l": "10*12/L",
    "10*12/l": "10*12/L",
}
"""How laboratories write units when they don't use UCUM, in lower case without blanks."""

_CANONICAL = frozenset(SPELLINGS.values())
_AMOUNT = "[substance]"
_MOST_CHARACTERS = 200
_MOST_KNOWN = 256
_one_at_a_time = threading.Lock()


class UnitUnknown(ProcessingError):
    """The unit of a value is absent, not UCUM, or contradicts itself; send a UCUM code."""


class UnitNotConvertible(ProcessingError):
    """There is no conversion from the unit of a value to the unit the model needs."""


@dataclass(frozen=True)
class Substance:
    """What chemistry adds to a conversion.

    Attributes:
        measured_g_per_mol: Molar mass of what was measured.
        wanted_g_per_mol: Molar mass of what the model wants.
        valence: Charge of the ion.
    """

    measured_g_per_mol: float | None = None
    wanted_g_per_mol: float | None = None
    valence: int | None = None


NO_SUBSTANCE = Substance()


@dataclass(frozen=True)
class Conversion:
    """value in the wanted unit = value * scale + offset."""

    scale: float
    offset: float = 0.0

    def __call__(self, value: float) -> float:
        """The value in the wanted unit."""
        return value * self.scale + self.offset


_Said = tuple[str, str, str]
_Found = Conversion | type[UnitUnknown | UnitNotConvertible]


def unit_of(quantity: Mapping[str, Any], substance: Substance = NO_SUBSTANCE) -> str:
    """The UCUM code of a FHIR Quantity.

    Args:
        quantity: The Quantity.
        substance: What was measured, so that mEq/L as text beside mmol/L as code is understood.

    Raises:
        UnitUnknown: There is none, or code and text contradict each other.
    """
    text, code = _spelled(quantity.get("unit")), quantity.get("code")
    if not isinstance(code, str) or not code:
        return _known(text)
    if quantity.get("system") != UCUM:
        return _known(_spelled(code) or text)
    code = _spelled(code) or code
    if text and text != code and not _agree(code, text, substance):
        raise UnitUnknown
    return code


class Converter:
    """What turns Quantities of one substance into one unit. Threads may share it.

    How each spelling of a unit converts is worked out once, failures too: to find out that a unit
    is none takes milliseconds.
    """

    def __init__(self, target: str, substance: Substance = NO_SUBSTANCE) -> None:
        self._target = target
        self._substance = substance
        self._known: dict[_Said, _Found] = {}

    def conversion(self, quantity: Mapping[str, Any]) -> Conversion:
        """How the value of a FHIR Quantity becomes a value in the unit that is wanted.

        Raises:
            UnitUnknown: The Quantity has no unit, one that is not UCUM, or two that contradict.
            UnitNotConvertible: There is no way from its unit to the one wanted.
        """
        said = (
            _text(quantity.get("unit")),
            _text(quantity.get("system")),
            _text(quantity.get("code")),
        )
        found = self._known.get(said) or self._find(said)
        if isinstance(found, Conversion):
            return found
        raise found

    def _find(self, said: _Said) -> _Found:
        unit, system, code = said
        found: _Found
        try:
            source = unit_of({"unit": unit, "system": system, "code": code}, self._substance)
            found = conversion(source, self._target, self._substance)
        except (UnitUnknown, UnitNotConvertible) as error:
            found = type(error)
        # What a sender makes up must not fill the memory.
        if len(self._known) < _MOST_KNOWN and sum(map(len, said)) <= _MOST_CHARACTERS:
            self._known[said] = found
        return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


@lru_cache(maxsize=1024)
def conversion(source: str, target: str, substance: Substance = NO_SUBSTANCE) -> Conversion:
    """How a value in one UCUM unit becomes a value in another.

    Args:
        source: UCUM code of the value.
        target: UCUM code that is wanted.
        substance: Molar masses and valence, where the two differ in dimension or in analyte.

    Raises:
        UnitUnknown: One of them is not a UCUM code.
        UnitNotConvertible: There is no way from one to the other.
    """
    if source == target and substance.measured_g_per_mol == substance.wanted_g_per_mol:
        return Conversion(1.0)
    from pint.errors import PintError  # noqa: PLC0415 - a quarter of a second to load

    with _one_at_a_time:
        start, end = _parsed(source), _parsed(target)
        try:
            return _affine(_as_wanted(start, end, substance), end)
        except PintError as error:
            raise UnitNotConvertible from error


def _spelled(text: object) -> str | None:
    if not isinstance(text, str):
        return None
    if text in _CANONICAL:
        return text
    plain = unicodedata.normalize("NFKC", text).replace("\u03bc", "u")
    return SPELLINGS.get("".join(plain.split()).lower())


def _known(code: str | None) -> str:
    if code is None:
        raise UnitUnknown
    return code


def _agree(code: str, text: str, substance: Substance) -> bool:
    try:
        there = conversion(text, code, Substance(valence=substance.valence))
    except (UnitNotConvertible, UnitUnknown):
        return False
    return there.offset == 0 and isclose(there.scale, 1.0, rel_tol=1e-9)


@cache
def _ucum() -> tuple[Any, Any]:
    """UCUM's grammar, and what turns its parse trees into quantities of pint."""
    from ucumvert import (  # noqa: PLC0415 - half a second to load: only when needed
        UcumToPintTransformer,
        get_ucum_parser,
    )

    return get_ucum_parser(), UcumToPintTransformer()


def _parsed(code: str) -> Any:  # noqa: ANN401 - neither pint nor ucumvert is typed
    from lark.exceptions import LarkError  # noqa: PLC0415
    from pint.errors import PintError  # noqa: PLC0415
    from ucumvert import parse_ucum  # noqa: PLC0415

    grammar, transformer = _ucum()
    try:
        parsed = transformer.transform(parse_ucum(code, grammar))
    except (LarkError, PintError) as error:
        raise UnitUnknown from error
    is_quantity = hasattr(parsed, "dimensionality")
    return parsed if is_quantity else transformer.ureg.Quantity(1.0)  # an annotation alone is 1


def _as_wanted(start: Any, end: Any, substance: Substance) -> Any:  # noqa: ANN401
    """The start unit, multiplied by what only chemistry knows: charge and molar mass."""
    if _counts_charge(start) != _counts_charge(end):
        valence = _declared(substance.valence)
        start = start / valence if _counts_charge(start) else start * valence
    measured, wanted = substance.measured_g_per_mol, substance.wanted_g_per_mol
    match _AMOUNT in start.dimensionality, _AMOUNT in end.dimensionality:
        case True, False:
            return start * (_declared(wanted) * _parsed("g/mol"))
        case False, True:
            return start / (_declared(measured) * _parsed("g/mol"))
        case False, False if measured != wanted:
            return start * (_declared(wanted) / _declared(measured))
    return start


def _counts_charge(unit: Any) -> bool:  # noqa: ANN401
    return "equivalent" in str(unit.units)


def _declared(constant: float | None) -> float:
    """A constant that the model's maker has to declare; none is ever assumed."""
    if constant is None:
        raise UnitNotConvertible
    return constant


def _affine(start: Any, end: Any) -> Conversion:  # noqa: ANN401
    """Scale and offset, read off at 0 and 1: temperatures have an offset."""
    quantity = _ucum()[1].ureg.Quantity
    at_0, at_1 = (
        float(quantity(amount * start.magnitude, start.units).to(end.units).magnitude)
        for amount in (0.0, 1.0)
    )
    return Conversion((at_1 - at_0) / float(end.magnitude), at_0 / float(end.magnitude))
