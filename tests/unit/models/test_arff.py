import pytest

from models import arff

HEAD = "% a comment\n@relation r\n@attribute 'age' numeric\n@attribute class {a,b}\n@data\n"


@pytest.mark.parametrize("line", ["48,a", " 48 ,\ta", "48,a,", "48,,a"])
def test_a_row_is_read_whatever_strays_around_its_values(tmp_path, line):
    path = tmp_path / "t.arff"
    path.write_text(f"{HEAD}% another\n{line}\n\n?,b\n", encoding="utf-8")

    table = arff.read(path)

    assert table.columns == ("age", "class")
    assert table.rows == (("48", "a"), (None, "b"))
    assert table.column("class") == ("a", "b")


@pytest.mark.parametrize(
    ("text", "said"), [("@relation r\n", "no @data"), (f"{HEAD}1\n", "line 6: 1 values")]
)
def test_what_is_not_a_table_is_refused_with_its_line(tmp_path, text, said):
    path = tmp_path / "t.arff"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ValueError, match=said):
        arff.read(path)
