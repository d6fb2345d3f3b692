"""Imports point inward: the contracts of pyproject.toml hold."""

import json
import subprocess
import sys
import textwrap
from itertools import combinations
from pathlib import Path

import pytest

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
    """It loads only what it forks its children with, and that when it starts them."""
    heavy = {"sqlalchemy", "celery", "redis", "fastapi", "onnxruntime", "numpy", "alembic"}
    code = (
        f"import sys, gateway.cli.main, gateway.cli.up; print(sorted({heavy} & set(sys.modules)))"
    )

    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)

    assert loaded.stdout == b"[]\n"


#: What each of the processes that always run has loaded once it runs, in modules of its own.
_LOADED = """
    import importlib, json, os, sys
    from gateway.cli.processes import SHARED
    from gateway.forking import load

    processes = {
        "api": ["gateway.app"],
        "relay": ["workers.relay"],
        "infer": ["workers.tasks", "models.library", "models.registry", "workers.models_loaded"],
        "deliver": ["workers.tasks"],
    }
    load(SHARED)
    shared = set(sys.modules)
    told = {"shared": sorted(shared), "threads": len(os.listdir("/proc/self/task"))}
    for name, modules in processes.items():
        reading, writing = os.pipe()
        if os.fork() == 0:
            for module in modules:
                importlib.import_module(module)
            with os.fdopen(writing, "w") as file:
                json.dump(sorted(set(sys.modules) - shared), file)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as file:
            told[name] = json.load(file)
    print(json.dumps(told))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")
def test_the_supervisor_loads_before_it_forks_what_two_processes_need_and_nothing_else():
    """What one process alone needs would cost nothing less, and threads don't survive a fork."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_LOADED)], cwd=ROOT, capture_output=True, check=True
    )
    told = json.loads(done.stdout)
    shared, threads = set(told.pop("shared")), told.pop("threads")

    assert threads == 1
    assert shared & {"numpy", "onnxruntime", "fastapi", "alembic", "pydicom", "PIL"} == set()
    for one, other in combinations(told, 2):
        assert set(told[one]) & set(told[other]) == set(), (one, other)
