"""Which elements a trigger reads, so that its answer can be remembered instead of worked out.

A hospital sends the same few hundred codes over and over, and evaluating FHIRPath in Python costs
more than everything else that happens to an event on its way in. An expression that reads only
`Observation.code` gives the same answer for every Observation with the same `code`.

That is only claimed where it is certain. The rules, on the text without its string literals:

* every function is one of `_PURE`: what it gives depends on its input alone;
* nothing starts with `$` or `%`, and no function is called on an implied input, so that nothing
  but a named element or the whole resource can be an operand;
* the whole resource appears only as `Type.element…`, or once, at the start, as `Type.where(…)` or
  `Type.exists(…)`, whose answer depends on what stands in the brackets.

Then the answer depends on the top-level elements whose names occur in the expression, and on
nothing else. Any other expression is evaluated every time.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from threading import Lock
from typing import Any

import orjson

_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'|@[0-9T:.+Z-]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CALL = re.compile(r"(?P<dot>\.?)\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*\(")
_KEYWORDS_BEFORE_BRACKET = frozenset({"and", "or", "xor", "implies", "in", "contains"})
_PURE = frozenset(
    {
        "all",
        "as",
        "count",
        "empty",
        "endsWith",
        "exists",
        "first",
        "is",
        "last",
        "not",
        "ofType",
        "single",
        "startsWith",
        "where",
    }
)
_MOST_REMEMBERED = 4096
_MOST_NAMES = 1024

Answer = Callable[[Mapping[str, Any]], bool]


def elements_read(expression: str, root: str | None) -> frozenset[str] | None:
    """Give the names of the elements that decide an expression; None when that is not certain.

    Args:
        expression: FHIRPath.
        root: The resource type that it starts with.
    """
    text = _LITERAL.sub("''", expression).strip()
    if root is None or any(sign in text for sign in "$%`/"):
        return None
    if not (_calls_are_pure(text) and _whole_is_only_filtered(text, root)):
        return None
    return frozenset(_NAME.findall(text)) - {root}


def _calls_are_pure(text: str) -> bool:
    for call in _CALL.finditer(text):
        is_operator = not call["dot"] and call["name"] in _KEYWORDS_BEFORE_BRACKET
        if not is_operator and not (call["dot"] and call["name"] in _PURE):
            return False
    return True


def _whole_is_only_filtered(text: str, root: str) -> bool:
    mentions = list(re.finditer(rf"\b{root}\b", text))
    followers = [re.match(r"\s*\.\s*([a-z]\w*)\s*(\(?)", text[m.end() :]) for m in mentions]
    if any(follower is None for follower in followers):
        return False
    called = [follower[1] for follower in followers if follower and follower[2]]
    if not called:
        return True
    is_first_and_only = len(mentions) == 1 and mentions[0].start() == 0
    return is_first_and_only and called[0] in {"where", "exists"} and _closes_at_end(text)


def _closes_at_end(text: str) -> bool:
    """Say whether the first bracket closes at the end of the text."""
    depth = 0
    for position, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if sign == ")" and depth == 0:
            return position == len(text) - 1
    return False


class Remembered:
    """A trigger that works out its answer once per distinct value of what it reads.

    What is kept is a digest of those elements and the answer, never the elements.
    """

    def __init__(
        self, names: frozenset[str], evaluate: Callable[[Mapping[str, Any]], bool]
    ) -> None:
        self._names = names
        self._evaluate = evaluate
        self._lock = Lock()
        self._answers: dict[bytes, bool] = {}
        self._reads = lru_cache(maxsize=_MOST_NAMES)(self._is_read)

    def __call__(self, content: Mapping[str, Any]) -> bool:
        """Say whether the resource matches."""
        try:
            read = {key: content[key] for key in content if self._reads(key)}
            key = hashlib.blake2b(orjson.dumps(read), digest_size=16).digest()
        except TypeError:
            # Numbers beyond 64 bits and the like: rare enough to be worked out each time.
            return self._evaluate(content)
        answer = self._answers.get(key)
        if answer is None:
            answer = self._evaluate(content)
            self._keep(key, answer)
        return answer

    def _is_read(self, key: str) -> bool:
        """Say whether a property of the JSON belongs to a named element: `value` is `valueX`."""
        plain = key.removeprefix("_")
        return plain == "resourceType" or any(
            plain == name or (plain.startswith(name) and plain[len(name)].isupper())
            for name in self._names
        )

    def _keep(self, key: bytes, answer: bool) -> None:
        with self._lock:
            if len(self._answers) >= _MOST_REMEMBERED:
                self._answers.clear()
            self._answers[key] = answer
