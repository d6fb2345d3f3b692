"""Read YAML so that every problem in it can be pointed at: file, line, column and key path.

Rules: a key may stand only once in its mapping; anchors, aliases and tags are refused (a site file
says what it means where it says it); a document is at most 1 MiB.

Source: YAML 1.2.2 (https://yaml.org/spec/1.2.2/).
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.core.errors import ConfigurationError, Issue

#: Keys and list positions from the document's root.
Path = tuple[str | int, ...]
#: Line and column, from 1.
Position = tuple[int, int]

_MAX_BYTES = 2**20
_MAX_DEPTH = 20
#: So many letters tell which word was begun.
_BEGUN = 3
#: What others call the same, by our word for it; offered only where that may stand.
_OTHER_WORDS = {
    "permit": ("allow", "allowed", "accept", "grant", "opt-out", "yes"),
    "allow": ("permit", "accept", "grant", "yes"),
    "deny": ("refuse", "reject", "forbid", "block", "disallow", "opt-in", "no"),
    "fhir-rest": ("rest", "http", "https", "r4", "ehr", "api", "epic", "cerner"),
    "hl7v2": ("mllp", "mllps", "v2", "lis", "lab", "astm"),
    "dicom": ("pacs", "dimse", "ris", "modality"),
    "folder": ("file", "files", "csv", "drop", "directory", "sftp"),
    "smart-backend": ("smart", "jwt", "private-key-jwt"),
    "client-credentials": ("oauth", "oauth2", "oidc"),
    "bearer": ("token", "api-key", "apikey"),
    "basic": ("password", "user", "userpass"),
    "none": ("no", "off", "false", "anonymous", "open"),
    "stat": ("emergency", "immediate", "critical"),
    "urgent": ("high", "soon"),
    "routine": ("normal", "low", "default"),
}


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong in a file.

    Attributes:
        source: Name of the file.
        line: From 1.
        column: From 1.
        path: Keys from the root, joined by dots.
        message: What is wrong and how to mend it; never a secret.
    """

    source: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        """Give it as compilers do, so that an editor can jump to it."""
        key = f" {self.path}:" if self.path else ""
        return f"{self.source}:{self.line}:{self.column}:{key} {self.message}"


class SiteInvalid(ConfigurationError):
    """The site file has problems; each is named with file, line and key."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @property
    def issues(self) -> tuple[Issue, ...]:
        """One issue per problem."""
        return tuple(Issue("invalid", str(problem)) for problem in self.problems)


@dataclass(frozen=True)
class Document:
    """A parsed file and where each of its keys stands."""

    source: str
    value: Any
    positions: Mapping[Path, Position] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def at(self, path: Path) -> object:
        """Give what is written at a path; None where nothing is."""
        here: object = self.value
        for step in path:
            if isinstance(here, dict):
                here = here.get(step)
            elif isinstance(here, list) and isinstance(step, int) and step < len(here):
                here = here[step]
            else:
                return None
        return here

    def problem(self, path: Path, message: str) -> Problem:
        """Make a problem at a path, or at its nearest ancestor that is in the file."""
        known = path
        while known and known not in self.positions:
            known = known[:-1]
        line, column = self.positions.get(known, (1, 1))
        return Problem(self.source, line, column, dotted(path), message)


def read_yaml(text: str, source: str) -> Document:
    """Parse one document into plain values with positions.

    Raises:
        SiteInvalid: It is not YAML, or too large.
    """
    if len(text.encode()) > _MAX_BYTES:
        raise SiteInvalid([Problem(source, 1, 1, "", "is larger than 1 MiB")])
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = True
    try:
        node = yaml.compose(text)
        reader = _Reader(source)
        reader.visit(node, ())
        value = None if reader.refused else yaml.load(text)
    except YAMLError as error:
        raise SiteInvalid([_yaml_problem(error, source)]) from error
    if reader.refused:
        raise SiteInvalid(reader.problems)
    return Document(source, value, reader.positions, tuple(reader.problems))


def dotted(path: Path) -> str:
    """Join a path as people write it: `routes.ckd.sink`, `codes.map[2].loinc`."""
    words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return words.removeprefix(".")


def meant(word: str, known: Iterable[str]) -> str:
    """Offer the known word that was probably meant; nothing when none is near.

    One that goes on where what was written ends is nearer than one with other letters.
    """
    lower = {each.lower(): each for each in sorted(known)}
    begun = word.lower()
    longer = [each for each in lower if each.startswith(begun) and len(begun) >= _BEGUN]
    close = sorted(longer, key=len) or difflib.get_close_matches(begun, lower, n=1, cutoff=0.6)
    close = close or [ours for ours in _our_words(begun) if ours in lower]
    return f"; did you mean '{lower[close[0]]}'?" if close else ""


def _our_words(word: str) -> list[str]:
    return [ours for ours, others in _OTHER_WORDS.items() if word in others]


def suggestion(word: str, known: Iterable[str]) -> str:
    """Offer the known word that was probably meant, or all of them when they are few."""
    words = sorted(known)
    close = meant(word, words)
    if close:
        return close
    few = 8
    return f"; known: {', '.join(words)}" if 0 < len(words) <= few else ""


class _Reader:
    """Walks the node graph: positions, duplicate keys, and what is refused."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.positions: dict[Path, Position] = {}
        self.problems: list[Problem] = []
        self.refused = False
        self._seen: set[int] = set()

    def visit(self, node: Node | None, path: Path) -> None:
        """Note a node and what is below it."""
        if node is None:
            return
        self.positions.setdefault(path, _position(node))
        if id(node) in self._seen or node.anchor:
            self._refuse(node, path, "anchors and aliases are not allowed; write the value out")
            return
        if len(path) > _MAX_DEPTH:
            self._refuse(node, path, "is nested too deeply")
            return
        self._seen.add(id(node))
        if isinstance(node, MappingNode):
            self._visit_mapping(node, path)
        elif isinstance(node, SequenceNode):
            for index, item in enumerate(node.value):
                self.visit(item, (*path, index))

    def _visit_mapping(self, node: MappingNode, path: Path) -> None:
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._refuse(key, path, "a key must be a plain word")
                continue
            name = str(key.value)
            if name in lines:
                message = f"stands twice in this mapping (first on line {lines[name]})"
                self._complain(key, (*path, name), message)
                continue
            lines[name] = _position(key)[0]
            self.positions[(*path, name)] = _position(key)
            self.visit(value, (*path, name))

    def _refuse(self, node: Node, path: Path, message: str) -> None:
        self.refused = True
        self._complain(node, path, message)

    def _complain(self, node: Node, path: Path, message: str) -> None:
        self.problems.append(Problem(self.source, *_position(node), dotted(path), message))


def _position(node: Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _yaml_problem(error: YAMLError, source: str) -> Problem:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    what = error.problem if isinstance(error, MarkedYAMLError) else None
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return Problem(source, line, column, "", f"is not YAML: {what or type(error).__name__}")
