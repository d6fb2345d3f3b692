"""The papers of an incident: the whole of it, and the drafts for patients, Board and CERT-In.

Each heading of DPDP Rules 2025, Rule 7 has a section of its own, never empty: what nobody has
stated yet says so, and is marked.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo

from gateway.core.audit_entry import Entry
from gateway.core.incident import (
    TO_BE_STATED,
    Deadline,
    Incident,
    by_kind,
    by_person,
    over_time,
    patients_of,
)
from gateway.core.page import (
    Markup,
    bars,
    card,
    cards,
    facts,
    grid,
    joined,
    listed,
    page,
    section,
    shortened,
    tag,
    when,
)
from gateway.core.step_words import step_in_words

#: Lines of the timeline that are printed; the evidence has every one.
MOST_LINES = 400
#: The newest steps of who handles it that are printed.
MOST_LOOKS = 20
_HASH_DIGITS = 12
_SAFETY = (
    (
        "Be careful with calls, messages and letters that mention your health or this hospital "
        "and ask for money, passwords or one-time codes. The hospital never asks for these."
    ),
    (
        "If somebody uses what they know of your health against you, tell us and the police "
        "(cyber crime helpline 1930)."
    ),
    "You may ask us for everything that we hold of you, and who has seen it.",
)


class Papers:
    """Makes the papers of one incident."""

    def __init__(self, incident: Incident, zone: tzinfo) -> None:
        """Take the incident.

        Args:
            incident: What is told.
            zone: Time zone of the hospital: times are given in it and in UTC.
        """
        self._incident = incident
        self._zone = zone

    def all(self) -> dict[str, str]:
        """Give every paper by the name of its file."""
        return {
            "incident.html": self.whole(),
            "notice-to-patients.html": self.notice(),
            "report-to-board.html": self.board(),
            "report-to-cert-in.html": self.cert_in(),
        }

    # -- the whole ---------------------------------------------------------------------------

    def whole(self) -> str:
        """Everything, for those who handle it."""
        return page(
            f"Incident {self._incident.id}",
            self._head("Incident file", "For those who handle it. It names no patient."),
            self._clocks(),
            self._doubt(),
            cards(
                card(str(len(self._incident.patients)), "patients affected"),
                card(str(len(self._incident.entries)), "steps on record"),
                card(str(len(by_person(self._incident.entries))), "people, systems and models"),
            ),
            section("What it is about", self._scope()),
            section("Nature, extent and timing", self._nature(), self._extent()),
            section("When it happened", self._chart()),
            section("Who took part", self._people()),
            section("Likely impact", self._said(self._incident.statements.impact)),
            section("Measures", self._said_list(self._incident.statements.measures)),
            section("Affected patients", self._patients()),
            section("Timeline", self._timeline()),
            self._looks(),
            section("Evidence", self._evidence()),
            self._foot(),
        )

    def _head(self, title: str, lead: str) -> Markup:
        made = self._moment(self._incident.made_at)
        name = self._incident.privacy.fiduciary if self._incident.privacy else self._incident.site
        return joined(
            (
                tag("h1", title),
                tag("p", f"{name} · incident {self._incident.id} · drawn up {made}", kind="lead"),
                tag("p", lead),
            )
        )

    def _clocks(self) -> Markup:
        noticed = self._incident.scope.detected_at
        return cards(
            card(self._short(noticed), f"somebody became aware: {self._moment(noticed)}"),
            *(self._clock(each) for each in self._incident.deadlines),
        )

    def _doubt(self) -> Markup:
        doubt = self._incident.doubt
        return tag("div", tag("p", doubt), kind="ask") if doubt else Markup("")

    def _clock(self, deadline: Deadline) -> Markup:
        now = self._incident.made_at
        is_soon = deadline.at - now < (deadline.at - self._incident.scope.detected_at) / 4
        kind = "bad" if deadline.is_over(now) else "soon" if is_soon else "good"
        when = f"{deadline.to_whom}: until {self._moment(deadline.at)}. {deadline.law}"
        return card(deadline.left(now), when, kind=kind)

    def _scope(self) -> Markup:
        scope = self._incident.scope
        return facts(
            {
                "From": self._moment(scope.since),
                "Until": self._moment(scope.until),
                "Narrowed to": scope.about or "everything on record of that time",
                "Where": self._incident.statements.location or self._incident.site,
            }
        )

    def _nature(self) -> Markup:
        return self._said(self._incident.statements.nature)

    def _extent(self) -> Markup:
        incident = self._incident
        told = (
            f"{len(incident.patients)} patients are affected, by {len(incident.entries)} steps on "
            "record"
        )
        if incident.first and incident.last:
            told += (
                f", the first on {self._moment(incident.first)} and the last on "
                f"{self._moment(incident.last)}"
            )
        cut = " There are more: narrow the time." if incident.is_cut else ""
        kinds = [
            (step_in_words(event), ended, str(count))
            for event, ended, count in by_kind(incident.entries)
        ]
        return joined((tag("p", f"{told}.{cut}"), grid(("Step", "Ended", "Times"), kinds)))

    def _chart(self) -> Markup:
        scope = self._incident.scope
        counts = over_time(self._incident.entries, scope.since, scope.until)
        return bars([(self._short(at), count) for at, count in counts])

    def _people(self) -> Markup:
        rows = [
            (name, identifier, str(count), str(patients))
            for name, identifier, count, patients in by_person(self._incident.entries)
        ]
        return grid(("Who", "Known as", "Steps", "Patients"), rows)

    def _patients(self) -> Markup:
        rows = [
            (tag("span", key, kind="hash"), str(count))
            for key, count in self._incident.patients.items()
        ]
        why = (
            "Patients are named by keyed hashes. The list with their references, to notify them, "
            "is a file of its own beside this bundle; it stays in the hospital."
        )
        return joined((tag("p", why), grid(("Patient (keyed hash)", "Steps"), rows)))

    def _timeline(self) -> Markup:
        entries = self._incident.entries
        left_out = len(entries) - MOST_LINES
        shown: Sequence[Entry] = entries
        told = Markup("")
        if left_out > 0:
            shown = (*entries[: MOST_LINES // 2], *entries[-MOST_LINES // 2 :])
            told = tag(
                "p",
                f"The first and the last {MOST_LINES // 2} steps; {left_out} between them are in "
                "the evidence.",
                kind="ask",
            )
        return joined((told, grid(_TIMELINE, (self._line(each) for each in shown))))

    def _looks(self) -> Markup:
        """What was looked at to draw this up: on record, and counted nowhere above."""
        looks = self._incident.looks
        if not looks:
            return Markup("")
        patients = len(patients_of(looks))
        told = (
            f"{len(looks)} steps by who drew this up, about {patients} patients, from "
            f"{self._moment(looks[0].at)} to {self._moment(looks[-1].at)}. They are counted "
            "nowhere above; the newest are shown."
        )
        lines = [self._line(each) for each in looks[-MOST_LOOKS:]]
        return section("Looked at while this was handled", tag("p", told), grid(_TIMELINE, lines))

    def _line(self, entry: Entry) -> tuple[str, ...]:
        who = ", ".join(party.name for party in entry.doers)
        what = shortened(". ".join(each for each in (entry.what, entry.reason) if each))
        patient = tag("span", (entry.patient_key or "")[:_HASH_DIGITS], kind="hash")
        step = f"{entry.event}, {entry.ended}"
        return when(self._short(entry.at, with_seconds=True)), step, who, what, patient

    def _evidence(self) -> Markup:
        return grid(("File", "What it is"), _EVIDENCE)

    # -- drafts ------------------------------------------------------------------------------

    def notice(self) -> str:
        """The notice to each affected patient, in plain words."""
        said, scope = self._incident.statements, self._incident.scope
        where = f" Where: {said.location}." if said.location else ""
        return page(
            "Notice about your health data",
            self._draft("Notice about your health data", "Draft, to be sent to each patient."),
            tag(
                "p",
                "We write to you since data about your health was used or seen in a way that it "
                "should not have been. We are sorry. This is what we know.",
            ),
            section("What happened, to what extent, and when", self._said(said.nature)),
            tag("p", f"{self._span()} We noticed it on {self._day(scope.detected_at)}.{where}"),
            tag("p", f"It concerns {len(self._incident.patients)} patients; you are one of them."),
            section("What it may mean for you", self._said(said.impact)),
            section("What we have done and are doing", self._said_list(said.measures)),
            section("What you can do", listed(said.safety or _SAFETY)),
            section("Whom you can ask", self._contact()),
            tag(
                "p",
                "If our answer does not help you, you may complain to the Data Protection Board of "
                "India.",
            ),
        )

    def _span(self) -> str:
        """Say when it happened: as it is on record, else as it was asked for."""
        first = self._incident.occurred
        last = self._incident.last or self._incident.scope.until
        return f"It happened between {self._day(first)} and {self._day(last)}."

    def board(self) -> str:
        """The report to the Data Protection Board: at once, and in detail within 72 hours."""
        said = self._incident.statements
        _, deadline = self._incident.deadlines
        return page(
            "Report of a personal data breach",
            self._draft(
                "Report of a personal data breach",
                "To the Data Protection Board of India, under Rule 7(2) of the Digital Personal "
                f"Data Protection Rules, 2025. Due {self._moment(deadline.at)}.",
            ),
            tag("h2", "Without delay: Rule 7(2)(a)"),
            tag("h3", "Nature of the breach"),
            self._said(said.nature),
            tag("h3", "Extent"),
            self._extent(),
            tag("h3", "Timing and location"),
            self._scope(),
            tag("h3", "Likely impact"),
            self._said(said.impact),
            tag("h2", "Within 72 hours: Rule 7(2)(b)"),
            tag(
                "h3", "Broad facts of the events, circumstances and reasons that led to the breach"
            ),
            self._said(said.reasons),
            self._people(),
            tag("h3", "Measures implemented or proposed to mitigate risk"),
            self._said_list(said.measures),
            tag("h3", "Findings regarding the person who caused the breach"),
            self._said(said.findings),
            tag("h3", "Remedial measures taken to prevent recurrence"),
            self._said_list(said.remedial),
            tag("h3", "Report on the intimations given to affected Data Principals"),
            self._said(said.intimations),
            section("Contact", self._contact()),
            self._foot(),
        )

    def cert_in(self) -> str:
        """The report to CERT-In, within six hours of noticing."""
        said, privacy = self._incident.statements, self._incident.privacy
        deadline, _ = self._incident.deadlines
        who = privacy.point_of_contact.line if privacy else TO_BE_STATED
        affected = f"Nadi gateway of {self._incident.site}; {len(self._incident.patients)} patients"
        return page(
            "Cyber incident report",
            self._draft(
                "Cyber incident report",
                "To CERT-In (incident@cert-in.org.in), under the Directions of 28 April 2022. Due "
                f"{self._moment(deadline.at)}.",
            ),
            facts(
                {
                    "Organisation": privacy.fiduciary if privacy else self._incident.site,
                    "Address": privacy.address if privacy else TO_BE_STATED,
                    "Point of contact": who,
                    "Noticed at": self._moment(self._incident.scope.detected_at),
                    "Occurred": self._moment(self._incident.occurred),
                    "Sector": "Health",
                    "Systems affected": affected,
                    "Location": said.location or self._incident.site,
                }
            ),
            section("Type of incident", self._said(said.nature)),
            section("Description", self._said(said.reasons), self._extent()),
            section("Actions taken", self._said_list(said.measures)),
            section("Logs", self._evidence()),
            self._foot(),
        )

    def _draft(self, title: str, lead: str) -> Markup:
        privacy = self._incident.privacy
        sender = f"{privacy.fiduciary}, {privacy.address}" if privacy else self._incident.site
        return joined((tag("p", sender, kind="lead"), tag("h1", title), tag("p", lead)))

    def _contact(self) -> Markup:
        privacy = self._incident.privacy
        if privacy is None:
            return self._said("")
        return facts({"Questions": privacy.officer.line, "Grievances": privacy.complaints.line})

    # -- words -------------------------------------------------------------------------------

    def _said(self, words: str) -> Markup:
        return tag("p", words) if words else tag("p", TO_BE_STATED, kind="ask")

    def _said_list(self, words: Iterable[str]) -> Markup:
        said = tuple(words)
        return listed(said) if said else self._said("")

    def _foot(self) -> Markup:
        return tag(
            "p",
            "Drawn up by Nadi from its audit log; what people stated is theirs. Times are of the "
            f"hospital's zone ({self._incident.made_at.astimezone(self._zone):%Z}) and of UTC.",
            kind="foot",
        )

    def _moment(self, at: datetime) -> str:
        """Give a time in the hospital's zone and, where that is another, in UTC."""
        local = at.astimezone(self._zone)
        if not local.utcoffset():
            return f"{self._short(at)} UTC"
        return f"{self._short(at)} {local:%Z} ({at.astimezone(UTC):%d %b %H:%M} UTC)"

    def _short(self, at: datetime, *, with_seconds: bool = False) -> str:
        form = "%d %b %Y %H:%M:%S" if with_seconds else "%d %b %Y %H:%M"
        return at.astimezone(self._zone).strftime(form)

    def _day(self, at: datetime) -> str:
        """Give a time as people say it."""
        return at.astimezone(self._zone).strftime("%-d %B %Y, %H:%M")


_EVIDENCE = (
    ("evidence.ndjson", "the AuditEvents of that time, each with its proof of inclusion"),
    ("evidence.ndjson.note", "how many there are and their SHA-256, signed with the log's key"),
    ("audit.pub", "the public key of the log; compare it with the one handed over earlier"),
    ("verify_receipt.py", "verifies offline: verify_receipt.py evidence.ndjson --key audit.pub"),
    ("incident.json", "all of this for machines"),
    ("*.pdf", "each paper once more, to be printed or sent"),
    ("statements.yaml", "what people stated, or the form for it"),
    ("MANIFEST, MANIFEST.note", "SHA-256 of every file, signed"),
)
_TIMELINE = ("When", "Step", "Who", "What", "Patient")
