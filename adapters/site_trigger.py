"""A route's `match`: FHIRPath, checked when the site file is read and compiled once.

Rules of a trigger:

* it is evaluated against one received resource, and matches when it gives anything but nothing or
  `false`;
* it may name one resource type at its start; resources of other types are not even evaluated;
* `matches`, `replaceMatches` and `repeat` are refused, since content chosen by a sender could
  make them run for hours; `trace` and `%` variables too: nothing of a patient may be printed;
* an expression that fails on a resource does not match it, and the failure is counted;
* where it is certain which elements decide (`trigger_memory`), an answer is worked out once.

Source: FHIRPath N1 (http://hl7.org/fhirpath/N1/), as `fhirpathpy` implements it.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, cast

import fhirpathpy
from antlr4 import CommonTokenStream, InputStream  # type: ignore[import-untyped]
from antlr4.error.ErrorListener import ErrorListener  # type: ignore[import-untyped]
from fhirpathpy.engine.invocations import invocation_registry as _registry
from fhirpathpy.parser import parse
from fhirpathpy.parser.generated.FHIRPathLexer import FHIRPathLexer
from fhirpathpy.parser.generated.FHIRPathParser import FHIRPathParser

from adapters.site_yaml import suggestion
from adapters.trigger_memory import Remembered, elements_read
from gateway.core.routing import leading_type

_REFUSED = {
    "matches": "compare with =, startsWith() or contains() instead",
    "replaceMatches": "compare with =, startsWith() or contains() instead",
    "repeat": "write the path out instead",
    "trace": "it would print patients' values",
}
_MAX_LENGTH = 4000
_FUNCTIONS = cast("Mapping[str, Mapping[str, Any]]", _registry)


class Trigger:
    """A compiled expression: call it with a resource to learn whether it matches.

    Attributes:
        expression: The FHIRPath as it was written.
        failures: How often it could not be evaluated since it was compiled.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.failures = 0
        self._evaluate = fhirpathpy.compile(expression, _r4_model(), {"returnRawData": True})
        names = elements_read(expression, leading_type(expression))
        self._answer = self._decide if names is None else Remembered(names, self._decide)

    def __call__(self, content: Mapping[str, Any]) -> bool:
        """Say whether the resource matches; one that can't be evaluated does not."""
        return self._answer(content)

    def _decide(self, content: Mapping[str, Any]) -> bool:
        return self.explain(content) is None

    def explain(self, content: Mapping[str, Any]) -> str | None:
        """Say why a resource does not match, None when it does; never with a value of it."""
        try:
            found = self._evaluate(content, None)
        except Exception as error:  # noqa: BLE001 - fhirpathpy raises bare Exception for everything
            self.failures += 1
            return f"the expression can't be evaluated on it ({type(error).__name__})"
        if not found:
            return "the expression gives nothing"
        is_match = any(getattr(item, "data", item) is not False for item in found)
        return None if is_match else "the expression gives false"


def check(expression: str) -> list[str]:
    """List what is wrong with an expression, with positions where the grammar knows them."""
    if len(expression) > _MAX_LENGTH:
        return [f"is longer than {_MAX_LENGTH} characters"]
    return _syntax_errors(expression) or [*_node_errors(_tree(expression))]


def names_no_criterion(expression: str) -> bool:
    """Say whether a valid expression matches every resource that it looks at: `Observation`."""
    tree = _tree(expression)
    members = [node for node in _walk(tree) if node.get("type") == "MemberInvocation"]
    if {str(member["children"][0]["text"]) for member in members} - resource_types():
        return False
    return Trigger(expression)({"resourceType": leading_type(expression) or "Basic"})


@cache
def resource_types() -> frozenset[str]:
    """Give the names of the R4 resource types."""
    parents: dict[str, str] = _r4_model()["type2Parent"]
    return frozenset(
        name for name, parent in parents.items() if parent in ("DomainResource", "Resource")
    ) - {"DomainResource"}


@cache
def element_names() -> frozenset[str]:
    """Give the names of all elements of R4, in whatever type they stand."""
    model = _r4_model()
    paths = [*model["path2Type"], *model["choiceTypePaths"], *model["pathsDefinedElsewhere"]]
    return frozenset(name for path in paths for name in path.split(".")[1:]) | {"resourceType"}


@cache
def _r4_model() -> dict[str, Any]:
    """Load the R4 model alone: `fhirpathpy.models` would load four FHIR versions (7 MB)."""
    folder = files(fhirpathpy) / "models" / "r4"
    return {
        item.name.removesuffix(".json"): json.loads(item.read_text("utf-8"))
        for item in folder.iterdir()
        if item.name.endswith(".json")
    }


