"""The check digit of LOINC codes: one digit that was typed wrong, or two that changed places.

Source: LOINC Users' Guide, "Calculating Mod 10 Check Digits", with its list of known exceptions.
"""

#: Deprecated codes that were given a wrong check digit.
EXCEPTIONS = frozenset(
    {
        "11491-6", "11501-6", "5895-7", "5896-5", "5897-3", "5928-1", "6028-3",
        "6415-5", "6580-7", "6645-7", "6646-5", "6647-3", "6648-1", "6649-9",
    }
)  # fmt: skip
_TEN = 10


def check_digit(number: str) -> int:
    """Give the check digit of a number.

    Args:
        number: What stands before the hyphen of a code, digits alone.
    """
    doubled = [2 * int(digit) for digit in reversed(number)][::2]
    others = [int(digit) for digit in reversed(number)][1::2]
    total = sum(others) + sum(value // _TEN + value % _TEN for value in doubled)
    return -total % _TEN


def is_checked(code: str) -> bool:
    """Say whether the check digit of a code, written number-digit, is right."""
    number, _, digit = code.partition("-")
    return digit == str(check_digit(number)) or code in EXCEPTIONS


def said_of(code: str) -> str:
    """Say that the check digit of a code is wrong, and what may be meant."""
    number = code.partition("-")[0]
    return (
        f"{code} is no LOINC code, its check digit is wrong; did you mean "
        f"'{number}-{check_digit(number)}', or is a digit of {number} another?"
    )
