"""What the two commands that send have in common: where to, and why there is nobody."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from tests.dicom import film
from tests.listening import free_port
from tests.pictures import dicom_file
from tests.unit.adapters.hl7v2.test_server import MESSAGE


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    files = {"hl7": tmp_path / "oru.hl7", "dicom": tmp_path / "film.dcm"}
    files["hl7"].write_bytes(MESSAGE)
    files["dicom"].write_bytes(dicom_file(film()))
    return files


def told(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 1, done.output
    return " ".join(done.stderr.split())


@pytest.mark.parametrize("kind", ["hl7", "dicom"])
def test_both_say_alike_that_nobody_listens_and_where_and_what_to_look_at(
    files: dict[str, Path], kind: str
):
    port = free_port()

    said = told(kind, "send", files[kind], "--port", port)

    assert said == (
        f"✗ 127.0.0.1:{port} refuses the connection: does it run, and is the port right?"
    )


@pytest.mark.parametrize("kind", ["hl7", "dicom"])
def test_both_say_alike_that_a_name_is_none(files: dict[str, Path], kind: str):
    name = "x" * 64 + ".example"  # longer than a label of a name may be: nobody is asked

    said = told(kind, "send", files[kind], "--host", name, "--port", 7)

    assert said.startswith(f"✗ {name}:7 has a host name that is not known here: mend `--host`")


def test_both_take_the_same_options():
    def options(kind: str) -> set[str]:
        shown = CliRunner().invoke(app, [kind, "send", "--help"], env={"COLUMNS": "200"}).output
        return {word for word in shown.replace(",", " ").split() if word.startswith("--")}

    shared = {"--host", "--port", "--timeout", "--json"}
    shared |= {"--tls", "--certificate", "--key", "--server-name"}
    assert shared <= options("hl7")
    assert shared <= options("dicom")
