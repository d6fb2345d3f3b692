"""Imports point inward: the contracts of pyproject.toml hold."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_import_contracts_hold():
    linter = Path(sys.executable).with_name("lint-imports")

    checked = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_gateway_never_loads_the_inference_runtime():
    code = "import sys, gateway.app; print(sorted({'onnxruntime', 'torch'} & set(sys.modules)))"

    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)

    assert loaded.stdout == b"[]\n"


def test_the_supervisor_stays_small():
    """`nadi up` lives as long as everything else: what it does not need, it does not load."""
    heavy = {"sqlalchemy", "celery", "redis", "fastapi", "onnxruntime", "numpy", "alembic"}
    code = (
        f"import sys, gateway.cli.main, gateway.cli.up; print(sorted({heavy} & set(sys.modules)))"
    )

    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)

    assert loaded.stdout == b"[]\n"
