"""(6.3) What one EHR can do: known of its kind, asked of it, and learnt from its answers.

Three sources, the later ones believed more: its profile (`adapters.ehr_profile`), named by the site
or recognised; its CapabilityStatement, asked once in a while; and what it refused or dropped. What
none of them says is taken at its best until the EHR refuses; batches have to be named. That it
keeps what is written is taken on nobody's word: a result that was read back shows it.

Source: FHIR R4 CapabilityStatement.rest.resource; docs/write-back.md.
"""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from adapters import ehr_profile
from adapters.ehr_profile import Profile
from adapters.fhir_rest.answers import EhrCapabilities
from gateway.core.errors import GatewayError, TransientError
from gateway.core.write_back import StoredReport

#: How long what an EHR said of itself, or showed, is believed; it may be upgraded meanwhile.
REMEMBER_S = 600.0
#: How soon one that did not answer is asked for it again: the results knock all the same.
AGAIN_S = 30.0
#: Stands for batch Bundles among the types that an EHR refused.
BATCH = "batch"
_NEVER = float("-inf")
_Learnt = TypeVar("_Learnt")


class Asked(Protocol):
    """What is needed of the client of an EHR; `adapters.fhir_rest` has one."""

    def capabilities(self) -> EhrCapabilities:
        """Ask the EHR what it can do."""


