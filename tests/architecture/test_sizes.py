"""Modules and functions stay small enough to be read."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "workers", "adapters", "models")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MOST_LINES_OF_A_MODULE = 400
MOST_LINES_OF_A_FUNCTION = 50


def test_a_module_has_at_most_400_lines_that_say_something():
    said = {
        str(module.relative_to(ROOT)): len([x for x in _source(module).splitlines() if x.strip()])
        for module in MODULES
    }

    assert {name: n for name, n in said.items() if n > MOST_LINES_OF_A_MODULE} == {}


def test_a_function_has_at_most_50_lines():
    lengths = {
        f"{module.relative_to(ROOT)}:{node.lineno} {node.name}": _lines(node)
        for module in MODULES
        for node in ast.walk(ast.parse(_source(module)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert {name: n for name, n in lengths.items() if n > MOST_LINES_OF_A_FUNCTION} == {}


def _source(module: Path) -> str:
    return module.read_text("utf-8")


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without its docstring, which may be as long as it needs."""
    first = function.body[0]
    docstring = ast.get_docstring(function, clean=False)
    said = (first.end_lineno or 0) - first.lineno + 1 if docstring is not None else 0
    return (function.end_lineno or 0) - function.lineno + 1 - said
