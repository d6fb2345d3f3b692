import numpy as np
import pytest

from models.dataset import DatasetUnusable, read_dataset

X = np.arange(12, dtype=np.float32).reshape(6, 2)
TRUTH = np.array([0, 1, 0, 1, 1, 0])


def written(path, **arrays):
    np.savez_compressed(path / "set.npz", **arrays)
    return path / "set.npz"


def test_everything_that_is_known_of_the_cases_is_read(tmp_path):
    path = written(
        tmp_path,
        features=X,
        truth=TRUTH,
        group_sex=["female", "male", "", "male", "male", "female"],
        group_age=np.array([3, 18, 59, 60, 95, np.nan]),
        patient=["b", "a", "b", "c", "d", "d"],
        split=["test", "test", "train", "test", "train", "test"],
    )

    data = read_dataset(path)

    assert len(data) == 6
    assert list(data.inputs) == ["features"]
    assert data.inputs["features"].dtype == np.float32
    assert data.groups["sex"][2] == ""
    assert data.groups["age"] == (
        "under 18", "18 to 39", "40 to 59", "60 to 79", "80 and over", "",
    )  # fmt: skip
    assert data.patients.tolist() == [1, 0, 1, 2, 3, 3]
    assert len(data.sha256) == 64


def test_one_part_of_the_data_can_be_taken(tmp_path):
    parts = ["test", "train", "test", "train", "test", "test"]
    sex = ["f", "m", "m", "m", "f", "f"]
    data = read_dataset(
        written(tmp_path, features=X, truth=TRUTH, split=parts, group_sex=sex, patient=X[:, 0])
    )

    test = data.of_split("test")

    assert test.truth.tolist() == [0, 0, 1, 0]
    assert test.inputs["features"].tolist() == X[[0, 2, 4, 5]].tolist()
    assert test.groups == {"sex": ("f", "m", "f", "f")}
    assert test.patients.tolist() == [0, 1, 2, 3]
    with pytest.raises(DatasetUnusable, match="no case belongs to the split validation"):
        data.of_split("validation")


def test_each_case_is_a_patient_of_its_own_where_nothing_else_is_said(tmp_path):
    data = read_dataset(written(tmp_path, features=X, truth=TRUTH))

    assert data.patients.tolist() == list(range(6))
    with pytest.raises(DatasetUnusable, match="split test"):
        data.of_split("test")


def test_bands_of_age_may_be_given_in_words(tmp_path):
    path = written(tmp_path, features=X, truth=TRUTH, group_age=["child"] * 3 + ["adult"] * 3)

    assert set(read_dataset(path).groups["age"]) == {"child", "adult"}


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"features": X}, "no array called truth"),
        ({"features": X[:4], "truth": TRUTH}, "one row per case"),
        ({"features": X, "truth": 1}, "one row per case"),
        ({"features": X[:0], "truth": TRUTH[:0]}, "one row per case"),
        ({"features": X, "truth": TRUTH * np.nan}, "none missing"),
        ({"features": X, "truth": TRUTH.astype(str)}, "must be numbers"),
        ({"features": X, "truth": np.array([object()] * 6)}, "plain arrays"),
    ],
    ids=["no-truth", "lengths", "scalar", "empty", "nan", "text", "pickled"],
)
def test_a_file_that_is_no_evaluation_set_is_refused_with_its_reason(tmp_path, arrays, match):
    with pytest.raises(DatasetUnusable, match=match):
        read_dataset(written(tmp_path, **arrays))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"truth,score\n1,0.5\n"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "set.npz").write_bytes(content)

    with pytest.raises(DatasetUnusable, match=r"not an \.npz"):
        read_dataset(tmp_path / "set.npz")


def test_a_single_array_is_no_evaluation_set(tmp_path):
    np.save(tmp_path / "set.npy", X)

    with pytest.raises(DatasetUnusable, match=r"not an \.npz"):
        read_dataset(tmp_path / "set.npy")
