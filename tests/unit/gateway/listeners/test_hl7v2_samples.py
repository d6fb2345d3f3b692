"""Every message of the shared data over a real socket: none is lost, none crashes the listener."""

import base64
from collections import Counter
from pathlib import Path

import pytest

from adapters.hl7v2.message import header_alone
from tests.bad_tables import DOCS
from tests.conftest import Api, shared_data
from tests.hl7v2_differences import GROUPS, compared, summary, table
from tests.listening import FED_SITE, Feed, exchange, listening

#: A site whose laboratory has patients of its own, and takes training messages too.
SITE = FED_SITE.replace("of: ehr, ", "").replace(
    "timezone: Asia/Kolkata", "timezone: UTC, accept: [P, T, D]"
)
#: Kinds of messages that Nadi does not take: charges, pharmacy orders, referrals, problems.
NOT_TAKEN = {"BAR", "DFT", "PPR", "RDE", "REF"}
#: Of the facts in the Bundles of each group of pairs, so many are found in ours, and so many
#: Bundles have every one. What is not found is listed, by kind, in docs/hl7v2.md.
FOUND = {"HL7_to_FHIR": (1323, 0), "mappinginventory": (505, 114), "FHIR_to_HL7": (1727, 0)}


@pytest.mark.parametrize("api", [SITE], indirect=True)
def test_every_message_is_answered_and_what_is_acknowledged_is_stored(api: Api):
    files = _files("hl7v2-samples") + _files("hl7v2-pairs")

    with listening(api, SITE) as feed, feed.connected() as connection:
        codes = {file.stem: _answered(connection, file.read_bytes()) for file in files}
        bundles = _bundles(feed)

    refused = {name for name, code in codes.items() if code not in {"AA", "CA", ""}}
    assert Counter(codes[name] for name in refused) == {"AR": 15}
    assert {name.partition("-")[0] for name in refused - {"PC1"}} <= NOT_TAKEN | {"PC1"}
    assert bundles.keys() == {each.read_bytes() for each in files if each.stem not in refused}
    found = {group: compared(group, bundles) for group in GROUPS}
    assert {group: (each.found, each.whole) for group, each in found.items()} == FOUND
    page = (DOCS / "hl7v2.md").read_text()
    assert summary(found) in page, "run: python -m tests.hl7v2_differences"
    assert table(found) in page, "run: python -m tests.hl7v2_differences"


def _files(folder: str) -> list[Path]:
    return sorted(shared_data(folder).glob("*.hl7"))


def _answered(connection, content: bytes) -> str:
    """Send a message; give the last of the codes that answer it, empty where it wants none."""
    header = header_alone(content).header
    asked = header.text(15), header.text(16)
    count = sum(each == "AL" for each in asked) if any(asked) else 1
    answers = exchange(connection, content, count) if count else _told_nothing(connection, content)
    codes = [line.split("|")[1] for each in answers for line in each.split("\r") if "MSA|" in line]
    return codes[-1] if codes else ""


def _told_nothing(connection, content: bytes) -> list[str]:
    connection.sendall(b"\x0b" + content + b"\x1c\r")
    return []


def _bundles(feed: Feed) -> dict[bytes, dict]:
    """Give the resources of each message, by its bytes as they are kept in its Binary."""
    by_version: dict[str, list[dict]] = {}
    for event in feed.events():
        by_version.setdefault(event["meta"]["versionId"], []).append({"resource": event})
    found = {}
    for entries in by_version.values():
        binaries = [e["resource"] for e in entries if e["resource"]["resourceType"] == "Binary"]
        found[base64.b64decode(binaries[0]["data"])] = {"entry": entries}
    return found
