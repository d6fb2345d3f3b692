"""A patient's report as PDF, for printing and for handing out.

The fonts are those that every PDF reader has, which know Western letters only: what is written in
others shows as a question mark. The HTML has no such limit.
"""

from collections.abc import Sequence

from fpdf import FPDF, FontFace
from fpdf.enums import TableBordersLayout, VAlign, XPos, YPos

from gateway.core.patient_report import (
    TITLE,
    PatientReport,
    Sheet,
    advice,
    head,
    introduction,
    numbers,
    sheets,
)

_FONT = "Helvetica"
_INK, _BLUE, _GREY = (27, 36, 48), (31, 78, 121), (81, 96, 111)
_PALE, _LINE = (238, 243, 248), (221, 229, 236)
_MARGIN_MM, _LINE_MM = 16, 5.2
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


class _Page(FPDF):
    """A4 sheets with a foot line."""

    def __init__(self, foot: str) -> None:
        super().__init__(format="A4")
        self._foot = foot
        self.set_margins(_MARGIN_MM, _MARGIN_MM)
        self.set_auto_page_break(auto=True, margin=20)

    def footer(self) -> None:
        """Write the foot of a sheet."""
        self.set_y(-14)
        self.set_font(_FONT, size=8)
        self.set_text_color(*_GREY)
        self.cell(0, 5, self._foot)
        self.set_x(_MARGIN_MM)
        self.cell(0, 5, f"{self.page_no()} / {{nb}}", align="R")


def as_pdf(report: PatientReport) -> bytes:
    """Give the report as PDF."""
    page = _Page(_plain(head(report)))
    page.set_title(TITLE)
    page.set_lang("en")
    page.set_creation_date(report.made_at)
    page.add_page()
    _title(page, report)
    _cards(page, numbers(report))
    for sheet in sheets(report):
        _sheet(page, sheet)
    _advice(page, advice(report))
    _text(page, "The making of this report is itself on record.", size=8.5, colour=_GREY)
    return bytes(page.output())


def _title(page: FPDF, report: PatientReport) -> None:
    page.set_fill_color(*_BLUE)
    page.rect(0, 0, page.w, 4, style="F")
    page.set_y(_MARGIN_MM)
    _text(page, TITLE, size=20, style="B", colour=_BLUE, line_mm=9)
    _text(page, head(report), size=9.5, colour=_GREY)
    page.ln(2)
    _text(page, introduction(report), size=10)
    page.ln(3)


def _cards(page: FPDF, told: Sequence[tuple[str, str]]) -> None:
    """Draw the numbers side by side."""
    gap, height = 3.0, 17.0
    width = (page.epw - gap * (len(told) - 1)) / len(told)
    top = page.get_y()
    page.set_draw_color(*_LINE)
    page.set_fill_color(*_PALE)
    for number, (value, meaning) in enumerate(told):
        left = _MARGIN_MM + number * (width + gap)
        page.rect(left, top, width, height, style="DF", round_corners=True, corner_radius=1.5)
        page.set_xy(left + 2, top + 2)
        page.set_text_color(*_BLUE)
        page.set_font(_FONT, "B", 15)
        page.cell(width - 4, 7, _plain(value))
        page.set_xy(left + 2, top + 9.5)
        page.set_text_color(*_GREY)
        page.set_font(_FONT, size=8.5)
        page.cell(width - 4, 5, _plain(meaning))
    page.set_xy(_MARGIN_MM, top + height + 2)


def _sheet(page: FPDF, sheet: Sheet) -> None:
    _heading(page, sheet.title)
    if not sheet.rows:
        _text(page, sheet.otherwise, size=10)
        return
    _text(page, sheet.about, size=10)
    page.ln(1)
    page.set_font(_FONT, size=8.5)
    page.set_text_color(*_INK)
    page.set_draw_color(*_LINE)
    page.set_fill_color(255)
    with page.table(
        col_widths=sheet.widths,
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        headings_style=FontFace(emphasis="BOLD", fill_color=_PALE, color=_INK),
        line_height=4.4,
        padding=1.2,
        text_align="LEFT",
        v_align=VAlign.T,
    ) as listing:
        for row in (sheet.columns, *sheet.rows):
            line = listing.row()
            for value in row:
                line.cell(_plain(value))


def _advice(page: FPDF, told: Sequence[tuple[str, str]]) -> None:
    _heading(page, "What you can do")
    for name, how in told:
        if page.will_page_break(3 * _LINE_MM):
            page.add_page()
        page.set_font(_FONT, "B", 10)
        page.set_text_color(*_INK)
        page.cell(34, _LINE_MM, _plain(name))
        page.set_font(_FONT, size=10)
        page.multi_cell(
            page.epw - 34, _LINE_MM, _plain(how), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT
        )
        page.ln(1.2)
    page.ln(3)


def _heading(page: FPDF, title: str) -> None:
    # A heading at the foot of a sheet would stand alone.
    if page.will_page_break(30):
        page.add_page()
    page.ln(4)
    _text(page, title, size=13, style="B", colour=_BLUE, line_mm=6.5)
    page.set_draw_color(*_BLUE)
    page.line(_MARGIN_MM, page.get_y(), _MARGIN_MM + page.epw, page.get_y())
    page.ln(1.8)


def _text(
    page: FPDF,
    text: str,
    *,
    size: float,
    style: str = "",
    colour: tuple[int, int, int] = _INK,
    line_mm: float = _LINE_MM,
) -> None:
    page.set_font(_FONT, style, size)
    page.set_text_color(*colour)
    page.multi_cell(0, line_mm, _plain(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _plain(text: str) -> str:
    """Write a text in the letters that the fonts have."""
    return text.translate(_INSTEAD).encode("latin-1", "replace").decode("latin-1")
