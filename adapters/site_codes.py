"""Local codes of a hospital that stand in a CSV file beside the site file.

The file has the columns `code`, `loinc` and, where the codes have a system, `system`. It is read
when a site file is validated, planned or applied; what is applied carries the rows itself.

Source: RFC 4180.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from adapters.loinc import is_checked, said_of
from adapters.site_model import LocalCode
from adapters.site_yaml import Document, Problem
from adapters.text_file import read_text_file


def csv_codes(document: Document, folder: Path | None) -> tuple[list[LocalCode], list[Problem]]:
    """Read the rows of `codes.csv` and what is wrong with them; none when there is no such key."""
    value: Any = document.value
    codes = value.get("codes") if isinstance(value, dict) else None
    name = codes.get("csv") if isinstance(codes, dict) else None
    if not isinstance(name, str) or not name:
        return [], []
    at = ("codes", "csv")
    if folder is None:
        reason = "a CSV file is read by `nadi site apply`; elsewhere write the codes as `map`"
        return [], [document.problem(at, reason)]
    text = read_text_file(folder / name)
    if text is None:
        return [], [document.problem(at, f"the file '{name}' can't be read")]
    return _parse_csv(text, name, _mapped(codes or {}))


def _mapped(codes: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Give system and code of the rows that are written out in the site file itself."""
    written = codes.get("map")
    rows = [row for row in written if isinstance(row, dict)] if isinstance(written, list) else []
    return {(str(row.get("system", "")), str(row.get("code", ""))) for row in rows}


def _parse_csv(
    text: str, name: str, known: set[tuple[str, str]]
) -> tuple[list[LocalCode], list[Problem]]:
    reader = csv.DictReader(io.StringIO(text), restkey="", strict=True)
    wanted = {"code", "loinc"}
    if not wanted <= set(reader.fieldnames or ()):
        return [], [Problem(name, 1, 1, "", "needs the columns code, loinc and, if any, system")]
    rows: list[LocalCode] = []
    problems: list[Problem] = []
    try:
        for row in reader:
            read = _read_row(row, at=(name, reader.line_num))
            problems += read if isinstance(read, list) else []
            if isinstance(read, LocalCode):
                rows.append(read)
                if (read.system, read.code) in known:
                    problems.append(Problem(name, reader.line_num, 1, "code", "is mapped already"))
                known.add((read.system, read.code))
    except csv.Error as error:
        problems.append(Problem(name, reader.line_num, 1, "", f"is not CSV: {error}"))
    return rows, problems


def _read_row(row: Mapping[str, Any], *, at: tuple[str, int]) -> LocalCode | list[Problem]:
    more = row.get("")
    if isinstance(more, list) and any(more):
        return [Problem(*at, 1, "", "has more columns than the first line: is a comma too many?")]
    known = {key: (row.get(key) or "").strip() for key in ("system", "code", "loinc")}
    try:
        code = LocalCode(**known)
    except ValidationError as error:
        issues = error.errors(include_url=False, include_input=False, include_context=False)
        return [Problem(*at, 1, str(issue["loc"][0]), _words(issue, known)) for issue in issues]
    if not is_checked(code.loinc):
        return [Problem(*at, 1, "loinc", said_of(code.loinc))]
    return code


def _words(issue: ErrorDetails, row: Mapping[str, str]) -> str:
    key = str(issue["loc"][0])
    if not row[key]:
        return "is empty"
    is_pattern = issue["type"] == "string_pattern_mismatch"
    return "must be a LOINC code, such as 2160-0" if is_pattern and key == "loinc" else issue["msg"]
