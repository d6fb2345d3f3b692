"""Generate the table of FHIR R4 search parameters that site files are checked against.

    python scripts/generate_search_parameters.py SEARCH_PARAMETERS OUTPUT [--check]

SEARCH_PARAMETERS is the official `search-parameters.json` of FHIR R4 4.0.1, a Bundle of
SearchParameters. OUTPUT is a CSV file with a line for each type and parameter: `type`, `name`,
`kind`. Those of every type stand under Resource and DomainResource. The same input gives the same
bytes. `--check` compares instead of writing.

Source: http://hl7.org/fhir/R4/searchparameter-registry.html.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_OFFICIAL = "http://hl7.org/fhir/SearchParameter/"


def main() -> int:
    """Write the table, or say whether the one that is there is what the definitions give."""
    parser = argparse.ArgumentParser(description="Generate the table of search parameters.")
    parser.add_argument("definitions", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--check", action="store_true", help="compare, do not write")
    arguments = parser.parse_args()
    rows = sorted(set(_rows(json.loads(arguments.definitions.read_text("utf-8")))))
    text = _csv(rows)
    if arguments.check:
        return 0 if arguments.output.read_text("utf-8") == text else 1
    arguments.output.write_text(text, "utf-8")
    print(f"{len(rows)} parameters of {len({row[0] for row in rows})} types")
    return 0


def _rows(bundle: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for entry in bundle["entry"]:
        resource = entry["resource"]
        if resource["url"].startswith(_OFFICIAL):
            for base in resource["base"]:
                yield base, resource["code"], resource["type"]


def _csv(rows: list[tuple[str, str, str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([("type", "name", "kind"), *rows])
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
