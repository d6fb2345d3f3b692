"""Tables in ARFF."""

from models.arff import read
from tests.fuzz.target import Target, as_file

_TABLE = (
    b"@relation x\n@attribute 'age' numeric\n@attribute class {a,b}\n"
    b"@data\n% note\n48, a\n?,\tb\n1,,b\n"
)


def run(data: bytes) -> None:
    """Read a table; every row is as wide as the table."""
    table = read(as_file(data))
    assert all(len(row) == len(table.columns) for row in table.rows)


def seeds() -> list[bytes]:
    """Give a small table."""
    return [_TABLE]


TARGET = Target(run, seeds, (ValueError,), longest=4096)
