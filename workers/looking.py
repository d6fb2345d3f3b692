"""(6.3) Look for results that may be in an EHR already, whatever it can be searched by.

First by identifier. An EHR in which no result of this type was lately read back with its identifier
is asked for what it has of the same patient, code and time; what it gives is compared, since one
that ignores what was asked gives everything. Of several that look alike each gets the place that is
likest to it, and none a place that is known to be another result's. Where an answer can't be relied
on, nor a condition, nobody knows: nothing is written. A condition can't be relied on where
identifiers are lost.

Source: docs/write-back.md.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from gateway.core.errors import GatewayError, ProcessingError, TransientError
from gateway.core.findings import RESULT_SYSTEM, Json
from gateway.core.read_back import is_same_result, likeness, query_of
from gateway.core.result_carriers import in_words
from gateway.core.write_back import StoredReport, is_result
from workers.ehr_abilities import EhrAbilities

#: Pages that are read of one patient's results of one code at one time.
_MAX_PAGES = 20


class Searched(Protocol):
    """What is needed of the client of an EHR; `adapters.fhir_rest` has one."""

    def search(
        self,
        resource_type: str,
        params: Sequence[tuple[str, str]],
        *,
        max_pages: int = 5,
        is_whole: bool = False,
    ) -> list[dict[str, Any]]:
        """Search one type."""


@dataclass(frozen=True)
class Match:
    """What may be a result.

    Attributes:
        place: `Type/id`.
        likeness: How much it has in common with the result beyond what it must have.
    """

    place: str
    likeness: int
    resource: Json


@dataclass(frozen=True)
class Matches:
    """What may be a result, in all of its forms.

    Attributes:
        doubt: Why nobody knows, where none of these is left for it; empty where it is known.
    """

    found: tuple[Match, ...]
    doubt: str


@dataclass(frozen=True)
class Unsure:
    """Nobody can tell whether a result is in the EHR.

    Attributes:
        why: Name of what happened.
    """

    why: str


class Looking:
    """Looks for results in one EHR."""

    def __init__(self, ehr: Searched, abilities: EhrAbilities) -> None:
        self._ehr = ehr
        self._abilities = abilities

    def find(
        self,
        reports: Sequence[StoredReport],
        *,
        has_condition: bool = True,
        sought: frozenset[str] = frozenset(),
    ) -> dict[str, list[Json] | Unsure]:
        """Give by identifier what the EHR holds of each report, in every form it may have.

        Args:
            reports: What is looked for.
            has_condition: Whether what is not found is written on a condition afterwards, which an
                EHR may heed that can't be searched.
            sought: Types among which their identifiers were looked for already, in vain.

        Raises:
            TransientError: The EHR is away.
        """
        found = self._by_identifier(reports, sought)
        missing = [report for report in reports if not found[report.identifier]]
        alike = {each.identifier: self._by_facts(each, has_condition) for each in missing}
        return {**found, **shared_out(alike)}

    def tagged(self, resource_type: str, parameter: str, values: Sequence[str]) -> list[Json]:
        """Search by results' identifiers in one parameter.

        Raises:
            GatewayError: The EHR is away, or can't be searched so.
        """
        tokens = ",".join(f"{RESULT_SYSTEM}|{value}" for value in values)
        return self._ehr.search(resource_type, [(parameter, tokens)], max_pages=2)

    def _by_identifier(
        self, reports: Sequence[StoredReport], sought: frozenset[str]
    ) -> Mapping[str, list[Json]]:
        by_type: dict[str, list[str]] = {}
        for report in reports:
            for name in report.types:
                if name not in sought and self._abilities.finds_by_identifier(name):
                    by_type.setdefault(name, []).append(report.identifier)
        every = [each for name, wanted in by_type.items() for each in self._asked(name, wanted)]
        return {r.identifier: [e for e in every if is_result(e, r.identifier)] for r in reports}

    def _asked(self, resource_type: str, wanted: Sequence[str]) -> Iterable[Json]:
        try:
            found = self.tagged(resource_type, "identifier", wanted)
        except TransientError:
            raise
        except GatewayError:  # it can't be searched so
            self._abilities.forgot_identifier(resource_type)
            return ()
        if any(not any(is_result(each, name) for name in wanted) for each in found):
            self._abilities.forgot_identifier(resource_type)  # it ignored what it was asked for
        return found

    def _by_facts(self, report: StoredReport, has_condition: bool) -> Matches:
        """Look for a result by what it is about, in the forms that have no identifier there."""
        matches: list[Match] = []
        for name, forms in _forms(report).items():
            is_believed = self._abilities.finds_by_identifier(name)
            if is_believed and self._abilities.keeps_identifiers(name):
                continue
            alike, doubt = self._alike(forms, report)
            matches += alike
            is_heeded = has_condition and self._heeds_conditions(name)
            if doubt and not is_believed and not is_heeded:
                return Matches(tuple(matches), doubt)
        return Matches(tuple(matches), "")

    def _heeds_conditions(self, resource_type: str) -> bool:
        """Say whether a conditional create may find what is there."""
        is_lost = self._abilities.strips(resource_type)
        return not is_lost and not self._abilities.ignores_conditions(resource_type)

    def _alike(self, forms: Sequence[Json], report: StoredReport) -> tuple[list[Match], str]:
        """Give what may be the result, and why the answer can't be relied on, if so."""
        name, doubt = str(forms[0]["resourceType"]), ""
        for query in query_of(forms[0]):
            try:
                found = self._ehr.search(name, query, max_pages=_MAX_PAGES, is_whole=True)
            except ProcessingError as error:  # it can't be searched so, or ignored what was asked
                doubt = type(error).__name__
                continue
            places = ((f"{name}/{each.get('id')}", each) for each in found)
            left = [(place, each) for place, each in places if place not in report.taken]
            return [m for place, e in left for m in _matches(forms, report, place, e)], ""
        return [], doubt


def _matches(
    forms: Sequence[Json], report: StoredReport, place: str, kept: Json
) -> Iterator[Match]:
    own = report.identifier
    likenesses = [likeness(form, kept) for form in forms if is_same_result(form, kept, own)]
    if likenesses:
        yield Match(place, max(likenesses), kept)


def shared_out(matches: Mapping[str, Matches]) -> dict[str, list[Json] | Unsure]:
    """Give each result, by identifier, at most one place, and no place to two: the likest first."""
    pairs = [(each, name) for name, told in matches.items() for each in told.found]
    found: dict[str, list[Json] | Unsure] = {
        name: Unsure(told.doubt) if told.doubt else [] for name, told in matches.items()
    }
    served, taken = set[str](), set[str]()
    for match, name in sorted(pairs, key=lambda pair: -pair[0].likeness):
        if name not in served and match.place not in taken:
            served.add(name)
            taken.add(match.place)
            found[name] = [match.resource]
    return found


def _forms(report: StoredReport) -> dict[str, list[Json]]:
    """Give by type the forms in which a result may have been written: a value as text too."""
    forms: dict[str, list[Json]] = {}
    for body in (report.result, report.instead, report.before):
        form: Json = orjson.loads(body or b"{}")
        if form:
            kept = forms.setdefault(str(form["resourceType"]), [])
            kept += [form, in_words(form)] if form["resourceType"] == "Observation" else [form]
    return forms
