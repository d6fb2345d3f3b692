"""A patient's report as PDF, for printing and for handing out: the same parts as the page."""

from gateway.api.paper import BLUE, GREY, Paper
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


def as_pdf(report: PatientReport) -> bytes:
    """Give the report as PDF."""
    paper = Paper(TITLE, head(report), made_at=report.made_at)
    paper.words(TITLE, size=20, style="B", colour=BLUE, line_mm=9)
    paper.words(head(report), size=9.5, colour=GREY)
    paper.ln(2)
    paper.words(introduction(report))
    paper.ln(3)
    paper.cards([(number, meaning, "") for number, meaning in numbers(report)])
    for sheet in sheets(report):
        _write(paper, sheet)
    paper.heading("What you can do")
    for name, how in advice(report):
        paper.pair(name, how)
    paper.ln(3)
    paper.words("The making of this report is itself on record.", size=8.5, colour=GREY)
    return bytes(paper.output())


def _write(paper: Paper, sheet: Sheet) -> None:
    paper.heading(sheet.title)
    if not sheet.rows:
        paper.words(sheet.otherwise)
        return
    paper.words(sheet.about)
    paper.listing(sheet.columns, sheet.rows, sheet.widths)
