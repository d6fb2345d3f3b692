"""What a laboratory sends that can't be taken, and its answer: a table of docs/hl7v2.md."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.listening import FED_SITE

_MOST = 10_000
#: Limit of the gateway under test.
MOST_ENTRIES = 50
SITE = FED_SITE.replace("port: 2575", f"port: 2575, max_bytes: {_MOST}")
SEARCHING = SITE.replace("find: id", "find: search")
ORU = b"""\
MSH|^~\\&|LIS|CITY LAB|NADI|HOSPITAL|20250126093000||ORU^R01^ORU_R01|M-2|P|2.5.1
PID|1||p1^^^HOSP^MR||EVERYWOMAN^EVE||19610615|F
OBR|1|P-7|F-7|24323-8^Metabolic panel^LN|||20250126090000|||||||||||||||20250126092500|||F
OBX|1|NM|2160-0^Creatinine^LN||1.50|mg/dL^^UCUM|0.6-1.2|H|||F
""".replace(b"\n", b"\r")


@dataclass(frozen=True)
class BadMessage:
    """One case.

    Attributes:
        what: For the table; unique.
        message: As it is sent.
        code: Of the acknowledgement.
        err: Code and place of the ERR segment.
        is_searched: Whether the site has patients searched, in an EHR that refuses.
    """

    what: str
    message: bytes
    code: str
    err: str
    is_searched: bool = False


def changed(old: bytes, new: bytes) -> bytes:
    """Give the message with some of it replaced."""
    assert old in ORU
    return ORU.replace(old, new)


def cases() -> Iterator[BadMessage]:
    """Give every case."""
    yield from _shapes()
    yield from _characters()
    yield from _headers()
    yield from _contents()


def _shapes() -> Iterator[BadMessage]:
    yield BadMessage("nothing", b"", "AE", "100 MSH^1")
    yield BadMessage("no MSH at the beginning", b"GET / HTTP/1.1", "AE", "100 MSH^1")
    yield BadMessage("an MSH that is too short", b"MSH|^~", "AE", "100 MSH^1")
    yield BadMessage("a segment without a name", changed(b"\rPID", b"\rpid"), "AE", "100 MSH^1")
    yield BadMessage("a second MSH", ORU + ORU, "AE", "100 MSH^2")
    yield BadMessage(
        "MSH-1 and MSH-2 that are not four to six different marks",
        changed(b"^~\\&", b"^^\\&"),
        "AE",
        "102 MSH^1^2",
    )
    large = changed(b"EVERYWOMAN", b"E" * 2 * _MOST)
    yield BadMessage("larger than `max_bytes`", large, "AE", "102 MSH^1")


def _characters() -> Iterator[BadMessage]:
    def named(charset: bytes) -> bytes:
        return changed(b"2.5.1\r", b"2.5.1||||||" + charset + b"\r")

    strange = changed(b"EVE|", b"EV\xc9|")
    yield BadMessage("bytes that are not in the character set named", strange, "AE", "102 MSH^1^18")
    yield BadMessage("a character set that is not known", named(b"8859/99"), "AE", "103 MSH^1^18")
    yield BadMessage(
        "UTF-16 or UTF-32 as the character set named",
        named(b"UNICODE UTF-16"),
        "AR",
        "103 MSH^1^18",
    )
    yield BadMessage(
        "a message that is UTF-16", ORU.decode().encode("utf-16"), "AR", "103 MSH^1^18"
    )


def _headers() -> Iterator[BadMessage]:
    kind = b"ORU^R01^ORU_R01"
    yield BadMessage("no control id", changed(b"|M-2|", b"||"), "AE", "101 MSH^1^10")
    yield BadMessage("no message code in MSH-9", changed(kind, b""), "AE", "101 MSH^1^9")
    yield BadMessage("no trigger event", changed(kind, b"ORU"), "AR", "201 MSH^1^9")
    for other in ("BAR^P01", "DFT^P03", "PPR^PC1", "RDE^O11", "REF^I12"):
        name = other.partition("^")[0]
        yield BadMessage(
            f"{name}, which is not converted", changed(kind, other.encode()), "AR", "200 MSH^1^9"
        )
    yield BadMessage(
        "MSH-11 that the site does not accept", changed(b"|P|", b"|T|"), "AR", "202 MSH^1^11"
    )
    yield BadMessage("a version that is not 2.x", changed(b"|2.5.1", b"|3.0"), "AR", "203 MSH^1^12")


def _contents() -> Iterator[BadMessage]:
    header, patient, *results = ORU.splitlines(keepends=True)
    yield BadMessage(
        "an order, a result, a document or a vaccination before its PID",
        b"".join([header, *results, patient]),
        "AE",
        "100 PID^1",
    )
    line = b"OBX|%d|NM|2160-0^Creatinine^LN|%d|1.5|mg/dL^^UCUM||||||F\r"
    many = ORU + b"".join(line % (at, at) for at in range(2, 2 * MOST_ENTRIES))
    yield BadMessage(
        "what the gateway refuses as FHIR, such as more resources than its limit",
        many,
        "AE",
        "102 MSH^1",
    )
    yield BadMessage(
        "a patient whose EHR refuses the search for her", ORU, "AR", "207 PID^1^3", is_searched=True
    )


def table() -> str:
    """Write the table."""
    lines = ["| sent | answer | ERR |", "|---|---|---|"]
    lines += [f"| {case.what} | {case.code} | {case.err} |" for case in cases()]
    return "\n".join(lines) + "\n"
