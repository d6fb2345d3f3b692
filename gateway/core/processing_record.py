"""The record of processing: what personal data is processed here, why, by which model, for whom.

Everything in it is read out of the configuration and the register, so that it is never older than
what runs; what the configuration leaves open is listed as missing.

Source: DPDP Act 2023, s.4-8 and DPDP Rules 2025, Rules 3, 6, 8, 9, 15; ABDM Health Data Management
Policy 27 (record keeping); ICMR Ethical Guidelines for AI 2023 (human oversight).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from gateway.core.page import Markup, card, cards, facts, grid, joined, listed, page, section, tag
from gateway.core.privacy import Privacy
from gateway.core.retention import TERMS, Retention

Json = dict[str, object]

#: What the gateway does by itself; a hospital adds its own.
OWN_MEASURES = (
    "Everything of a patient is sealed with AES-256-GCM under a key of hers; destroying it erases.",
    "Patients stand in logs, metrics and the audit log as keyed hashes only.",
    "Consent is asked at admission, before data is opened, and before a result is written.",
    "Every access and every step is in an append-only, signed Merkle log; reading it too.",
    "Five roles, each with its own permissions; whoever configures can't read the audit log.",
    "Models run on the hospital's own processors; no data is sent to their makers.",
)


@dataclass(frozen=True, kw_only=True)
class Activity:
    """One route: one purpose, one model, one recipient.

    Attributes:
        purpose: v3-ActReason code.
        purpose_in_words: What that means.
        basis: Legal basis, in words.
        source: What starts it, in words.
        trigger: FHIRPath of the site file, which says the same exactly.
        categories: Which data of a patient the model reads.
        done: Jobs of the last year that gave a result.
        refused: Those that were refused or stopped.
        reviews: What became of its reviews, where each use is reviewed.
    """

    route: str
    purpose: str
    purpose_in_words: str
    basis: str
    source: str
    trigger: str
    categories: tuple[str, ...]
    model: str
    recipient: str
    done: int
    refused: int
    reviews: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelLine:
    """A model as the register has it."""

    reference: str
    title: str
    intended_use: str
    not_for: str
    manufacturer: str
    device_class: str
    licence: str
    is_demonstration: bool


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """A system or a witness that gets something.

    Attributes:
        gets: What it gets.
        outside: On which ground data leaves India; empty where it does not.
    """

    name: str
    kind: str
    gets: str
    outside: str = ""


@dataclass(frozen=True, kw_only=True)
class ProcessingRecord:
    """The whole record.

    Attributes:
        patients: Patients of whom a job was made in the last year.
        credentials: How many credentials are in force, by role.
    """

    made_at: datetime
    site: str
    site_version: int
    privacy: Privacy | None
    activities: Sequence[Activity]
    models: Sequence[ModelLine]
    recipients: Sequence[Recipient]
    retention: Retention
    patients: int
    credentials: Mapping[str, int]

    @property
    def missing(self) -> list[str]:
        """What the configuration leaves open."""
        gaps = (
            (self.privacy is None, "`privacy`: nobody is named who answers for the processing."),
            (not self.retention.is_in_force, "`retention`: nothing is removed after its time."),
            (
                not any(each.kind == "witness" for each in self.recipients),
                "`witnesses`: nobody outside this machine keeps checkpoints of the audit log.",
            ),
            (not self.activities, "`routes`: no processing is configured."),
        )
        return [words for is_open, words in gaps if is_open]

    @property
    def warnings(self) -> list[str]:
        """What the site does on its own word."""
        return self.retention.shortened

    @property
    def measures(self) -> tuple[str, ...]:
        """Security measures: the gateway's own and the hospital's."""
        return (*OWN_MEASURES, *(self.privacy.measures if self.privacy else ()))

    @property
    def abroad(self) -> str:
        """What leaves India, in a sentence."""
        outside = [f"{each.name} ({each.outside})" for each in self.recipients if each.outside]
        return ", ".join(outside) if outside else "Nothing: no recipient is outside India."

    def as_json(self) -> Json:
        """Give the record for machines."""
        rules = self.retention.rules
        return {
            "format": "nadi-processing-record-1",
            "made_at": self.made_at,
            "site": self.site,
            "site_version": self.site_version,
            "privacy": asdict(self.privacy) if self.privacy else None,
            "activities": [asdict(each) for each in self.activities],
            "models": [asdict(each) for each in self.models],
            "recipients": [asdict(each) for each in self.recipients],
            "retention": {
                name.value: {
                    "days": rule.days,
                    "law": rule.law or None,
                    "holds": TERMS[name].holds,
                }
                for name, rule in rules.items()
            },
            "retention_in_force": self.retention.is_in_force,
            "measures": self.measures,
            "transfers_outside_india": self.abroad,
            "patients_last_year": self.patients,
            "credentials": dict(self.credentials),
            "missing": self.missing,
            "warnings": self.warnings,
        }


AUTOMATED = (
    "A model computes a preliminary result, labelled as made by AI, and writes it into the EHR. It "
    "decides nothing: a clinician reads it, and no result of a model sets another going. A model "
    "refuses where an input is missing, old or implausible. A patient may refuse AI at any time."
)


def html(record: ProcessingRecord) -> str:
    """Give the record as a page."""
    made = record.made_at.strftime("%d %b %Y %H:%M UTC")
    return page(
        "Record of processing",
        tag("h1", "Record of processing"),
        tag(
            "p",
            f"{_name(record)} · drawn up {made} from site version {record.site_version}",
            kind="lead",
        ),
        cards(
            card(str(len(record.activities)), "processing activities"),
            card(str(len(record.models)), "models in use"),
            card(str(record.patients), "patients in the last year"),
        ),
        _gaps(record),
        section("Who answers for it", facts(_contacts(record.privacy))),
        section("Processing activities", *(_activity(each) for each in record.activities)),
        section("Models", *(_model(each) for each in record.models)),
        section("Automated decisions", tag("p", AUTOMATED)),
        section(
            "Recipients",
            grid(
                ("Who", "Kind", "Gets", "Outside India"),
                [
                    (each.name, each.kind, each.gets, each.outside or "no")
                    for each in record.recipients
                ],
            ),
            facts({"Transfers outside India": record.abroad}),
        ),
        section(
            "Retention",
            _shortened(record),
            grid(("Class", "Kept", "Holds"), _retention_rows(record)),
        ),
        section("Security measures", listed(record.measures)),
        section(
            "Access",
            grid(
                ("Role", "Credentials in force"),
                [(role, str(count)) for role, count in sorted(record.credentials.items())],
            ),
        ),
        tag("p", "Drawn up by Nadi from its site file and its register of models.", kind="foot"),
    )


def markdown(record: ProcessingRecord) -> str:
    """Give the record as Markdown."""
    lines = [f"# Record of processing: {_name(record)}", ""]
    lines += [f"Drawn up {record.made_at:%Y-%m-%d} from site version {record.site_version}.", ""]
    lines += _bullets("Missing", record.missing) + _bullets("Warnings", record.warnings)
    lines += _pairs("Who answers for it", _contacts(record.privacy))
    for each in record.activities:
        lines += _pairs(f"Activity: {each.route}", _activity_facts(each))
        lines += [f"<small>{_as_configured(each)}</small>", ""]
    rows = [" | ".join(_model_row(each)) for each in record.models]
    head = f"| {' | '.join(_MODEL_COLUMNS)} |"
    lines += ["## Models", "", head, "|---" * len(_MODEL_COLUMNS) + "|"]
    lines += [f"| {row} |" for row in rows]
    lines += ["", "## Automated decisions", "", AUTOMATED, ""]
    told = [f"{each.name} ({each.kind}): {each.gets}" for each in record.recipients]
    lines += [*_bullets("Recipients", told), f"Transfers outside India: {record.abroad}", ""]
    kept = [f"{name}: {days}; {holds}" for name, days, holds in _retention_rows(record)]
    lines += _bullets("Retention", kept) + _bullets("Security measures", record.measures)
    return "\n".join(lines)


_MODEL_COLUMNS = ("Model", "Intended use", "Not for", "Manufacturer", "Class and licence")


def _name(record: ProcessingRecord) -> str:
    return record.privacy.fiduciary if record.privacy else record.site


def _gaps(record: ProcessingRecord) -> Markup:
    if not record.missing:
        return Markup("")
    gaps = [each.replace("`", "") for each in record.missing]
    return tag("div", tag("p", "Missing in the site file:"), listed(gaps), kind="ask")


def _shortened(record: ProcessingRecord) -> Markup:
    if not record.warnings:
        return Markup("")
    return tag("div", tag("p", "On the site's own word:"), listed(record.warnings), kind="ask")


def _contacts(privacy: Privacy | None) -> dict[str, str]:
    if privacy is None:
        return {"Data Fiduciary": "not named in the site file"}
    return {
        "Data Fiduciary": f"{privacy.fiduciary}, {privacy.address}",
        "Registration": privacy.registration,
        "Questions": privacy.officer.line,
        "Grievances": f"{privacy.complaints.line}; answered within 90 days (Rule 14)",
        "CERT-In": privacy.point_of_contact.line,
    }


def _activity_facts(each: Activity) -> dict[str, str]:
    return {
        "Purpose": each.purpose_in_words,
        "Legal basis": each.basis,
        "Data comes from": each.source,
        "Categories of data": "; ".join(each.categories),
        "Model": each.model,
        "Result goes to": each.recipient,
        "In the last year": f"{each.done} results, {each.refused} refused or stopped",
        **({"Reviews": each.reviews} if each.reviews else {}),
    }


def _activity(each: Activity) -> Markup:
    exactly = tag("p", _as_configured(each), kind="raw")
    return joined((tag("h3", each.route), facts(_activity_facts(each)), exactly))


def _as_configured(each: Activity) -> str:
    return f"In the site file: purpose {each.purpose}, trigger {each.trigger}"


def _model_row(each: ModelLine) -> tuple[str, ...]:
    has_class = each.device_class not in ("", "none")
    known = [f"class {each.device_class}" if has_class else "", each.licence]
    told = ", ".join(part for part in known if part) or "none stated"
    marked = f"{told}; demonstration only" if each.is_demonstration else told
    name = f"{each.title} ({each.reference})"
    return name, each.intended_use, each.not_for, each.manufacturer, marked


def _model(each: ModelLine) -> Markup:
    title, *told = _model_row(each)
    return joined((tag("h3", title), facts(dict(zip(_MODEL_COLUMNS[1:], told, strict=True)))))


def _retention_rows(record: ProcessingRecord) -> list[tuple[str, str, str]]:
    rows = []
    for name, rule in record.retention.rules.items():
        days = f"{rule.days} days" + (f" ({rule.law})" if rule.law else "")
        rows.append((name.value, days, TERMS[name].holds))
    return rows


def _bullets(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {line}" for line in lines), ""] if lines else []


def _pairs(title: str, told: Mapping[str, str]) -> list[str]:
    return _bullets(title, [f"{name}: {value}" for name, value in told.items() if value])
