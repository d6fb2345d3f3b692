import numpy as np
import pytest

from models.case_data import read_cases
from models.dataset import DatasetUnusable
from models.runtime import open_session
from tests import networks

CASES = 40
FEATURES = networks.features(CASES)
TRUTH = np.arange(CASES) % 2
TOKENS = networks.tokens(CASES)


@pytest.fixture(scope="module")
def session():
    return open_session(networks.dense(), exact_int8=False)


@pytest.fixture
def written(tmp_path):
    def write(name="set.npz", **arrays):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def rows(batches):
    return {tuple(row) for batch in batches for row in batch["features"].tolist()}


@pytest.mark.parametrize(
    ("apart", "decides"), [("calibration", "evaluation"), ("train", "validation")]
)
def test_splits_say_what_calibrates_and_what_decides(written, session, apart, decides):
    split = np.array([apart, decides, "test", decides] * (CASES // 4))
    path = written(**FEATURES, truth=TRUTH, split=split)

    batches, cases = read_cases(path, None, session)

    assert rows(batches) == {tuple(row) for row in FEATURES["features"][0::4].tolist()}
    assert len(cases) == CASES // 2
    np.testing.assert_array_equal(cases.inputs["features"], FEATURES["features"][1::2])


def test_without_splits_a_fifth_of_the_patients_calibrates_and_no_patient_does_both(
    written, session
):
    patient = np.arange(CASES) // 4
    path = written(**FEATURES, truth=TRUTH, patient=patient)

    batches, cases = read_cases(path, None, session)

    apart = rows(batches)
    decides = {tuple(row) for row in cases.inputs["features"].tolist()}
    owners = {
        tuple(row): who for row, who in zip(FEATURES["features"].tolist(), patient, strict=True)
    }
    assert len(apart) == 8
    assert len(decides) == 32
    assert {owners[row] for row in apart}.isdisjoint(owners[row] for row in decides)
    assert rows(read_cases(path, None, session)[0]) == apart


def test_a_file_of_its_own_calibrates_and_needs_no_truth(written, session):
    apart = written("calibration.npz", **networks.features(20, seed=3))
    data = written(**FEATURES, truth=TRUTH)

    batches, cases = read_cases(data, apart, session)

    assert [len(each["features"]) for each in batches] == [16, 4]
    assert len(cases) == CASES


def test_a_few_hundred_cases_are_enough_for_calibration(written, session):
    apart = written("calibration.npz", **networks.features(1000))

    batches, _ = read_cases(written(**FEATURES, truth=TRUTH), apart, session)

    assert sum(len(each["features"]) for each in batches) == 256


def test_numbers_of_another_width_are_converted(written, session):
    path = written(features=FEATURES["features"].astype(np.float64), truth=TRUTH)

    _, cases = read_cases(path, None, session)

    assert cases.inputs["features"].dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"feature": FEATURES["features"]}, "input features is missing; .* inputs are: feature"),
        ({}, "input features is missing; .* inputs are: none"),
        (
            {"features": FEATURES["features"][:, :3]},
            r"shape \(\d+, 3\); the network wants \(n, 16\)",
        ),
        ({"features": FEATURES["features"][:, :, None]}, r"the network wants \(n, 16\)"),
        ({"features": FEATURES["features"].astype(str)}, "is of <U32; .* wants tensor"),
    ],
    ids=["misspelt", "nothing", "narrow", "deep", "text"],
)
def test_an_array_that_does_not_fit_the_network_is_named(written, session, arrays, says):
    path = written(**arrays, truth=TRUTH)

    with pytest.raises(DatasetUnusable, match=says) as caught:
        read_cases(path, None, session)

    assert str(caught.value).startswith(f"{path}: ")


def test_splits_of_other_names_are_refused_with_those_that_are_there(written, session):
    path = written(**FEATURES, truth=TRUTH, split=np.array(["train", "test"] * (CASES // 2)))

    with pytest.raises(DatasetUnusable, match="evaluation or validation; split holds test, train"):
        read_cases(path, None, session)


def test_a_file_that_is_not_there_is_named(tmp_path, written, session):
    missing = tmp_path / "none.npz"

    with pytest.raises(DatasetUnusable, match=r"none.npz can't be read: No such file"):
        read_cases(missing, None, session)
    with pytest.raises(DatasetUnusable, match=r"none.npz can't be read: No such file"):
        read_cases(written(**FEATURES, truth=TRUTH), missing, session)


def test_several_inputs_stay_together(written):
    session = open_session(networks.embedding(), exact_int8=False)

    batches, cases = read_cases(written(**TOKENS, truth=TRUTH), None, session)

    assert set(cases.inputs) == {"input_ids", "attention_mask"}
    for batch in batches:
        assert ((batch["input_ids"] > 0) == (batch["attention_mask"] > 0)).all()
