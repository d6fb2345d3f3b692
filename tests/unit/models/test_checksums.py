import hashlib
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checksums import digest_of, read_sums, sha256, sha256_of, sums_text

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
SUMS = st.dictionaries(NAMES, st.binary().map(sha256), min_size=1, max_size=8)


@given(SUMS)
def test_what_is_written_can_be_read_back(sums):
    assert read_sums(sums_text(sums)) == sums


@given(SUMS, st.data())
def test_a_changed_text_is_refused_or_says_something_else(sums, data):
    text = sums_text(sums)
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(codec="ascii")) + text[place + 1 :]

    try:
        read = read_sums(changed)
    except ValueError:
        return
    assert (read == sums) == (changed == text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"{'a' * 64}  b\n{'a' * 64}  a\n",
        f"{'a' * 64}  a\n{'a' * 64}  a\n",
        f"{'a' * 64} *a\n",
        f"{'a' * 64}  ../a\n",
        f"{'a' * 64}  a",
        f"{'a' * 64}  a\n\n",
        f"{'a' * 64}  a\r\n",
    ],
    ids=["empty", "blank", "unsorted", "twice", "binary", "path", "unended", "gap", "windows"],
)
def test_another_form_of_list_is_refused(text):
    with pytest.raises(ValueError, match="not a list of checksums"):
        read_sums(text)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not on this machine")
def test_the_lines_are_those_that_sha256sum_prints_and_checks(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"b")
    (tmp_path / "a.txt").write_bytes(b"")
    sums = {name: sha256_of(tmp_path / name) for name in ("b.txt", "a.txt")}
    (tmp_path / "SHA256SUMS").write_text(sums_text(sums), encoding="ascii")

    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    checked = subprocess.run(command, cwd=tmp_path, check=False)

    assert checked.returncode == 0
    assert digest_of(sums) == hashlib.sha256((tmp_path / "SHA256SUMS").read_bytes()).hexdigest()
