r"""Switches to another character set within a text: `\Cxxyy\` and `\Mxxyyzz\`.

The hexadecimal digits are those of an escape sequence of ISO 2022, without its ESC. From there to
the next switch, or to the end of the component, the bytes are in the set that it names. A message
is decoded as a whole before; what follows a switch is put back into bytes, which can be done where
it is plain ASCII (the Japanese sets) or the message is in a set of one byte.

Source: HL7 v2.5.1 2.7.3; v2.9 2.7.2; ISO/IEC 2022.
"""

import re
from collections.abc import Callable, Mapping

_ESC = b"\x1b"
_KATAKANA = re.compile(rb"[\x20-\x7e\xa1-\xdf]*")
_ONE_BYTE = "iso8859-"


def switched(name: str, text: str, codec: str) -> str | None:
    """Give a text that follows a switch as it is meant.

    Args:
        name: Of the switch: `C2D42`.
        text: As it was decoded by the set of the message.
        codec: The codec of that set.

    Returns:
        The text; None where the set is not known, or the text is not in it.
    """
    read = _SETS.get(name.upper())
    raw = _bytes_of(text, codec)
    if read is None or raw is None:
        return None
    try:
        return read(raw)
    except UnicodeDecodeError:
        return None


def _bytes_of(text: str, codec: str) -> bytes | None:
    if text.isascii():
        return text.encode("ascii")
    return text.encode(codec) if codec.startswith(_ONE_BYTE) else None


def _by(codec: str) -> Callable[[bytes], str]:
    return lambda raw: raw.decode(codec)


def _invoked(sequence: bytes, codec: str) -> Callable[[bytes], str]:
    """Read what would follow the escape sequence itself."""
    return lambda raw: (_ESC + sequence + raw).decode(codec)


def _katakana(raw: bytes) -> str:
    if not _KATAKANA.fullmatch(raw):
        raise UnicodeDecodeError("jis-x-0201", raw, 0, len(raw), "no katakana of one byte")
    return raw.decode("shift_jis")


#: By the name of the switch; 2842 goes back to plain characters.
_SETS: Mapping[str, Callable[[bytes], str]] = {
    "C2842": _by("ascii"),
    "C284A": _invoked(b"(J", "iso2022_jp"),
    "C2949": _katakana,
    "C2D41": _by("iso8859-1"),
    "C2D42": _by("iso8859-2"),
    "C2D43": _by("iso8859-3"),
    "C2D44": _by("iso8859-4"),
    "C2D46": _by("iso8859-7"),
    "C2D47": _by("iso8859-6"),
    "C2D48": _by("iso8859-8"),
    "C2D4C": _by("iso8859-5"),
    "C2D4D": _by("iso8859-9"),
    "M2442": _invoked(b"$B", "iso2022_jp"),
    "M242844": _invoked(b"$(D", "iso2022_jp_1"),
}