class _Listener(ErrorListener):  # type: ignore[misc]  # antlr4 has no types
    """Collects what the parser complains of; fhirpathpy's own listener drops it."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def syntaxError(  # noqa: N802 - the name and arguments are antlr's
        self,
        recognizer: object,  # noqa: ARG002 - antlr's
        symbol: object,
        line: int,
        column: int,
        message: str,
        error: object,  # noqa: ARG002 - antlr's
    ) -> None:
        """Keep one complaint with its position."""
        token = getattr(symbol, "text", None)
        what = _lexical(message) if token is None else f"unexpected {_name(token)}"
        self.errors.append(f"FHIRPath syntax at line {line}, column {column + 1}: {what}")


def _lexical(message: str) -> str:
    """Word what the lexer says; it reads an open quote to the end before it gives up."""
    rest = message.removeprefix("token recognition error at: '")
    return "the quote is never closed" if rest[:1] in ("'", "`") else message


def _name(token: str) -> str:
    return "end of the expression" if token == "<EOF>" else f"'{token}'"  # noqa: S105 - a token


def _syntax_errors(expression: str) -> list[str]:
    """Parse the whole expression; fhirpathpy alone stops silently where it understands no more."""
    listener = _Listener()
    lexer = FHIRPathLexer(InputStream(expression))
    lexer.removeErrorListeners()
    lexer.addErrorListener(listener)
    parser = FHIRPathParser(CommonTokenStream(lexer))
    parser.removeErrorListeners()
    parser.addErrorListener(listener)
    parser.entireExpression()  # type: ignore[no-untyped-call]  # generated code
    return listener.errors[:1]


def _tree(expression: str) -> Mapping[str, Any]:
    tree: Mapping[str, Any] = parse(expression)  # type: ignore[no-untyped-call]  # has no types
    return tree


def _node_errors(tree: Mapping[str, Any]) -> Iterator[str]:
    roots = dict.fromkeys(_roots(tree))
    for root in roots:
        if root not in resource_types():
            yield f"unknown resource type '{root}'{suggestion(root, resource_types())}"
    if len(roots) > 1:
        yield f"names {len(roots)} resource types; write one route for each"
    for node in _walk(tree):
        yield from _function_errors(node)
        yield from _element_errors(node)


def _element_errors(node: Mapping[str, Any]) -> Iterator[str]:
    """Say what is no element of any resource: a route with it would never run, in silence."""
    if node.get("type") != "MemberInvocation":
        return
    name = str(node["children"][0]["text"]).strip("`")
    # What begins with a capital letter is a type.
    if not name[:1].isupper() and name not in element_names():
        yield f"no element of FHIR R4 is called '{name}'{suggestion(name, element_names())}"


def _function_errors(node: Mapping[str, Any]) -> Iterator[str]:
    if node.get("type") == "ExternalConstant":
        yield "variables (%…) are not available in a trigger"
    if node.get("type") != "Functn":
        return
    name = str(node["children"][0]["text"])
    if name in _REFUSED:
        yield f"{name}() is not allowed in a trigger: {_REFUSED[name]}"
    elif name not in _FUNCTIONS:
        yield f"unknown function {name}(){suggestion(name, _FUNCTIONS)}"
    else:
        yield from _arity_errors(name, node["children"][1:])


def _arity_errors(name: str, params: list[Mapping[str, Any]]) -> Iterator[str]:
    entry = _FUNCTIONS[name]
    given = len(params[0]["children"]) if params else 0
    if "variadic" in entry:
        return
    arities = set(entry.get("arity", {0: []}))
    if given not in arities:
        wanted = " or ".join(str(number) for number in sorted(arities))
        yield f"{name}() takes {wanted} arguments, not {given}"


def _walk(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("children", ()):
        yield from _walk(child)


def _roots(node: Mapping[str, Any]) -> Iterator[str]:
    """Give the capitalised names that paths start with; types in `ofType(X)` and `is X` are not."""
    kind = node.get("type")
    if kind == "TypeSpecifier" or _is_type_function(node):
        return
    if kind == "TermExpression" and str(node.get("text", ""))[:1].isupper():
        yield str(node["text"])
        return
    for child in node.get("children", ()):
        yield from _roots(child)


def _is_type_function(node: Mapping[str, Any]) -> bool:
    if node.get("type") != "Functn":
        return False
    return node["children"][0]["text"] in ("ofType", "is", "as")
