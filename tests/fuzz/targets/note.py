"""Notes: the text of markup, and whether a model may read it."""

from models.texts import TextRefused, check_text
from tests.fuzz.target import Target
from tests.notes import NOTE, text_input
from workers.markup import text_of_markup

_SPEC = text_input()


def run(data: bytes) -> None:
    """Take the text out of markup and look at it; no line of it is left blank."""
    text = text_of_markup(data.decode("utf-8", "replace"))
    assert "\n\n" not in text
    check_text(text, _SPEC, language="en-IN")


def seeds() -> list[bytes]:
    """Give a note, plain and in markup."""
    table = b"<table><tr><td>BP</td><td>120/80</td></tr></table><script>x<!-- </script>"
    return [NOTE.encode(), b"<div><p>Fever &lt;38 &#x263a;</p><!-- no --><br/>" + table + b"</div>"]


TARGET = Target(run, seeds, (TextRefused,), longest=65_536)
