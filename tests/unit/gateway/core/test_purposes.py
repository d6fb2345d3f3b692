"""Purposes of use in words: to the patient, in a record, and in the midst of a sentence."""

import pytest

from gateway.core.purposes import in_words, told_to_patient, without_codes


@pytest.mark.parametrize(
    ("code", "told", "written"),
    [
        ("TREAT", "your treatment", "treatment of the patient"),
        ("HRESCH", "research", "research"),
        ("XYZ", "XYZ", "XYZ"),
        (None, "a use that is not named", "a use that is not named"),
    ],
)
def test_a_purpose_is_told_in_words_and_an_unknown_one_as_it_is(
    code: str | None, told: str, written: str
) -> None:
    assert (told_to_patient(code), in_words(code)) == (told, written)


def test_codes_in_a_sentence_become_words_and_other_words_stay() -> None:
    assert without_codes("denies TREAT.") == "denies treatment."
    assert without_codes("does not speak of purpose BTG.") == "does not speak of an emergency."
    assert without_codes("TREATMENT and ETREAT") == "TREATMENT and emergency treatment"
