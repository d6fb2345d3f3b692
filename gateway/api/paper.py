"""A4 sheets with a foot line, and what stands on them: headings, texts, cards, tables.

The fonts are those that every PDF reader has, which know Western letters only: what is written in
others shows as a question mark. The HTML has no such limit.
"""

from collections.abc import Sequence
from datetime import datetime

from fpdf import FPDF, FontFace
from fpdf.enums import TableBordersLayout, VAlign, XPos, YPos

FONT, MONO = "Helvetica", "Courier"
INK, BLUE, GREY, RED, GREEN, AMBER = (
    (27, 36, 48),
    (31, 78, 121),
    (81, 96, 111),
    (179, 38, 30),
    (46, 125, 79),
    (138, 97, 0),
)
PALE, LINE, YELLOW = (238, 243, 248), (221, 229, 236), (255, 246, 221)
MARGIN_MM, LINE_MM = 16, 5.2
#: Of a card: what it is about to its colour.
_TONES = {"bad": RED, "good": GREEN, "soon": AMBER}
# What the fonts lack, in letters that they have.
_INSTEAD = {
    0x2013: "-",
    0x2014: "-",
    0x2018: "'",
    0x2019: "'",
    0x201C: '"',
    0x201D: '"',
    0x2026: "...",
    0x2192: "->",
    0x2264: "<=",
    0x2265: ">=",
}

Colour = tuple[int, int, int]


class Paper(FPDF):
    """A document in the one style of all that is printed."""

    def __init__(self, title: str, foot: str, *, made_at: datetime) -> None:
        """Begin it.

        Args:
            title: What a reader's window shows.
            foot: What stands at the foot of each sheet.
            made_at: When it was made.
        """
        super().__init__(format="A4")
        self._foot = plain(foot)
        self.set_margins(MARGIN_MM, MARGIN_MM)
        self.set_auto_page_break(auto=True, margin=20)
        self.set_title(plain(title))
        self.set_lang("en")
        self.set_creation_date(made_at)
        self.add_page()
        self.set_fill_color(*BLUE)
        self.rect(0, 0, self.w, 4, style="F")
        self.set_y(MARGIN_MM)

    def footer(self) -> None:
        """Write the foot of a sheet."""
        self.set_y(-14)
        self.set_font(FONT, size=8)
        self.set_text_color(*GREY)
        self.cell(0, 5, self._foot)
        self.set_x(MARGIN_MM)
        self.cell(0, 5, f"{self.page_no()} / {{nb}}", align="R")

    def words(
        self,
        text: str,
        *,
        size: float = 10,
        style: str = "",
        colour: Colour = INK,
        line_mm: float = LINE_MM,
        font: str = FONT,
    ) -> None:
        """Write a text over the width of the sheet."""
        self.set_font(font, style, size)
        self.set_text_color(*colour)
        self.multi_cell(0, line_mm, plain(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def heading(self, title: str) -> None:
        """Begin a part; one at the foot of a sheet would stand alone."""
        if self.will_page_break(_LEAST_PART_MM):
            self.add_page()
        self.ln(4)
        self.words(title, size=13, style="B", colour=BLUE, line_mm=6.5)
        self.set_draw_color(*BLUE)
        self.line(MARGIN_MM, self.get_y(), MARGIN_MM + self.epw, self.get_y())
        self.ln(1.8)

    def cards(self, told: Sequence[tuple[str, str, str]]) -> None:
        """Draw numbers side by side.

        Args:
            told: Of each the number, what it means, and `bad`, `good`, `soon` or nothing.
        """
        gap, top = 3.0, self.get_y()
        width = (self.epw - gap * (len(told) - 1)) / len(told)
        self.set_font(FONT, size=8.5)
        height = 11.5 + max(self._height_of(meaning, width - 4) for _, meaning, _ in told)
        if self.will_page_break(height):
            self.add_page()
            top = self.get_y()
        for number, card in enumerate(told):
            self._card(card, MARGIN_MM + number * (width + gap), top, (width, height))
        self.set_xy(MARGIN_MM, top + height + 2)

    def _height_of(self, words: str, width: float) -> float:
        """Say how high the meaning of a card gets, in mm."""
        told = self.multi_cell(width, 4, plain(words), dry_run=True, output="HEIGHT", align="L")
        return float(told) if isinstance(told, (int, float)) else 4.0

    def _card(
        self, card: tuple[str, str, str], left: float, top: float, size: tuple[float, float]
    ) -> None:
        value, meaning, tone = card
        width, height = size
        self.set_draw_color(*_TONES.get(tone, LINE))
        self.set_fill_color(*PALE)
        self.rect(left, top, width, height, style="DF", round_corners=True, corner_radius=1.5)
        self.set_xy(left + 2, top + 2)
        self.set_text_color(*_TONES.get(tone, BLUE))
        self.set_font(FONT, "B", 15 if len(value) < _LONG_VALUE else 11)
        self.cell(width - 4, 7, plain(value))
        self.set_xy(left + 2, top + 9.5)
        self.set_text_color(*GREY)
        self.set_font(FONT, size=8.5)
        self.multi_cell(width - 4, 4, plain(meaning), align="L")

    def listing(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]
    ) -> None:
        """Draw a table; its head comes again on every sheet."""
        self.ln(1)
        self.set_font(FONT, size=8.5)
        self.set_text_color(*INK)
        self.set_draw_color(*LINE)
        self.set_fill_color(255)
        with self.table(
            col_widths=tuple(widths),
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            headings_style=FontFace(emphasis="BOLD", fill_color=PALE, color=INK),
            line_height=4.4,
            padding=1.2,
            text_align="LEFT",
            v_align=VAlign.T,
        ) as drawn:
            for row in (columns, *rows):
                line = drawn.row()
                for value in row:
                    line.cell(plain(value))

    def pair(self, name: str, value: str, *, style: str = "B", width_mm: float = 34) -> None:
        """Write a name and, beside it, what it is."""
        if self.will_page_break(3 * LINE_MM):
            self.add_page()
        self.set_font(FONT, style, 10)
        self.set_text_color(*(INK if style else GREY))
        self.cell(width_mm, LINE_MM, plain(name))
        self.set_font(FONT, size=10)
        self.set_text_color(*INK)
        self.multi_cell(
            self.epw - width_mm,
            LINE_MM,
            plain(value),
            align="L",
            new_x=XPos.LMARGIN,
            new_y=YPos.NEXT,
        )
        self.ln(1.2)


_LONG_VALUE = 14
#: What has to fit under a heading.
_LEAST_PART_MM = 42


def plain(text: str) -> str:
    """Write a text in the letters that the fonts have."""
    return text.translate(_INSTEAD).encode("latin-1", "replace").decode("latin-1")
