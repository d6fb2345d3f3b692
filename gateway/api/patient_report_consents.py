"""What a patient permitted and refused, as her report tells it: who recorded it, who took it back.

When and by whom comes from the audit log, which outlives an erasure; what it says comes from what
is kept of it. Every version and every import is told, so that she sees what replaced what.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from adapters.site import Site
from gateway.api.patient_names_told import Called
from gateway.core.audit_consent import CONSENT_ACT_SYSTEM, EVENTS
from gateway.core.audit_entry import Entry
from gateway.core.clock import from_ms
from gateway.core.consent.acts import Act, consent_of
from gateway.core.consent.giver import giver_of_acts, giver_of_resource
from gateway.core.consent.record import ConsentRecord, under_policies
from gateway.core.consent.statement import StatementForged
from gateway.core.consent.summary import Says, Summary, summary
from gateway.core.errors import Unsealable
from gateway.core.patient_report import Said
from gateway.core.purposes import told_to_patient
from gateway.store.consents import Version
from gateway.store.erasures import Tombstone
from gateway.store.unit_of_work import UnitOfWork

_TAKEN_BACK = "taken back"
_REFUSED_AI = "You refused that AI uses your data"
_KEPT = f"{_REFUSED_AI} (kept when your data was erased)"
_GONE = "What it said is no longer kept"
_UNREADABLE = "It can't be read, so nothing is permitted by it"
_UNRELIABLE = "It can't be understood for certain, so it counts as a refusal of any use"
#: What staff recorded, by the word in the log, where the rest is no longer kept.
_DECISIONS = {
    "permit": "You permitted a use of your data",
    "deny": "You refused a use of your data",
    "ai-opt-out": _REFUSED_AI,
}
_MEANS = {"paper": "on paper", "verbal": "said aloud", "digital": "at a screen"}
#: What a Consent says of itself (FHIR R4 consent-state-codes), to a patient.
_STATES = {
    "draft": "only a draft, it permits nothing",
    "proposed": "only proposed, it permits nothing",
    "rejected": "was not given",
    "inactive": "ended, says the system that sent it",
    "entered-in-error": "was entered by mistake, says the system that sent it",
}


class SaidByHer:
    """Tells what one patient permitted and refused."""

    def __init__(self, uow: UnitOfWork, site: Site, called: Called) -> None:
        """Take what is needed to read consents and to name people."""
        self._uow = uow
        self._site = site
        self._called = called

    def all(self, patient_key: str, entries: Sequence[Entry]) -> list[Said]:
        """Give everything, the oldest first.

        Args:
            patient_key: How the gateway knows her.
            entries: All that the log has of her, oldest first.
        """
        tombstone = self._uow.erasures.find([patient_key]).get(patient_key)
        by_consent = _by_consent(entries)
        said = [self._received(each) for each in self._uow.consents.versions(patient_key)]
        for consent_id, acts in by_consent.items():
            said += self._recorded(consent_id, acts)
        if tombstone is not None:
            said = [_before_erasure(each, tombstone) for each in said]
            said += self._kept(tombstone, by_consent.get(tombstone.id, []))
        return sorted(said, key=lambda each: each.at)

    # -- what a system pushed ----------------------------------------------------------------

    def _received(self, version: Version) -> Said:
        system = self._called.system(version.system)
        said = self._told(version.record, Said(what="", at=from_ms(version.received_ms), by=system))
        said = replace(said, giver=self._giver(version.record.ref))
        if version.is_current:
            return said
        replaced = from_ms(version.replaced_ms) if version.replaced_ms else None
        return replace(said, ended="replaced", ended_at=replaced, ended_by=system)

    def _giver(self, ref: str) -> str:
        """Read who gave a Consent that a system pushed; nothing where it is no longer kept."""
        event = self._uow.events.get(ref.removeprefix("Consent/"))
        try:
            return giver_of_resource(self._uow.events.content(event)) if event else ""
        except Unsealable:
            return ""

    # -- what was recorded or imported here --------------------------------------------------

    def _recorded(self, consent_id: str, entries: Sequence[Entry]) -> Iterator[Said]:
        """Give one line for the recording and for each import of a consent."""
        acts = self._opened(consent_id)
        given = [each for each in entries if each.event != EVENTS["revoke"]]
        for number, entry in enumerate(given):
            so_far = [
                acts[each.names[CONSENT_ACT_SYSTEM]]
                for each in given[: number + 1]
                if each.names[CONSENT_ACT_SYSTEM] in acts
            ]
            said = self._of_act(entry, so_far if len(so_far) == number + 1 else [])
            after = given[number + 1] if number + 1 < len(given) else None
            yield self._ended(said, entries, acts, after)

    def _opened(self, consent_id: str) -> Mapping[str, Act]:
        """Open what is kept of a consent, by the ids of its acts; nothing where it can't be."""
        stored = self._uow.consent_acts.get(consent_id)
        try:
            acts = self._uow.consent_acts.open(stored) if stored else []
        except (Unsealable, StatementForged):
            return {}
        return {str(act.statement["id"]): act for act in acts}

    def _of_act(self, entry: Entry, acts: Sequence[Act]) -> Said:
        means = _MEANS.get(entry.facts.get("means", ""))
        signer = entry.facts.get("signer")
        by = self._by(entry)
        if signer:
            by = f"{by}, from a file that '{signer}' vouches for"
        elif means:
            by = f"{by}, {means}"
        what = _DECISIONS.get(entry.facts.get("decision", ""), _GONE)
        said = Said(what=what, at=entry.at, by=by, is_known=bool(acts))
        if not acts:
            return said
        said = replace(said, giver=giver_of_acts(acts))
        return self._told(consent_of(acts, entry.consents[0], self._site.abdm_policy), said)

    def _ended(
        self, said: Said, entries: Sequence[Entry], acts: Mapping[str, Act], after: Entry | None
    ) -> Said:
        """Add that it was taken back or replaced; a replaced one was not what was taken back."""
        if after is not None:
            return replace(said, ended="replaced", ended_at=after.at, ended_by=self._by(after))
        revoked = next((each for each in entries if each.event == EVENTS["revoke"]), None)
        return said if revoked is None else self._taken_back(said, revoked, acts)

    def _taken_back(self, said: Said, revoked: Entry, acts: Mapping[str, Act]) -> Said:
        act = acts.get(revoked.names[CONSENT_ACT_SYSTEM])
        why = str(act.statement.get("reason", "")) if act else ""
        by = self._by(revoked)
        return replace(said, ended=_TAKEN_BACK, ended_at=revoked.at, ended_by=by, why=why)

    def _kept(self, tombstone: Tombstone, entries: Sequence[Entry]) -> Iterator[Said]:
        """Give the refusal that her erasure left over."""
        if not tombstone.refused_ai:
            return
        by = self._called.party(tombstone.erased_by, tombstone.erased_by)
        said = Said(what=_KEPT, at=from_ms(tombstone.erased_ms), by=by)
        yield self._ended(said, entries, self._opened(tombstone.id), None)

    def _by(self, entry: Entry) -> str:
        party = entry.doers[0]
        return self._called.party(party.identifier, party.name)

    def _told(self, record: ConsentRecord, said: Said) -> Said:
        """Add what a consent says, and whether it is in force by itself."""
        taken = under_policies(record, self._site.consent.policies)
        line = summary(taken, self._uow.now)
        if line.says is Says.UNREADABLE:
            return replace(said, what=said.what or _UNREADABLE, is_known=False)
        ended = _STATES.get(taken.status, "") or _stopped(taken)
        said = replace(said, what=_words(line), starts=line.starts, until=line.ends)
        return replace(said, ended=ended)


def _by_consent(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = defaultdict(list)
    for each in entries:
        if each.event in EVENTS.values() and each.consents:
            found[each.consents[0].removeprefix("Consent/")].append(each)
    return found


def _before_erasure(said: Said, tombstone: Tombstone) -> Said:
    """Say of what was said before she was erased that it counts no more."""
    erased = from_ms(tombstone.erased_ms)
    if said.at > erased or said.ended == _TAKEN_BACK:
        return said
    what = _GONE if said.what == _UNREADABLE else said.what
    return replace(said, what=what, ended="erased with your data", ended_at=erased, ended_by="")


def _words(line: Summary) -> str:
    if line.says is Says.REFUSES_AI:
        return _REFUSED_AI
    if line.says is Says.UNRELIABLE:
        return _UNRELIABLE
    verb = "You permitted" if line.says is Says.PERMITS else "You refused"
    uses = ", ".join(told_to_patient(each) for each in line.purposes) or "any use"
    some = " (of some of your data, or with exceptions)" if line.is_limited else ""
    return f"{verb}: {uses}{some}"


def _stopped(record: ConsentRecord) -> str:
    return record.terms.stopped.rstrip(".")
