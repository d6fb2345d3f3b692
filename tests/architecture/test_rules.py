"""Rules that no linter knows: where commits, the environment and log calls may stand."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from gateway.telemetry import ALLOWED_KEYS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "workers", "adapters", "models")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SETTINGS = ROOT / "gateway" / "settings.py"
UNIT_OF_WORK = ROOT / "gateway" / "store" / "unit_of_work.py"
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
LOGGERS = {"log", "_log", "logger", "_logger"}
EVENT_NAME = re.compile(r"[a-z][a-z0-9 .-]{2,60}")

MethodCall = tuple[str, ast.Call, ast.Attribute]


def _calls(*modules: Path) -> Iterator[MethodCall]:
    """Give every call of a method, and where it stands."""
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield f"{module.relative_to(ROOT)}:{node.lineno}", node, node.func


def _log_calls() -> Iterator[tuple[str, ast.Call]]:
    for place, call, method in _calls(*MODULES):
        if method.attr in LOG_METHODS and _owner(method) in LOGGERS:
            yield place, call


def _owner(method: ast.Attribute) -> str:
    owner = method.value
    if isinstance(owner, ast.Attribute):
        return owner.attr
    return owner.id if isinstance(owner, ast.Name) else ""


def _matching(pattern: str, *modules: Path) -> list[str]:
    return [
        f"{module.relative_to(ROOT)}:{number}"
        for module in modules
        for number, line in enumerate(module.read_text("utf-8").splitlines(), start=1)
        if re.search(pattern, line)
    ]


def test_only_the_unit_of_work_commits():
    others = (module for module in MODULES if module != UNIT_OF_WORK)

    assert [place for place, _, method in _calls(*others) if method.attr == "commit"] == []


def test_files_that_only_their_owner_may_read_are_made_in_one_place():
    """`models.signature` makes a key too: the models import nothing of the gateway."""
    allowed = {ROOT / "gateway" / "private_file.py", ROOT / "models" / "signature.py"}

    assert _matching(r"O_EXCL", *(module for module in MODULES if module not in allowed)) == []


def test_only_the_settings_read_the_environment():
    others = (module for module in MODULES if module != SETTINGS)

    assert _matching(r"\bos\.(environ|getenv|putenv)\b", *others) == []


def test_the_event_of_a_log_line_is_a_literal_name():
    unnamed = [
        place
        for place, call in _log_calls()
        if len(call.args) != 1
        or not isinstance(call.args[0], ast.Constant)
        or not EVENT_NAME.fullmatch(str(call.args[0].value))
    ]

    assert unnamed == []


def test_no_log_call_names_a_key_that_would_be_dropped():
    dropped = {
        place: keys
        for place, call in _log_calls()
        if (keys := {keyword.arg for keyword in call.keywords} - ALLOWED_KEYS - {"exc_info"})
    }

    assert dropped == {}


def test_nothing_is_left_to_do():
    assert _matching(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", *MODULES) == []


def test_tests_use_real_parts_or_fakes_never_mocks():
    others = (test for test in TESTS if test != Path(__file__).resolve())

    assert _matching(r"\bunittest\.mock\b|\bMagicMock\b|\bimport mock\b", *others) == []
