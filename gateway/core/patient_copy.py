"""The cover page of everything that is held of one patient, for her to read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

from gateway.core.page import Markup, card, cards, facts, grid, page, section, shortened, tag, when
from gateway.core.privacy import Privacy

_FILES = (
    ("received/", "each resource as the hospital's record system sent it, byte for byte"),
    ("received.json", "what each of these is, when it came, and its SHA-256"),
    ("results.json", "what models computed, as it was written or was to be written"),
    ("consents.json", "what was recorded here of your consent and refusal"),
    ("break-glass.json", "when a clinician used your data in an emergency, and why"),
    ("cards.json", "what clinicians said of results that were shown while your chart was open"),
    ("jobs.json", "which model was to run on what, how it ended, and why"),
    ("audit.ndjson", "everything that was done with your data, with proofs"),
    ("MANIFEST, MANIFEST.note", "SHA-256 of every file, signed"),
    ("verify_receipt.py", "verifies: python verify_receipt.py audit.ndjson --key audit.pub"),
)


@dataclass(frozen=True)
class ResultLine:
    """One result of a model.

    Attributes:
        says: What it says, in words.
        ended: How its job ended, and why.
    """

    at: datetime
    model: str
    says: str
    ended: str


@dataclass(frozen=True, kw_only=True)
class PatientCopy:
    """What the cover page tells.

    Attributes:
        reference: How the record system names the patient.
        types: Received resources by FHIR type.
        access: When, who, what, ended: what was done with the data, the latest first.
    """

    made_at: datetime
    reference: str
    site: str
    privacy: Privacy | None
    types: dict[str, int]
    results: Sequence[ResultLine] = ()
    consents: int = 0
    access: Sequence[tuple[str, str, str, str]] = field(default_factory=tuple)
    access_in_all: int = 0


def cover(copy: PatientCopy, zone: tzinfo) -> str:
    """Give the page."""
    made = copy.made_at.astimezone(zone).strftime("%-d %B %Y, %H:%M %Z")
    name = copy.privacy.fiduciary if copy.privacy else copy.site
    contact = {"Patient": copy.reference}
    if copy.privacy:
        contact["Questions"] = copy.privacy.officer.line
        contact["Grievances"] = copy.privacy.complaints.line
    shown = f"The latest {len(copy.access)} of {copy.access_in_all}; audit.ndjson has all of them."
    rows = [(_short(each.at, zone), each.model, each.says, each.ended) for each in copy.results]
    return page(
        "What we hold of you",
        tag("h1", "What we hold of you"),
        tag("p", f"{name} · drawn up {made}", kind="lead"),
        tag(
            "p",
            "This is a copy of everything that the AI gateway of the hospital holds of you. Your "
            "medical record itself is in the hospital's record system.",
        ),
        facts(contact),
        cards(
            card(str(sum(copy.types.values())), "resources received"),
            card(str(len(copy.results)), "results of models"),
            card(str(copy.consents), "consents recorded here"),
            card(str(copy.access_in_all), "steps on record"),
        ),
        section(
            "Received from the record system",
            grid(("What", "How many"), [(kind, str(count)) for kind, count in copy.types.items()]),
        ),
        section("Results of models", grid(("When", "Model", "What it says", "How it ended"), rows)),
        section(
            "Who did what with your data",
            tag("p", shown),
            grid(
                ("When", "Who", "What", "Ended"),
                [(when(at), who, shortened(what), end) for at, who, what, end in copy.access],
            ),
        ),
        section("Files of this copy", grid(("File", "What it is"), _FILES)),
        tag(
            "p",
            "If something here is wrong, ask the hospital to correct it; you may also ask for it "
            "to be erased.",
            kind="foot",
        ),
    )


def _short(at: datetime, zone: tzinfo) -> Markup:
    return when(at.astimezone(zone).strftime("%d %b %Y %H:%M %Z"))
