r"""Write the segments of a message, so that whoever reads them finds the same texts.

* What divides a message is escaped; a line break is `\.br\`.
* Control characters are left out: some of them would end the message, and FHIR takes none.
* A text of two quotation marks alone would say "no value": it is written by its bytes.
* What is empty at the end of a segment or a field is left out.

Source: HL7 v2.5.1 2.5 to 2.8; 2A for the data types.
"""

import re
from collections.abc import Sequence
from decimal import Decimal

from adapters.hl7v2.escapes import Separators
from adapters.hl7v2.message import NULL, readable

SEPARATORS = Separators()
_NULL_BY_BYTES = f"\\X{NULL.encode().hex()}\\"
_MOMENT = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(\.\d{1,4})?\d*(Z|[+-]\d\d:\d\d))?)?)?"
)


def text(said: str) -> str:
    """Write a text as a component."""
    plain = readable(said.replace("\r\n", "\n"))
    return _NULL_BY_BYTES if plain == NULL else SEPARATORS.escaped(plain)


def composite(*components: str) -> str:
    """Write texts as the components of one field."""
    return _joined(SEPARATORS.component, [text(each) for each in components])


def nested(*components: Sequence[str]) -> str:
    """Write texts as the subcomponents of the components of one field."""
    parts = [
        _joined(SEPARATORS.subcomponent, [text(each) for each in component])
        for component in components
    ]
    return _joined(SEPARATORS.component, parts)


def repeated(fields: Sequence[str]) -> str:
    """Put fields that are written already into one, as its repetitions."""
    return SEPARATORS.repetition.join(each for each in fields if each)


def segment(name: str, fields: dict[int, str]) -> str:
    """Write a segment.

    Args:
        name: `OBX` and so on.
        fields: By their number, each written already.
    """
    last = max((number for number, field in fields.items() if field), default=0)
    return SEPARATORS.field.join([name, *(fields.get(at, "") for at in range(1, last + 1))])


def number(value: float) -> str:
    """Write a number digit by digit: an NM knows no exponent."""
    return f"{Decimal(repr(value)):f}"


def moment(written: str) -> str:
    """Write a FHIR date, dateTime or instant; empty where it is none."""
    found = _MOMENT.fullmatch(written)
    if found is None:
        return ""
    *digits, zone = (part or "" for part in found.groups())
    return "".join(digits) + ("+0000" if zone == "Z" else zone.replace(":", ""))


def _joined(mark: str, parts: Sequence[str]) -> str:
    """Join parts without those that are empty at the end."""
    last = max((at for at, part in enumerate(parts, 1) if part), default=0)
    return mark.join(parts[:last])
