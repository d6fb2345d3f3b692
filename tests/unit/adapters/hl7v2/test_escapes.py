from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7v2.escapes import Separators

PLAIN = Separators()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_what_is_written_is_read_again(text: str):
    read = PLAIN.unescape(PLAIN.escaped(text))

    assert read == text.replace("\r", "\n")
    assert not set("|^~&") & set(PLAIN.escaped(text))


@given(st.text())
def test_no_text_breaks_the_reading(text: str):
    PLAIN.unescape(text)


def test_every_sequence_says_what_it_stands_for():
    said = {
        r"a\F\b": "a|b",
        r"a\S\b\T\c\R\d\E\e": "a^b&c~d\\e",
        r"one\.br\two": "one\ntwo",
        r"one\.sp+2\two": "one\n\ntwo",
        r"one\.in+4\two": "onetwo",
        r"one\.sk2\two": "one  two",
        r"\H\bold\N\ text": "bold text",
        r"caf\XC3A9\ ": "café ",
        r"\XE9\t\X0D\ ": "ét\r ",
        r"a\P\b": "a#b",
        r"not known: \Zfoo\ ": r"not known: \Zfoo\ ",
        r"a lone \ stays": r"a lone \ stays",
        r"\.br999\ ": "\n ",
    }

    assert {text: PLAIN.unescape(text) for text in said} == said


def test_other_separators_have_other_sequences():
    odd = Separators("!", "@", "%", "$", "*")

    assert odd.unescape("a$F$b$T$c") == "a!b*c"
    assert odd.escaped("a!b*c|") == "a$F$b$T$c|"
    assert odd.encoding == "@%$*"