class EhrAbilities:
    """What one EHR can keep; safe to share among threads."""

    def __init__(
        self,
        ehr: Asked,
        *,
        base_url: str = "",
        profile: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the EHR, where it is, and its profile if the site names one.

        Raises:
            ConfigurationError: There is no such profile.
        """
        self._ehr = ehr
        self._base_url = base_url
        self._named = ehr_profile.profile(profile) if profile else None
        self._recognised: tuple[EhrCapabilities | None, Profile] | None = None
        self._monotonic = monotonic
        self._ask_at = _NEVER
        self._said: EhrCapabilities | None = None
        self._refused: dict[str, float] = {}
        self._kept: dict[tuple[str, str], float] = {}
        self._identified: dict[str, float] = {}
        self._strips: set[str] = set()
        self._in_words: dict[str, float] = {}
        self._unlabelled: dict[str, float] = {}
        self._forgets: dict[str, float] = {}

    @property
    def profile(self) -> Profile:
        """What kind of EHR it is: as the site says, or as it is recognised now."""
        said = self._ask()
        if self._named:
            return self._named
        known = self._recognised
        if known is None or known[0] is not said:
            known = self._recognised = (said, ehr_profile.recognised(self._base_url, said))
        return known[1]

    @property
    def is_named(self) -> bool:
        """Say whether the site names the profile."""
        return self._named is not None

    def fitted(self, report: StoredReport) -> StoredReport:
        """Give a report as far as this EHR can keep it."""
        if report.instead is not None and not self.takes(report.resource_type):
            report = report.as_observation()
        return self.without_what_it_lacks(report)

    def without_what_it_lacks(self, report: StoredReport) -> StoredReport:
        """Give a report without its attachments, if the EHR can't keep those."""
        if report.attachments and not self.takes("Media"):
            report = report.without_attachments()
        if report.provenance is not None and self.rules_out("Provenance"):
            report = report.without_provenance()
        return report

    def takes(self, resource_type: str) -> bool:
        """Say whether the EHR can keep such a resource, as far as is known."""
        return self.why_not(resource_type) is None

    def takes_batches(self) -> bool:
        """Say whether the EHR says that it takes batch Bundles, and did not refuse one."""
        if self._is_fresh(self._refused, BATCH):
            return False
        said = self._ask()
        return said is not None and said.batch

    def why_not(self, resource_type: str) -> str | None:
        """Say why the EHR can't keep such a resource; None where it can, or nobody knows."""
        if self._is_fresh(self._unlabelled, resource_type):
            return "The EHR does not keep the label that an AI made it."
        if self._is_fresh(self._refused, resource_type):
            return f"The EHR refused {resource_type} lately."
        ruled_out = self.rules_out(resource_type)
        if ruled_out:
            return ruled_out
        said = self._ask()
        if said is None or said.takes(resource_type):
            return None
        return f"Its CapabilityStatement names no create of {resource_type}."

    def rules_out(self, resource_type: str) -> str | None:
        """Say why its kind can't keep such a resource; None where that is not known."""
        return self.profile.why_not(resource_type)

    @property
    def tries_transactions(self) -> bool:
        """Say whether a transaction is worth trying."""
        return self.profile.transactions is not False

    def ignores_conditions(self, resource_type: str) -> bool:
        """Say whether it is known not to heed If-None-Exist."""
        if self.profile.finds_by != "identifier":
            return True
        said = self._ask()
        return said is not None and said.of(resource_type).ignores_conditions

    def finds_by_identifier(self, resource_type: str) -> bool:
        """Say whether a result can be found again by its identifier, as far as is known."""
        is_known = self.profile.finds_by == "identifier" and not self.strips(resource_type)
        return is_known and not self._is_fresh(self._forgets, resource_type)

    def strips(self, resource_type: str) -> bool:
        """Say whether the last of such resources that was read back had lost its identifier.

        No search for it and no condition on it finds such a resource.
        """
        return resource_type in self._strips

    def keeps_identifiers(self, resource_type: str) -> bool:
        """Say whether such a resource was read back lately and had its identifier."""
        return self._is_fresh(self._identified, resource_type)

    def keeps_all(self, resource_type: str, digest: str) -> bool:
        """Say whether a resource of this type by this model was read back lately and was whole.

        Args:
            resource_type: Of what was written.
            digest: Of the model: another one fills other elements.
        """
        is_enough = self.profile.reads_back == "sometimes"
        return is_enough and self._is_fresh(self._kept, (resource_type, digest))

    def needs_words(self, resource_type: str) -> bool:
        """Say whether only a text as the value shows there that an AI made it."""
        return self._is_fresh(self._in_words, resource_type)

    def is_unlabelled(self, resource_type: str) -> bool:
        """Say whether it was seen to lose the AI label of such a resource."""
        return self._is_fresh(self._unlabelled, resource_type)

    def look_again(self) -> None:
        """Forget what it could not do, and ask it anew: somebody says that it was mended.

        That it keeps no identifiers is not forgotten: on that rests that nothing is written twice.
        """
        for learnt in (self._refused, self._kept, self._in_words, self._unlabelled):
            learnt.clear()
        self._said, self._ask_at = None, _NEVER

    # -- what its answers teach ----------------------------------------------------------------

    def refused(self, resource_type: str) -> None:
        """Remember that the EHR turned out not to have a type, or not to take a `BATCH`."""
        self._refused[resource_type] = self._monotonic()

    def kept(self, resource_type: str, digest: str) -> None:
        """Remember that it kept everything of such a resource by this model."""
        self._kept[resource_type, digest] = self._monotonic()

    def dropped(self, resource_type: str, digest: str) -> None:
        """Remember that it did not: what it kept before tells nothing any more."""
        self._kept.pop((resource_type, digest), None)

    def kept_identifier(self, resource_type: str) -> None:
        """Remember that such a resource had its identifier when it was read back."""
        self._identified[resource_type] = self._monotonic()
        self._strips.discard(resource_type)

    def stripped(self, resource_type: str) -> None:
        """Remember that it loses the identifier, until a resource is read back that has it."""
        self._identified.pop(resource_type, None)
        self._strips.add(resource_type)

    def showed_words(self, resource_type: str) -> None:
        """Remember that the label survives in a text as the value, and nowhere else."""
        self._in_words[resource_type] = self._monotonic()

    def lost_label(self, resource_type: str) -> None:
        """Remember that the label is lost there, and such a resource not to be written."""
        self._unlabelled[resource_type] = self._monotonic()

    def forgot_identifier(self, resource_type: str) -> None:
        """Remember that it can't be searched by identifiers."""
        self._forgets[resource_type] = self._monotonic()

    def _is_fresh(self, learnt: dict[_Learnt, float], what: _Learnt) -> bool:
        return self._monotonic() - learnt.get(what, _NEVER) < REMEMBER_S

    def _ask(self) -> EhrCapabilities | None:
        if self._monotonic() < self._ask_at:
            return self._said
        try:
            self._said = self._ehr.capabilities()
            self._ask_at = self._monotonic() + REMEMBER_S
        except TransientError:  # away: the write itself will tell
            self._ask_at = self._monotonic() + AGAIN_S
        except GatewayError:  # it does not say
            self._ask_at = self._monotonic() + REMEMBER_S
        return self._said
