"""The program that verifies a receipt, given what is none."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import verify_receipt


@pytest.mark.parametrize("content", ["[" * 100_000, "{}", "5", "", '{"format":' + "9" * 5000 + "}"])
def test_a_file_that_is_no_receipt_does_not_hold(content: str, tmp_path: Path):
    path = tmp_path / "receipt.json"
    path.write_text(content)

    ended = subprocess.run(
        [sys.executable, verify_receipt.__file__, str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 1
    assert ended.stdout.startswith("DOES NOT HOLD")
    assert ended.stderr == ""
