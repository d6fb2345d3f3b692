"""Pages for people, readable on a screen and on A4 paper: HTML without a script or an outside file.

Everything that is put into a page is escaped here; `Markup` is what went through that already.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape


class Markup(str):
    """HTML that may stand in a page as it is."""

    __slots__ = ()


_HASH = re.compile(r"\b[0-9a-f]{32,}\b")
_STYLE = """
@page { size: A4; margin: 16mm 14mm 18mm; }
* { box-sizing: border-box; }
body { font: 10.5pt/1.45 "Noto Sans", "DejaVu Sans", Arial, sans-serif; color: #1b2430;
  max-width: 190mm; margin: 0 auto; padding: 8mm 0; background: #fff; }
h1 { font-size: 19pt; line-height: 1.2; margin: 0 0 1mm; }
h2 { font-size: 13pt; margin: 8mm 0 2mm; padding-bottom: 1mm; border-bottom: .4mm solid #1f4e79;
  color: #1f4e79; break-after: avoid; }
h3 { font-size: 11pt; margin: 5mm 0 1mm; break-after: avoid; }
p, ul, ol { margin: 1.5mm 0; } li { margin: .6mm 0; }
.lead { color: #51606f; margin: 0 0 4mm; }
table { border-collapse: collapse; width: 100%; margin: 2mm 0 3mm; font-size: 9pt; }
th, td { text-align: left; vertical-align: top; padding: 1mm 2mm; overflow-wrap: break-word; }
th { background: #eef3f8; font-weight: 600; border-bottom: .3mm solid #b8c7d6; }
td { border-bottom: .2mm solid #dde5ec; }
tr { break-inside: avoid; } thead { display: table-header-group; }
dl { display: grid; grid-template-columns: 48mm 1fr; gap: 1mm 4mm; margin: 2mm 0; }
dt { color: #51606f; } dd { margin: 0; overflow-wrap: anywhere; }
code, .hash { font-family: "DejaVu Sans Mono", monospace; font-size: 8pt; overflow-wrap: anywhere; }
.cards { display: flex; gap: 3mm; margin: 3mm 0; }
.card { flex: 1; border: .3mm solid #b8c7d6; border-radius: 1.5mm; padding: 2.5mm 3mm;
  break-inside: avoid; }
.card b { display: block; font-size: 14pt; line-height: 1.3; }
.card.bad { border-color: #b3261e; background: #fdf1f0; } .card.bad b { color: #b3261e; }
.card.good { border-color: #2e7d4f; background: #f0f8f3; } .card.good b { color: #2e7d4f; }
.ask { background: #fff6dd; border-left: 1mm solid #d99a00; padding: 1mm 3mm; }
.card.soon { border-color: #d99a00; background: #fff6dd; } .card.soon b { color: #8a6100; }
@media print { body { padding: 0; } }
.raw { color: #51606f; font: 7.5pt/1.4 "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.when { white-space: nowrap; }
.foot { color: #51606f; font-size: 8.5pt; margin-top: 8mm; border-top: .2mm solid #dde5ec;
  padding-top: 2mm; }
svg text { font: 10px "DejaVu Sans", sans-serif; fill: #51606f; }
"""


def page(title: str, *parts: Markup, language: str = "en") -> str:
    """Give a whole page."""
    return (
        f'<!DOCTYPE html>\n<html lang="{escape(language)}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def tag(name: str, *content: str, kind: str = "") -> Markup:
    """Put content into an element; what is no Markup is escaped."""
    given = f' class="{escape(kind)}"' if kind else ""
    return Markup(f"<{name}{given}>{joined(content)}</{name}>")


def joined(content: Iterable[str]) -> Markup:
    """Put pieces together; what is no Markup is escaped."""
    return Markup("".join(each if isinstance(each, Markup) else escape(each) for each in content))


def section(title: str, *parts: Markup) -> Markup:
    """Give a part of the page with its heading."""
    return joined((tag("h2", title), *parts))


def listed(items: Iterable[str]) -> Markup:
    """Give a list."""
    return tag("ul", *(tag("li", each) for each in items))


def facts(told: Mapping[str, str]) -> Markup:
    """Give names and values side by side; what is empty is left out."""
    pairs = [(tag("dt", name), tag("dd", value)) for name, value in told.items() if value]
    return tag("dl", *(each for pair in pairs for each in pair))


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Give a table; its head comes again on every sheet of paper."""
    head = tag("thead", tag("tr", *(tag("th", name) for name in columns)))
    body = tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows))
    return tag("table", head, body)


def card(value: str, meaning: str, *, kind: str = "") -> Markup:
    """Give a number that is seen from afar, and what it means."""
    return tag("div", tag("b", value), meaning, kind=f"card {kind}".strip())


def cards(*each: Markup) -> Markup:
    """Put cards side by side."""
    return tag("div", *each, kind="cards")


def shortened(text: str) -> str:
    """Cut the hashes in a text to their beginning: people compare no more than that."""
    return _HASH.sub(lambda found: f"{found[0][:12]}…", text)


def when(text: str) -> Markup:
    """Give a time that stays on one line."""
    return tag("span", text, kind="when")


def bars(counts: Sequence[tuple[str, int]]) -> Markup:
    """Draw counts over time as bars, with the label of the first, the middle and the last."""
    if not counts:
        return Markup("")
    width, height, most = 680, 90, max(1, *(count for _, count in counts))
    step = width / len(counts)
    drawn = [
        f'<rect x="{i * step:.1f}" y="{height - 72 * n / most:.1f}" '
        f'width="{max(step - 1, 0.6):.1f}" '
        f'height="{72 * n / most:.1f}" fill="#1f4e79"/>'
        for i, (_, n) in enumerate(counts)
    ]
    ends = {0: "start", len(counts) // 2: "middle", len(counts) - 1: "end"}
    labels = [
        f'<text x="{(0, width / 2, width)[["start", "middle", "end"].index(at)]:.0f}" y="100" '
        f'text-anchor="{at}">{escape(counts[i][0])}</text>'
        for i, at in ends.items()
    ]
    top = f'<text x="0" y="10">at most {most} in one bar</text>'
    return Markup(
        f'<svg viewBox="0 0 {width} 106" width="100%" role="img" aria-label="events over time">'
        f"{top}{''.join(drawn)}{''.join(labels)}</svg>"
    )
