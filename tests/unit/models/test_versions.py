from hypothesis import given
from hypothesis import strategies as st

from models.versions import precedence, routable, spellings

VERSIONS = st.builds("{}.{}.{}".format, *[st.integers(0, 12)] * 3)


def test_a_route_may_name_a_model_by_any_part_of_its_version():
    assert spellings("ckd-risk", "1.0.2") == ("ckd-risk@1", "ckd-risk@1.0", "ckd-risk@1.0.2")


def test_of_several_versions_the_newest_that_fits_answers():
    found = routable([("a", "1.10.0", "x"), ("a", "1.9.3", "y"), ("a", "2.0.0", "z")])

    assert found == {
        "a@1": "x",
        "a@1.9": "y",
        "a@1.9.3": "y",
        "a@1.10": "x",
        "a@1.10.0": "x",
        "a@2": "z",
        "a@2.0": "z",
        "a@2.0.0": "z",
    }


def test_nothing_in_service_means_nothing_is_routable():
    assert routable([]) == {}


@given(st.lists(VERSIONS, unique=True, min_size=1))
def test_the_whole_version_always_means_itself_and_its_beginning_the_newest(versions):
    found = routable([("a", version, version) for version in versions])

    assert all(found[f"a@{version}"] == version for version in versions)
    for major in {version.split(".")[0] for version in versions}:
        of_major = [version for version in versions if version.split(".")[0] == major]
        assert found[f"a@{major}"] == max(of_major, key=precedence)
