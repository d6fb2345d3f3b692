"""The text of an HTML or XHTML fragment, in a time that grows with its length and no faster.

Not `html.parser`: with unclosed comments it takes a minute for 200 kB, and more than that for
twice as much (CPython issue 135462), and what is read here is chosen by a sender. Nothing is
interpreted: tags are dropped, what is no text of a reader (scripts, styles, head, comments) with
them; block tags are line breaks, table cells are apart; references to characters are resolved.

Source: HTML Living Standard section 13.2.5 (tokenization), as far as it decides where a tag ends.
"""

import re
from collections.abc import Iterator
from html import unescape

_NAME = re.compile(r"/?([A-Za-z][A-Za-z0-9]*)")
_UNREAD = {
    name: re.compile(f"</{name}", re.IGNORECASE)
    for name in ("script", "style", "head", "title", "template")
}
_BREAKS = frozenset(
    {"address", "article", "blockquote", "br", "caption", "dd", "div", "dl", "dt", "h1", "h2", "h3"}
    | {"h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "section", "table", "tr", "ul"}
)
_CELLS = frozenset({"td", "th"})
# No character has a number of so many digits, and Python turns none of thousands into one.
_ENDLESS = re.compile(r"&#(?:[xX][0-9a-fA-F]{9,}|[0-9]{9,});?")
_BLANKS = re.compile(r"[^\S\n]+")
_LINES = re.compile(r"\s*\n\s*")


def text_of_markup(markup: str) -> str:
    """Give the text that a reader would see, one line for each block.

    Args:
        markup: HTML or XHTML; anything is read.
    """
    plain = unescape(_ENDLESS.sub("\ufffd", "".join(_pieces(markup))))
    return _LINES.sub("\n", _BLANKS.sub(" ", plain)).strip()


def _pieces(markup: str) -> Iterator[str]:
    """Give what stands between the tags, and for a tag what it parts by."""
    place = 0
    while (opening := markup.find("<", place)) >= 0:
        yield markup[place:opening].replace("\n", " ")
        name = _tag_name(markup, opening)
        if markup.startswith("<!--", opening):
            place = _after(markup, "-->", opening + 4)
        elif not name and markup[opening + 1 : opening + 2] not in {"!", "?", "/"}:
            yield "<"  # "temperature <38": no tag
            place = opening + 1
        elif name in _UNREAD:
            found = _UNREAD[name].search(markup, opening)
            place = _after(markup, ">", found.end() if found else len(markup))
        else:
            yield "\n" if name in _BREAKS else " " if name in _CELLS else ""
            place = _after(markup, ">", opening)
    yield markup[place:].replace("\n", " ")


def _tag_name(markup: str, opening: int) -> str:
    found = _NAME.match(markup, opening + 1)
    return found[1].lower() if found else ""


def _after(text: str, mark: str, place: int) -> int:
    """Give where something ends; the end of the text where it never does."""
    found = text.find(mark, place)
    return len(text) if found < 0 else found + len(mark)
