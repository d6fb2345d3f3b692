"""(6.3) Go down the write-back ladder with a result until an EHR takes it, and look what it kept.

`gateway.core.ladder` says which rungs there are for a result; `workers.result_recipient` writes one
form of it. Here:

1. a rung that turns out not to be there (404, 405, 501), or whose form does not suit the EHR (a
   status that its profile names), is left for the next one;
2. what was written is read back, unless the EHR was lately seen to keep everything, and what it did
   not keep is told (`workers.verifying`); where the site names a panel, it is written beside
   (`workers.model_panel`);
3. what no rung takes stays on Nadi's worklist. But an EHR that says it has a type and answers 404
   is misconfigured rather than poor: then the result waits, as when it is away.

Source: docs/write-back.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import orjson

from gateway.core.findings import Json
from gateway.core.ladder import LOSES, RUNG_OF, TYPES, IfLabelLost, Ladder, Rung, ladder
from gateway.core.read_back import Label, kept_at_most, label_of
from gateway.core.result_carriers import at_one_time, coded_as, with_ai_note
from gateway.core.write_back import AS_OBSERVATION, StoredReport
from workers.climb import OWN_FORMS, Climb, Sender, beyond, beyond_fhir
from workers.ehr_abilities import EhrAbilities
from workers.fates import Fate, Gate, NotReached, NotTaken, Written, open_gate
from workers.looking import Unsure
from workers.model_panel import ModelPanel
from workers.result_recipient import NO_SUCH_TYPE, Ehr, ResultRecipient
from workers.verifying import Chart, Unlabelled, Verifier, sent_as

#: What is said of a result that was changed for an EHR.
OWN_CODE = "own code"
AS_TEXT = "value as text"
_STOPPED = "The EHR does not keep the label that an AI made it, and the site says to stop then."
_UNCODED = "It takes an Observation only under a code of its own; write_back.codes names none."


class LadderRecipient:
    """One EHR as a recipient of results, in the best form it takes; safe to share among threads."""

    def __init__(
        self,
        recipient: ResultRecipient,
        looks: tuple[Verifier, ModelPanel],
        abilities: EhrAbilities,
        *,
        senders: Mapping[Rung, Sender] | None = None,
    ) -> None:
        self._recipient = recipient
        self._verifier, self._panels = looks
        self._abilities = abilities
        self._senders = senders or {}

    def write(
        self,
        reports: Sequence[StoredReport],
        *,
        repeated: frozenset[str],
        gate: Gate = open_gate,
    ) -> dict[str, Fate]:
        """Write reports; give the fate of each by its identifier.

        Args:
            reports: What is to be written.
            repeated: Identifiers that may be in the EHR already.
            gate: Asked right before anything is sent.
        """
        fates: dict[str, Fate] = {
            r.identifier: NotTaken(0, _STOPPED) for r in self._stopped(reports)
        }
        going = (report for report in reports if report.identifier not in fates)
        climbs = [Climb(report, self._ladder(report)) for report in going]
        while climbs:
            by_rung: dict[Rung | None, list[Climb]] = {}
            for climb in climbs:
                by_rung.setdefault(climb.rung, []).append(climb)
            climbs = []
            for rung, standing in by_rung.items():
                for climb, end in self._try(rung, standing, repeated, gate):
                    if isinstance(end, Climb):
                        climbs.append(end)
                    else:
                        fates[climb.report.identifier] = end
        return fates

    def held(
        self, report: StoredReport, *, sought: frozenset[str] = frozenset()
    ) -> list[Json] | Unsure:
        """Give what the EHR holds of a result, in whatever form it may have been written.

        Args:
            report: The result.
            sought: Types among which its identifier was looked for already, in vain.

        Raises:
            TransientError: The EHR is away.
        """
        doubt: list[Json] | Unsure = []
        climb = Climb(report, self._ladder(report))
        while climb.rung is not None:
            is_form = climb.rung in TYPES
            form = self._form(climb.rung, climb) if is_form else None
            found = self._recipient.held(form, sought=sought) if form else []
            if found and not isinstance(found, Unsure):
                return found
            doubt = found or doubt
            climb = climb.down("")
        return doubt

    def look_again(self) -> None:
        """Find out anew what the EHR can do."""
        self._abilities.look_again()

    def _stopped(self, reports: Sequence[StoredReport]) -> list[StoredReport]:
        """Give those that are not sent, since the EHR was seen to lose the AI label."""
        if not any(self._abilities.is_unlabelled(name) for name in TYPES.values()):
            return []
        return [each for each in reports if self._if_label_lost(each) is IfLabelLost.STOP]

    def _ladder(self, report: StoredReport) -> Ladder:
        """Choose the rungs; those of its own two forms that are written as one stand together."""

        def why_not(resource_type: str) -> str | None:
            if resource_type == "Observation" and self._is_uncoded(report):
                return _UNCODED
            return self._abilities.why_not(resource_type)

        terms, senders = report.terms, beyond(report, self._senders)
        return ladder(report.resource_type, terms=terms, why_not=why_not, senders=senders)

    def _is_uncoded(self, report: StoredReport) -> bool:
        if not self._abilities.profile.needs_codes:
            return False
        coded = report.as_observation().rewritten(
            lambda made: coded_as(made, report.terms.codes), OWN_CODE
        )
        return OWN_CODE not in coded.changed

    def _try(
        self, rung: Rung | None, climbs: Sequence[Climb], repeated: frozenset[str], gate: Gate
    ) -> list[tuple[Climb, Fate | Climb]]:
        """Try one rung with all that stand on it."""
        if rung is None or rung not in TYPES:
            return [(climb, beyond_fhir(climb, self._senders, gate)) for climb in climbs]
        forms = {climb.report.identifier: self._form(rung, climb) for climb in climbs}
        written = self._recipient.write(list(forms.values()), repeated=repeated, gate=gate)
        return [
            (climb, self._after(climb, forms[name], written[name]))
            for climb in climbs
            for name in (climb.report.identifier,)
        ]

    def _form(self, rung: Rung, climb: Climb) -> StoredReport:
        """Give a report in the form of a rung, with what this EHR needs."""
        report = climb.report
        if rung not in OWN_FORMS:
            return report.carried_as(rung)
        terms, profile = report.terms, self._abilities.profile
        report = report.as_observation() if climb.is_below_own else _own_form(rung, report)
        if terms.codes:
            report = report.reobserved(lambda made: coded_as(made, terms.codes), OWN_CODE)
        report = report.reobserved(at_one_time) if profile.only_date_time else report
        report = report.reobserved(with_ai_note) if profile.ai_note else report
        needs_words = self._abilities.needs_words("Observation") or self._is_mute(report)
        return report.in_words(AS_TEXT) if needs_words else report

    def _is_mute(self, report: StoredReport) -> bool:
        """Say whether a number of it would stand in the EHR with nothing that says an AI made it.

        So where the EHR is known to drop every label, and the site's name for its code says nothing
        either. To write first and look then would leave such a number there, if we die in between
        and consent is withdrawn.
        """
        drops = self._abilities.profile.drops.get("Observation", ())
        if not drops:
            return False
        sent = orjson.loads(report.instead or report.result)
        is_named = any(coding.get("display") for coding in sent["code"].get("coding", ()))
        return is_named and label_of(kept_at_most(sent, drops)) is Label.LOST

    def _after(self, climb: Climb, form: StoredReport, fate: Fate) -> Fate | Climb:
        """Say how it goes on after a rung was tried."""
        if isinstance(fate, Written):
            return self._verified(climb, form, fate)
        if isinstance(fate, NotReached) and fate.refused_with in NO_SUCH_TYPE:
            return climb.down(f"The EHR refused it: HTTP {fate.refused_with}.", fate)
        misfits = self._abilities.profile.refuses_form_with
        if isinstance(fate, NotTaken) and fate.status in misfits:
            return climb.down(f"The EHR refused the form: HTTP {fate.status}.")
        return fate

    def _verified(self, climb: Climb, form: StoredReport, written: Written) -> Fate | Climb:
        """Look what the EHR kept; say so, or go on where the AI label is lost."""
        policy = self._if_label_lost(climb.report)
        found = self._verifier.verify(form, written, policy)
        if not isinstance(found, Unlabelled):
            self._learn(climb)
            return self._placed(climb, form, self._in_a_panel(form, found))
        if policy is IfLabelLost.STOP:
            return NotTaken(0, _STOPPED)
        return climb.down("The EHR did not keep the label that an AI made it.")

    def _in_a_panel(self, form: StoredReport, found: Written | NotReached) -> Fate:
        """Say beside an Observation which model made it, where the site wants that."""
        panel = form.terms.panel
        if panel is None or not isinstance(found, Written):
            return found
        sent = sent_as(form, found)
        is_one = sent["resourceType"] == "Observation"
        return self._panels.complete(sent, found, panel) if is_one else found

    def _if_label_lost(self, report: StoredReport) -> IfLabelLost:
        return report.terms.if_label_lost or self._abilities.profile.if_label_lost

    def _learn(self, climb: Climb) -> None:
        """Remember the types that were not there, now that another rung holds."""
        for each in climb.left if climb.fate else ():
            if each.rung in TYPES:
                self._abilities.refused(TYPES[each.rung])

    def _placed(self, climb: Climb, form: StoredReport, fate: Fate) -> Fate:
        if not isinstance(fate, Written):
            return fate
        is_other = AS_OBSERVATION in fate.changed
        rung = Rung.OBSERVATION if is_other else RUNG_OF[form.resource_type]
        lost = (LOSES[rung],) if rung in LOSES else ()
        return replace(fate, rung=rung, lost=(*fate.lost, *lost), left=climb.above)


class Reached(Ehr, Chart, Protocol):
    """What is needed of the client of an EHR; `adapters.fhir_rest` has one."""


def ladder_recipient(
    ehr: Reached,
    abilities: EhrAbilities,
    *,
    connections: int = 1,
    senders: Mapping[Rung, Sender] | None = None,
) -> LadderRecipient:
    """Put together what writes results into one EHR.

    Args:
        ehr: The EHR.
        abilities: What is known of it.
        connections: How many requests may be under way where each result goes alone.
        senders: What sends the forms beyond FHIR.
    """
    recipient = ResultRecipient(ehr, abilities=abilities, connections=connections)
    looks = (Verifier(ehr, abilities), ModelPanel(ehr))
    return LadderRecipient(recipient, looks, abilities, senders=senders)


def _own_form(rung: Rung, report: StoredReport) -> StoredReport:
    """Leave a result both its forms, as far as the site allows them."""
    if report.instead is None:
        return report
    allowed = ladder(report.resource_type, terms=report.terms, why_not=lambda _: None).rungs
    if set(allowed) >= OWN_FORMS:
        return report
    return report.as_observation() if rung is Rung.OBSERVATION else replace(report, instead=None)
