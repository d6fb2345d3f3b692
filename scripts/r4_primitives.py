"""JSON Schema (draft 4) of the primitive types of FHIR R4.

The official patterns, their classes of white space read as ASCII; and where the text of the
standard asks for more than its pattern, that too.

Source: http://hl7.org/fhir/R4/datatypes.html#primitive.
"""

from r4_invariants import Schema

_YEAR = "([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)"
_LEAP_YEAR = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_MONTH = "(0[1-9]|1[0-2])"
# "Dates SHALL be valid dates" (datatypes.html#date): the official pattern lets 2023-02-30 pass.
_DAY = (
    f"({_YEAR}-(((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01]))|((0[469]|11)-(0[1-9]|[12][0-9]|30))"
    f"|(02-(0[1-9]|1[0-9]|2[0-8])))|{_LEAP_YEAR}-02-29)"
)
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)([.][0-9]+)?"
_ZONE = "(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
# "\S" of the official patterns, read as ASCII and without the control characters that
# datatypes.html#string forbids.
_BLACK = r"[^\x00-\x20]"
_TEXT = r"[^\x00-\x08\x0b\x0c\x0e-\x1f]"
_SPACE = r"[ \t\r\n]*"
_DIGIT = f"({_SPACE}[0-9a-zA-Z+/])"
_INTEGERS = {"integer": -(2**31), "unsignedInt": 0, "positiveInt": 1}
_PATTERNS = {
    # The official pattern also takes "=" anywhere.
    "base64Binary": (
        f"({_DIGIT}{{4}})*({_DIGIT}{{4}}|{_DIGIT}{{3}}{_SPACE}=|{_DIGIT}{{2}}{_SPACE}={_SPACE}=){_SPACE}"
    ),
    "canonical": f"{_BLACK}+",
    "code": f"{_BLACK}+([ \\t\\r\\n]{_BLACK}+)*",
    "date": f"({_YEAR}(-{_MONTH})?|{_DAY})",
    "dateTime": f"({_YEAR}(-{_MONTH})?|{_DAY}(T{_TIME}{_ZONE})?)",
    "id": r"[A-Za-z0-9.-]+",
    "instant": f"{_DAY}T{_TIME}{_ZONE}",
    "markdown": f"{_TEXT}+",
    "oid": r"urn:oid:[0-2]([.](0|[1-9][0-9]*))+",
    "string": f"{_TEXT}+",
    "time": _TIME,
    "uri": f"{_BLACK}+",
    "url": f"{_BLACK}+",
    "uuid": "urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "xhtml": r"[ \t\r\n]*<div[ \t\r\n>/][\s\S]*>[ \t\r\n]*",
}
_LONGEST = {"string": 1024 * 1024, "id": 64}
# txt-1: no active content, no document type (narrative.html#security). Comments are allowed.
_FORBIDDEN_TAGS = (
    *("script", "iframe", "frame", "object", "embed", "applet", "form", "input", "button"),
    *("base", "link", "meta", "style", "svg", "!doctype", "!entity"),
)


def _any_case(word: str) -> str:
    """Spell a pattern that ignores case: ECMA patterns have no inline flag for it."""
    return "".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in word)


_ACTIVE_CONTENT = (
    f"<({'|'.join(_any_case(tag) for tag in _FORBIDDEN_TAGS)})"
    f"|<[^>]*[ \\t\\r\\n/]{_any_case('on')}[a-zA-Z]+[ \\t\\r\\n]*="
)


def primitive(name: str) -> Schema:
    """Make the schema of a primitive type by its FHIR name."""
    if name == "boolean":
        return {"type": "boolean"}
    if name == "decimal":
        return {"type": "number"}
    if name in _INTEGERS:
        return {"type": "integer", "minimum": _INTEGERS[name], "maximum": 2**31 - 1}
    schema: Schema = {"type": "string", "pattern": f"^(?:{_PATTERNS[name]})$"}
    if name in _LONGEST:
        schema["maxLength"] = _LONGEST[name]
    if name == "xhtml":
        schema["allOf"] = [{"title": "txt-1", "not": {"pattern": _ACTIVE_CONTENT}}]
    return schema


def nullable(schema: Schema) -> Schema:
    """Let null stand where an array has only an extension."""
    if "enum" in schema:
        return {"enum": [*schema["enum"], None]}
    return {**schema, "type": [schema["type"], "null"]}
