"""The check digit of LOINC codes finds what is typed wrong, and takes every code that there is."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.loinc import EXCEPTIONS, check_digit, is_checked, said_of

ROOT = Path(__file__).resolve().parents[3]
MANIFESTS = sorted((ROOT / "models/reference").glob("*/manifest.toml"))
NUMBERS = st.from_regex(r"[1-9][0-9]{0,5}", fullmatch=True)


@pytest.mark.parametrize(
    "code",
    ["2160-0", "12345-5", "718-7", "22664-7", "2345-7", "59408-5", "3150-0", "8867-4", "1-8"],
)
def test_codes_that_there_are_pass(code: str) -> None:
    assert is_checked(code)


def test_the_deprecated_codes_that_loinc_itself_gave_a_wrong_digit_pass() -> None:
    assert len(EXCEPTIONS) == 14
    assert all(is_checked(code) for code in EXCEPTIONS)
    assert not any(code == f"{(number := code[:-2])}-{check_digit(number)}" for code in EXCEPTIONS)


@given(NUMBERS, st.data())
def test_one_digit_that_is_another_is_found(number: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(number) - 1))
    other = data.draw(st.sampled_from([each for each in "0123456789" if each != number[at]]))
    wrong = f"{number[:at]}{other}{number[at + 1 :]}-{check_digit(number)}"

    assert is_checked(f"{number}-{check_digit(number)}")
    assert not is_checked(wrong) or wrong in EXCEPTIONS


@given(NUMBERS, st.data())
def test_two_digits_beside_each_other_that_changed_places_are_found(
    number: str, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, max(0, len(number) - 2)))
    pair = number[at : at + 2]
    wrong = f"{number[:at]}{pair[::-1]}{number[at + 2 :]}-{check_digit(number)}"

    # Luhn's algorithm can't tell 09 from 90.
    is_told = pair != pair[::-1] and pair not in {"09", "90"} and wrong not in EXCEPTIONS
    assert is_checked(wrong) is not is_told or wrong in EXCEPTIONS


def test_what_may_be_meant_is_said() -> None:
    assert said_of("2160-1") == (
        "2160-1 is no LOINC code, its check digit is wrong; did you mean '2160-0', or is a digit "
        "of 2160 another?"
    )


@pytest.mark.parametrize(
    "manifest",
    sorted((ROOT / "models/reference").glob("*/manifest.toml")),
    ids=lambda f: f.parts[-2],
)
def test_every_loinc_code_of_the_reference_models_passes(manifest: Path) -> None:
    wrong = [
        code
        for code in _loinc(tomllib.loads(manifest.read_text("utf-8")))
        if code[:1].isdigit() and not is_checked(code)
    ]

    assert wrong == []


def _loinc(value: Any) -> list[str]:
    """Find every LOINC code in a manifest."""
    if isinstance(value, list):
        return [code for each in value for code in _loinc(each)]
    if not isinstance(value, dict):
        return []
    own = [value["code"]] if value.get("system") == "http://loinc.org" and "code" in value else []
    return own + [code for each in value.values() for code in _loinc(each)]
