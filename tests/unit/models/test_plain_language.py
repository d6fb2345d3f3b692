"""A text in another language of the same script, or of no words, against the real tokenizer."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.plain_language import Piece, bits_per_letter, common_share
from models.registry import REFERENCE_MODELS, load
from models.texts import TextEncoder, TextRefused

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "mtsamples"
NOTES = DATA / "mtsamples_descriptions.csv"
MODEL = load(REFERENCE_MODELS / "note-specialty")
assert MODEL.manifest.text is not None
ENCODER = TextEncoder(MODEL.tokenizer() or b"", MODEL.manifest.text)


def is_refused(text: str) -> bool:
    try:
        ENCODER.encode(text)
    except TextRefused as refused:
        return refused.reason == "text-foreign"
    return False


@pytest.mark.parametrize(
    "text",
    [
        "Paciente masculino con dolor torácico de dos días de evolución y disnea.",
        "El paciente refiere cefalea intensa y mareos, con antecedentes de hipertensión.",
        "Se remite para colonoscopia por sangrado rectal y pérdida de peso desde hace meses.",
        "Douleur abdominale aiguë avec vomissements et fièvre, merci de votre avis chirurgical.",
        "Enfant de quatre ans avec fièvre, toux et gêne respiratoire depuis trois jours.",
        "Patient adressé pour bilan d'une anémie ferriprive avec fatigue et amaigrissement.",
        "Mareez ko do din se seene mein dard hai aur saans lene mein takleef ho rahi hai.",
        "Bachche ko teen din se bukhar hai, khansi aur ulti bhi ho rahi hai, jaanch karein.",
        "Kamar mein dard aur pairon mein jhunjhuni ek mahine se hai, chalne mein takleef.",
        "Der Patient klagt seit drei Tagen über starke Brustschmerzen und Atemnot.",
        "asdkjh qwelkj zxmcnb qpwoei alskdj fhgjdk qiwueo zmxncb",
        "qwertyuiop asdfghjkl zxcvbnm poiuytrewq lkjhgfdsa mnbvcxz",
        "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor",
    ],
)
def test_another_language_in_latin_letters_and_no_language_are_refused(text: str) -> None:
    assert is_refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "Chest pain on exertion, positive treadmill test; please consider catheterization.",
        "PT C/O R FLANK PAIN X 2/7, HÆMATURIA +, K/C/O RENAL CALCULI. ADV USG KUB.",
        "k/c/o T2DM, HTN on T. Metformin 500 BD, T. Telmisartan 40 OD. Pedal oedema. Adv opinion.",
        "Pt c/o SOB x 3d, hx HTN, DM2, CKD3; BNP 900, CXR cardiomegaly, refer cardiology pls",
        "Laparoscopic cholecystectomy with cholangiogram.",
        "Epididymectomy and orchiopexy",
    ],
)
def test_english_shorthand_and_the_names_of_operations_pass(text: str) -> None:
    assert not is_refused(text)


@pytest.mark.skipif(not NOTES.exists(), reason="the public notes are not at hand")
def test_nearly_all_training_notes_pass() -> None:
    with NOTES.open(encoding="utf-8", newline="") as file:
        texts = [" ".join(row["description"].split()) for row in csv.DictReader(file)]
    letters = [text for text in texts if sum(map(str.isalpha, text)) >= 10]

    refused = [text for text in letters if is_refused(text)]

    assert len(letters) > 1600
    assert 0 < len(refused) <= 0.005 * len(letters)


@given(st.lists(st.integers(0, 30_000), min_size=1), st.integers(1, 9))
def test_a_rarer_piece_never_makes_a_word_plainer(places: list[int], letters: int) -> None:
    def bits(more: int) -> float:
        word = [Piece("x" * letters, place + more, place == 0) for place in places]
        return bits_per_letter([word])

    assert bits(1) > bits(0) > 0


def test_common_words_are_counted_whatever_their_case_and_marks() -> None:
    assert common_share("Pain: of the LEFT knee", ("the", "of", "left")) == 3 / 5
    assert common_share("12 / 7", ("the",)) == 0
