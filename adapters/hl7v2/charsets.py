"""Which character set a message is in: MSH-18, by HL7 table 0211.

UTF-16 and UTF-32 are rejected: MLLP is for sets whose bytes can't be taken for those that begin and
end a block, and in these any byte may stand. Where one of the Japanese sets is named, the text
switches by the escape sequences of ISO 2022.

Source: HL7 v2.9 2.14.9.18; table 0211.
"""

from adapters.hl7v2.problems import Code, Hl7Problem, Place, WideCharacters

_PLACE = Place("MSH", 1, 18)

#: Name in table 0211, and as senders write it otherwise, to Python's codec.
CODECS = {
    "ASCII": "ascii",
    "ISO IR6": "ascii",
    **{f"8859/{number}": f"iso8859-{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UNICODE": "utf-8",
    "GB 18030-2000": "gb18030",
    "BIG-5": "big5",
    "KS X 1001": "euc_kr",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
}
_SWITCHING = ("ISO IR159", "ISO IR87")
_BOM = b"\xef\xbb\xbf"
#: How a message begins whose characters have several bytes each: a mark, or "M" beside a zero.
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"M\x00", b"\x00M", b"\x00\x00")
_WIDE_NAMES = ("UTF-16", "UTF-32", "UTF16", "UTF32")
_NOT_OVER_MLLP = (
    "UTF-16 and UTF-32 can't be sent by MLLP: their bytes may be those that end a message. "
    "Send UNICODE UTF-8."
)


def decoded(content: bytes, default: str) -> tuple[str, str]:
    """Decode a message by the character set that it names; give the codec too.

    Args:
        content: The message as it came.
        default: Name of the set where MSH-18 is empty.

    Raises:
        Hl7Problem: The set is not known, or the message is not in it.
    """
    content = content.removeprefix(_BOM)
    if content.startswith(_WIDE):
        raise WideCharacters(Code.TABLE_VALUE, _PLACE, _NOT_OVER_MLLP)
    codec = _codec(_named(content), default)
    try:
        return content.decode(codec), codec
    except UnicodeDecodeError as error:
        says = "The message is not in the character set that MSH-18 names, or in the site's."
        raise Hl7Problem(Code.DATA_TYPE, _PLACE, says) from error


def _named(content: bytes) -> list[str]:
    """Give the names of MSH-18: what they are written in is ASCII whatever they say."""
    header = content.splitlines()[0] if content.strip() else b""
    fields = header.decode("latin-1").split(header[3:4].decode("latin-1") or "|")
    written = fields[17] if len(fields) > 17 else ""  # noqa: PLR2004 - MSH-1 is the separator
    repetition = fields[1][1:2] if len(fields) > 1 else ""
    return [name.strip() for name in (written.split(repetition) if repetition else [written])]


def _codec(names: list[str], default: str) -> str:
    if any(wide in name.upper() for name in names for wide in _WIDE_NAMES):
        raise WideCharacters(Code.TABLE_VALUE, _PLACE, _NOT_OVER_MLLP)
    unknown = [name for name in names if name and name.upper() not in CODECS]
    if unknown:
        says = f"The character set in MSH-18 is not known; known: {', '.join(CODECS)}."
        raise Hl7Problem(Code.TABLE_VALUE, _PLACE, says)
    switching = [name for name in _SWITCHING if name in names]
    return CODECS[(switching or [name for name in names if name] or [default])[0].upper()]
