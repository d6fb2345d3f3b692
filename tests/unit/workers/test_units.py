import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.units import (
    SPELLINGS,
    UCUM,
    Converter,
    Substance,
    UnitNotConvertible,
    UnitUnknown,
    conversion,
    unit_of,
)

CREATININE = Substance(113.12, 113.12)
UREA_NITROGEN = Substance(28.014, 60.056)
SODIUM, CALCIUM = Substance(valence=1), Substance(valence=2)


@pytest.mark.parametrize(
    ("value", "source", "target", "substance", "expected"),
    [
        (88.4, "umol/L", "mg/dL", CREATININE, 1.0),
        (1.2, "mg/dL", "mg/dL", CREATININE, 1.2),
        (10, "mg/dL", "mg/dL", UREA_NITROGEN, 21.44),
        (5, "mmol/L", "mg/dL", UREA_NITROGEN, 30.03),
        (140, "meq/L", "mmol/L", SODIUM, 140),
        (2.5, "mmol/L", "meq/L", CALCIUM, 5.0),
        (130, "g/L", "g/dL", Substance(), 13.0),
        (0.44, "L/L", "%", Substance(), 44),
        (0.44, "1", "%", Substance(), 44),
        (44, "%", "%", Substance(), 44),
        (7800, "/uL", "10*3/uL", Substance(), 7.8),
        (7.8, "10*9/L", "10*3/uL", Substance(), 7.8),
        (10, "kPa", "mm[Hg]", Substance(), 75.0),
        (37, "Cel", "[degF]", Substance(), 98.6),
        (3, "{score}", "1", Substance(), 3),
    ],
)
def test_a_value_is_converted_as_chemistry_has_it(value, source, target, substance, expected):
    assert conversion(source, target, substance)(value) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("source", "target", "substance"),
    [
        ("mmol/L", "mg/dL", Substance()),
        ("mg/dL", "mmol/L", Substance()),
        ("meq/L", "mmol/L", Substance()),
        ("%", "mg/dL", CREATININE),
        ("mm[Hg]", "mg/dL", CREATININE),
    ],
)
def test_nothing_is_guessed_where_chemistry_is_not_declared(source, target, substance):
    with pytest.raises(UnitNotConvertible):
        conversion(source, target, substance)


@given(
    st.sampled_from(["mg/dL", "umol/L", "mmol/L", "g/L"]),
    st.sampled_from(["mg/dL", "umol/L", "mmol/L", "g/L"]),
    st.floats(1e-3, 1e3),
)
def test_there_and_back_is_the_same_value(source, target, value):
    there, back = conversion(source, target, CREATININE), conversion(target, source, CREATININE)

    assert back(there(value)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ({"system": UCUM, "code": "mg/dL", "unit": "mg/dL"}, "mg/dL"),
        ({"system": UCUM, "code": "mg/dl"}, "mg/dL"),
        ({"system": UCUM, "code": "mmHg", "unit": "mmHg"}, "mm[Hg]"),
        ({"system": UCUM, "code": "g%", "unit": "gm%"}, "g/dL"),
        ({"system": UCUM, "code": "10*9/L", "unit": "x10^3/µL"}, "10*9/L"),
        ({"system": UCUM, "code": "g/dL", "unit": "grams per decilitre"}, "g/dL"),
        ({"code": "mg/dL"}, "mg/dL"),
        ({"code": "17", "unit": "mg %"}, "mg/dL"),
        ({"unit": "µmol/L"}, "umol/L"),
        ({"unit": "Beats/min"}, "/min"),
        ({"system": UCUM, "code": "/min", "unit": "breaths/minute"}, "/min"),
        ({"unit": "°C"}, "Cel"),
        ({"unit": "\u2103"}, "Cel"),
        ({"unit": "F"}, "[degF]"),
        ({"unit": "l/min"}, "L/min"),
        ({"unit": "\u03bcmol/l"}, "umol/L"),
        ({"unit": "cells / cumm"}, "/uL"),
        ({"unit": "mm of Hg"}, "mm[Hg]"),
    ],
)
def test_a_unit_is_read_from_its_code_or_a_known_spelling(quantity, expected):
    assert unit_of(quantity) == expected


@pytest.mark.parametrize(
    "quantity",
    [{}, {"unit": ""}, {"unit": "u"}, {"code": "17"}, {"unit": 5}, {"code": "mg", "unit": "bags"}],
)
def test_a_unit_that_is_not_known_is_said_to_be_unknown(quantity):
    with pytest.raises(UnitUnknown):
        unit_of(quantity)


@pytest.mark.parametrize("text", ["µmol/L", "g/dL", "mmHg"])
def test_code_and_text_that_contradict_each_other_are_believed_neither(text):
    with pytest.raises(UnitUnknown):
        unit_of({"system": UCUM, "code": "mg/dL", "unit": text}, CREATININE)


def test_a_code_that_is_not_ucum_is_unknown_even_beside_a_text():
    with pytest.raises(UnitUnknown):
        unit_of({"system": UCUM, "code": "bags", "unit": "mg/dL"})


def test_equivalents_beside_moles_are_understood_for_a_monovalent_ion_only():
    quantity = {"system": UCUM, "code": "mmol/L", "unit": "mEq/L"}

    assert unit_of(quantity, SODIUM) == "mmol/L"
    with pytest.raises(UnitUnknown):
        unit_of(quantity, CALCIUM)


@pytest.mark.parametrize("code", ["", "bags", "mmHg"])
def test_a_conversion_from_what_is_not_ucum_is_refused(code):
    with pytest.raises(UnitUnknown):
        conversion(code, "mg/dL")


@pytest.mark.parametrize("code", sorted(set(SPELLINGS.values())))
def test_every_spelling_means_a_unit_of_ucum(code):
    # A scale with an offset has no multiples: it is converted into kelvin instead of into itself.
    kelvin = code in {"Cel", "[degF]"}
    there = conversion(code, "K") if kelvin else conversion(code, code, Substance(1.0, 2.0))

    assert there.scale > 0


def test_a_quantity_converts_the_same_the_second_time():
    converter = Converter("mg/dL", CREATININE)
    quantity = {"value": 88.4, "unit": "umol/L", "system": UCUM, "code": "umol/L"}

    once, again = (converter.conversion(quantity)(88.4) for _ in range(2))

    assert once == again == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(
    ("quantity", "error"),
    [
        ({}, UnitUnknown),
        ({"unit": ["mg/dL"], "code": 3}, UnitUnknown),
        ({"unit": "x" * 10_000}, UnitUnknown),
        ({"unit": "mg/dL", "system": UCUM, "code": "g/dL"}, UnitUnknown),
        ({"unit": "mmHg", "system": UCUM, "code": "mm[Hg]"}, UnitNotConvertible),
    ],
)
def test_a_quantity_is_refused_the_same_the_second_time(quantity, error):
    converter = Converter("mg/dL", CREATININE)

    for _ in range(2):
        with pytest.raises(error):
            converter.conversion(quantity)


def test_units_that_a_sender_makes_up_do_not_fill_the_memory():
    converter = Converter("mg/dL", CREATININE)

    for number in range(1000):
        with pytest.raises(UnitUnknown):
            converter.conversion({"unit": f"made up {number}"})

    assert len(converter._known) <= 256
    assert converter.conversion({"unit": "mg/dl"})(2.0) == 2.0
