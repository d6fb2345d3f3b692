"""A page of `gateway.core.page` as PDF: read again into its blocks, and these put on paper.

So what is printed says what the page says, whatever paper it is. Only what `gateway.core.page` can
write is known here; of a drawing, its rectangles and its labels.
"""

from dataclasses import dataclass, field
from datetime import datetime
from html.parser import HTMLParser

from gateway.api.paper import AMBER, BLUE, FONT, GREY, INK, LINE_MM, MARGIN_MM, MONO, Paper, plain

_TEXTS = frozenset({"h1", "h2", "h3", "p", "li", "dt", "dd", "th", "td", "b", "text"})
# A time with its seconds, and the beginning of a hash, stay on one line.
_KEPT, _LONGEST = 24, 60
_LEAST_WIDTH = 6


@dataclass
class _Block:
    """One piece of a page.

    Attributes:
        kind: Name of the element.
        look: Its class.
        rows: Of `table` the head and the rows, of `dl` the pairs, of `cards` value, meaning, look.
        bars: Of a drawing the rectangles: x, y, width, height in its own units.
        labels: Of a drawing the texts: x, y, where the text is held, and the text.
        size: Of a drawing, in its own units.
    """

    kind: str
    look: str = ""
    text: str = ""
    rows: list[list[str]] = field(default_factory=list)
    bars: list[tuple[float, ...]] = field(default_factory=list)
    labels: list[list[str]] = field(default_factory=list)
    size: tuple[float, float] = (0, 0)


class _Reader(HTMLParser):
    """Reads a page into blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[_Block] = []
        self._text = self._card = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin an element."""
        given = {name: value or "" for name, value in attrs}
        look = given.get("class", "")
        self._begin(tag, look)
        if tag == "svg":
            _, _, width, height = given["viewbox"].split()
            self.blocks.append(_Block("svg", size=(float(width), float(height))))
        elif tag == "rect":
            sides = (float(given[name]) for name in ("x", "y", "width", "height"))
            self.blocks[-1].bars.append(tuple(sides))
        elif tag == "text":
            anchor = given.get("text-anchor", "start")
            self.blocks[-1].labels.append([given["x"], given["y"], anchor, ""])
        if tag in _TEXTS:
            self._text = ""

    def _begin(self, tag: str, look: str) -> None:
        """Begin what holds others."""
        if tag in ("table", "dl") or look == "cards":
            self.blocks.append(_Block("cards" if look == "cards" else tag))
        elif tag in ("tr", "dt") or look.startswith("card"):
            self.blocks[-1].rows.append([])
            self._text, self._card = "", look.removeprefix("card").strip()
        elif tag in ("h1", "h2", "h3", "p", "li"):
            self.blocks.append(_Block(tag, look))

    def handle_data(self, data: str) -> None:
        """Take text."""
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        """End an element."""
        words = " ".join(self._text.split())
        last = self.blocks[-1] if self.blocks else None
        if last is None:
            return
        if tag in ("th", "td", "dt", "dd"):
            last.rows[-1].append(words)
        elif last.kind == "cards" and tag in ("b", "div") and len(last.rows[-1]) < len(_CARD):
            last.rows[-1] += [words] if tag == "b" else [words, self._card]
        elif tag == "text":
            last.labels[-1][-1] = words
        elif tag == last.kind:
            last.text = words
        if tag in _TEXTS:
            self._text = ""


_CARD = ("value", "meaning", "look")
_TITLES = {"h1": (20, 9.0), "h3": (11, 6.0)}
_BAR_HEIGHT_MM = 24


def as_pdf(page: str, *, made_at: datetime, foot: str) -> bytes:
    """Give a page as PDF.

    Args:
        page: HTML that `gateway.core.page.page` made.
        made_at: When it was made.
        foot: What stands at the foot of each sheet.
    """
    reader = _Reader()
    reader.feed(page[page.index("<body>") :])
    title = next((each.text for each in reader.blocks if each.kind == "h1"), foot)
    paper = Paper(title, foot, made_at=made_at)
    for block in reader.blocks:
        _WRITE.get(block.kind, _words)(paper, block)
    return bytes(paper.output())


def _words(paper: Paper, block: _Block) -> None:
    look = block.look
    colour = {"lead": GREY, "foot": GREY, "raw": GREY, "ask": AMBER}.get(look, INK)
    size = {"foot": 8.5, "raw": 7.5}.get(look, 10)
    paper.words(block.text, size=size, colour=colour, font=MONO if look == "raw" else FONT)
    paper.ln(1)


def _title(paper: Paper, block: _Block) -> None:
    size, line_mm = _TITLES[block.kind]
    if block.kind == "h3" and paper.will_page_break(4 * LINE_MM):
        paper.add_page()
    paper.words(block.text, size=size, style="B", colour=BLUE, line_mm=line_mm)


def _item(paper: Paper, block: _Block) -> None:
    paper.set_x(MARGIN_MM + 2)
    paper.words(f"-  {block.text}")


def _facts(paper: Paper, block: _Block) -> None:
    pairs = [each for row in block.rows for each in row]
    for name, value in zip(pairs[::2], pairs[1::2], strict=True):
        paper.pair(name, value, style="", width_mm=44)


def _cards(paper: Paper, block: _Block) -> None:
    paper.cards([(row[0], row[1], row[2]) for row in block.rows])


def _table(paper: Paper, block: _Block) -> None:
    head, *rows = block.rows
    if not rows:
        return
    widths = [
        max(_LEAST_WIDTH, *(_breadth(row[column]) for row in block.rows))
        for column in range(len(head))
    ]
    paper.listing(head, rows, widths)


def _breadth(cell: str) -> int:
    """Say how broad a cell wants to be: its words may be folded, a single one should not be."""
    # Digits are broader than most letters.
    longest = max(
        (len(word) + sum(map(str.isdigit, word)) // 3 for word in cell.split()), default=0
    )
    return max(min(longest, _LONGEST), min(len(cell), _LONGEST) // 2, min(len(cell), _KEPT))


def _drawing(paper: Paper, block: _Block) -> None:
    if paper.will_page_break(_BAR_HEIGHT_MM + LINE_MM):
        paper.add_page()
    width, height = block.size
    top, across, down = paper.get_y(), paper.epw / width, _BAR_HEIGHT_MM / height
    paper.set_fill_color(*BLUE)
    for x, y, wide, high in block.bars:
        if high:
            place = (MARGIN_MM + x * across, top + y * down)
            paper.rect(*place, wide * across, high * down, style="F")
    paper.set_font(FONT, size=7.5)
    paper.set_text_color(*GREY)
    for left, base, anchor, text in block.labels:
        words = plain(text)
        back = {"middle": 0.5, "end": 1.0}.get(anchor, 0.0) * paper.get_string_width(words)
        paper.text(MARGIN_MM + float(left) * across - back, top + float(base) * down, words)
    paper.set_xy(MARGIN_MM, top + _BAR_HEIGHT_MM + 2)


def _part(paper: Paper, block: _Block) -> None:
    paper.heading(block.text)


_WRITE = {
    "h1": _title,
    "h2": _part,
    "h3": _title,
    "li": _item,
    "dl": _facts,
    "cards": _cards,
    "table": _table,
    "svg": _drawing,
}
