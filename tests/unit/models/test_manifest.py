import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.manifest import ManifestError, parse, percent
from models.registry import REFERENCE_MODELS

TEXT = (REFERENCE_MODELS / "ckd-risk" / "manifest.toml").read_text(encoding="utf-8")
MANIFEST = parse(TEXT)
(OUTPUT,) = MANIFEST.outputs


def changed(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new, 1)


def test_the_reference_manifest_says_what_it_needs():
    ids = [each.id for each in MANIFEST.inputs]

    assert ids[:4] == ["age", "diastolic", "creatinine", "urea"]
    assert MANIFEST.width == len(ids) == 11
    assert MANIFEST.input("creatinine").unit == "mg/dL"
    assert MANIFEST.look_back_h == 2160
    assert MANIFEST.demonstration_only


def test_an_unknown_input_is_a_key_error():
    with pytest.raises(KeyError):
        MANIFEST.input("astrology")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("min_present = 4", "min_present = ", "not valid TOML"),
        ('name = "ckd-risk"', 'name = "CKD risk"', "name: "),
        ("max_age_h = 2160", "max_age_hours = 2160", r"inputs\[1\]\.max_age_hours: "),
        ("plausible = [20, 200]", "plausible = [200, 20]", r"inputs\[1\]\.plausible: .*low bound"),
        ('missing = "refuse"', 'missing = "guess"', r"inputs\[0\]\.missing: "),
        ('missing = "refuse"', 'missing = "impute"', r"inputs\[0\]: .*impute_value.*impute_reason"),
        (
            'missing = "refuse"',
            'missing = "impute"\nimpute_value = 500\nimpute_reason = "why not"',
            "must be plausible",
        ),
        ("plausible = [0, 120]", "plausible = [0, 120]\nmax_age_h = 1", "max_age_h: for source"),
        ("plausible = [0, 120]", 'plausible = [0, 120]\naggregation = "mean"', "aggregation: only"),
        (
            "plausible = [20, 200]",
            'plausible = [20, 200]\naggregation = "mean"',
            "look_back_h: for",
        ),
        (
            "plausible = [20, 200]",
            'plausible = [20, 200]\naggregation = "mean"\nlook_back_h = 24',
            "look_back_h: must not be shorter",
        ),
        ('source = "patient-age"', "", "codes: for source observation"),
        ('source = "patient-age"', 'source = "patient-sex"', "categories: source patient-sex"),
        ('code = "14682-9"', 'code = "2951-2"', "code feeds two inputs"),
        ('id = "diastolic"', 'id = "age"', "id used twice"),
        ('["creatinine", "urea"]', '["cystatin-c"]', "no input is called cystatin-c"),
        ("min_present = 4", "min_present = 11", "min_present: more than"),
        ("molar_mass_g_per_mol = 60.056", "", "molar_mass_g_per_mol: a code has its own"),
        ("column = 0", "column = 1", "outputs: columns must be"),
        ("at_least = 0.2", "at_least = 0.9", "bands: at_least must ascend"),
        ("at_least = 0\n", "at_least = 0.1\n", "bands: the first must begin"),
        ("{advice}", "{patient}", "summary: only"),
        ('sha256 = "', 'sha256 = "z', r"weights\.sha256"),
    ],
)
def test_a_wrong_manifest_is_refused_naming_file_and_key(old, new, said):
    with pytest.raises(ManifestError, match=said) as caught:
        parse(changed(old, new), file="site/manifest.toml")

    assert all(line.startswith("site/manifest.toml: ") for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("value", "said"), [("[" * 20_000, "nested deeper"), ("9" * 5000, "too many digits")]
)
def test_a_manifest_that_its_reader_chokes_on_is_refused(value: str, said: str):
    with pytest.raises(ManifestError, match=said):
        parse(f"a = {value}")


def test_an_input_of_the_patient_has_no_panels():
    text = changed(
        'source = "patient-age"', 'source = "patient-age"\npanels = [{system="s",code="c"}]'
    )

    with pytest.raises(ManifestError, match="panels: only for source observation"):
        parse(text)


@pytest.mark.parametrize(
    ("probability", "interpretation"),
    [(0.0, None), (0.1999, None), (0.2, "IND"), (0.7999, "IND"), (0.8, "H"), (1.0, "H")],
)
def test_a_probability_falls_into_its_band(probability, interpretation):
    assert OUTPUT.band(probability).interpretation == interpretation


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_an_answer_outside_the_range_is_no_answer(value):
    with pytest.raises(ValueError, match="outside its range"):
        OUTPUT.band(value)


def test_the_text_reads_at_one_glance():
    text = OUTPUT.read([0.873]).describe(used=7, total=11)

    assert text.startswith(
        "Estimated risk of chronic kidney disease (AI): high, 87 %, from 7 of 11 inputs."
    )
    assert text.endswith("Demonstration only.")


def test_a_line_break_of_the_file_is_a_space_to_the_reader():
    assert "acute kidney injury" in MANIFEST.not_for
    assert not any("\n" in text for text in (MANIFEST.intended_use, MANIFEST.not_for))


@given(st.floats(0, 1))
def test_certainty_is_never_claimed(probability):
    assert not re.fullmatch(r"0|100", percent(probability))


@pytest.mark.parametrize(
    ("value", "plausible", "intended"), [(17, True, False), (18, True, True), (121, False, False)]
)
def test_an_input_knows_what_can_be_and_what_it_is_for(value, plausible, intended):
    age = MANIFEST.input("age")

    assert (age.is_plausible(value), age.is_intended(value)) == (plausible, intended)
    assert MANIFEST.input("urea").is_intended(value)


MEN = """
[[inputs]]
id = "sex"
label = "Sex"
source = "patient-sex"
unit = "1"
plausible = [0, 2]
intended_codes = ["male"]
missing = "refuse"
categories = [
  { system = "http://hl7.org/fhir/administrative-gender", code = "male", value = 0 },
  { system = "http://hl7.org/fhir/administrative-gender", code = "female", value = 1 },
]

[[outputs]]
"""


def test_a_model_for_some_codes_is_for_no_others():
    sex = parse(changed("[[outputs]]\n", MEN)).input("sex")

    assert [sex.is_intended(value) for value in (0, 1, 2)] == [True, False, False]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('["male"]', '["men"]', "intended_codes: each must be a code"),
        ("value = 1", "value = 0", "intended_codes: a code left out has the same value"),
        ('missing = "refuse"', 'missing = "mask"', "intended_codes: need missing refuse"),
    ],
)
def test_codes_that_would_let_others_through_are_no_manifest(old, new, said):
    with pytest.raises(ManifestError, match=said):
        parse(changed("[[outputs]]\n", MEN.replace(old, new)))
