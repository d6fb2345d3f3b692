"""(6.3) Say which model made a result, in an EHR that keeps neither Device nor method.

OpenMRS keeps of a result its code and value. Where the site names two Concepts for it
(`write_back.panel`), a text with the model's title and version is written beside the result, and a
panel that has both as its members: a group of observations there, which has no value itself.

Each is written once. After a lost answer the panel that has the result is looked for, and then a
text that no panel has; where that can't be searched, nothing is written a second time, and it is
told.

Source: OpenMRS Obs (a group has members and no value); docs/write-back.md.
"""

from dataclasses import replace
from typing import Protocol

import orjson

from adapters.fhir_rest.answers import WriteOutcome
from adapters.fhir_rest.errors import EhrAnswerUnreadable
from gateway.core.errors import ProcessingError, TransientError
from gateway.core.findings import Json
from gateway.core.ladder import Panel
from gateway.core.read_back import is_same_result, query_of, tail_of
from workers.fates import NotReached, Written, not_reached
from workers.looking import Searched

#: What is told where the panel is not there.
MODEL_PANEL = "model panel"
_CREATED = 201
_MAX_PAGES = 20
#: Elements that the text and the panel share with the result.
_SHARED = ("meta", "status", "subject", "encounter", "effectiveDateTime", "issued")


class Charted(Searched, Protocol):
    """What is needed of the client of an EHR; `adapters.fhir_rest` has one."""

    def create(
        self, resource_type: str, body: bytes, *, if_none_exist: str | None = None
    ) -> WriteOutcome:
        """Create a resource unless the condition finds it."""


class ModelPanel:
    """Writes the panels of results into one EHR; safe to share among threads."""

    def __init__(self, ehr: Charted) -> None:
        self._ehr = ehr

    def complete(self, sent: Json, written: Written, panel: Panel) -> Written | NotReached:
        """Write text and panel of a result that is there, unless they are there too.

        Args:
            sent: The result as an Observation.
            written: Where it is.
            panel: The Concepts.
        """
        if written.location is None:
            return _without(written)
        try:
            self._complete(sent, written, panel)
        except (EhrAnswerUnreadable, ProcessingError):  # nobody says where it is, or it is refused
            return _without(written)
        except TransientError as error:
            return not_reached(error)  # the result is found again, and then completed
        return written

    def _complete(self, sent: Json, written: Written, panel: Panel) -> None:
        place = str(written.location)
        model = {**_beside(sent, panel.model), "valueString": sent["method"]["text"]}
        whole = _beside(sent, panel.code)
        free: str | None = None
        if written.status != _CREATED:  # an earlier attempt may have written them
            panels = self._alike(whole)
            if any(place in _members(each) for each in panels):
                return
            held = {member for each in panels for member in _members(each)}
            places = (f"Observation/{each.get('id')}" for each in self._alike(model))
            free = next((each for each in places if each not in held), None)
        members = [place, free or self._create(model)]
        self._create({**whole, "hasMember": [{"reference": each} for each in members]})

    def _alike(self, sent: Json) -> list[Json]:
        """Search for what may be this, by what it is about.

        Raises:
            ProcessingError: It can't be searched so.
        """
        narrowest = next(query_of(sent))
        found = self._ehr.search("Observation", narrowest, max_pages=_MAX_PAGES, is_whole=True)
        return [each for each in found if is_same_result(sent, each, "")]

    def _create(self, resource: Json) -> str:
        place = self._ehr.create("Observation", orjson.dumps(resource)).reference
        if place is None:
            raise EhrAnswerUnreadable
        return place


def _beside(sent: Json, concept: str) -> Json:
    shared = {name: sent[name] for name in _SHARED if name in sent}
    return {"resourceType": "Observation", **shared, "code": {"coding": [{"code": concept}]}}


def _members(panel: Json) -> list[str]:
    members = panel.get("hasMember")
    found = members if isinstance(members, list) else []
    return [tail_of(str(each.get("reference", ""))) for each in found if isinstance(each, dict)]


def _without(written: Written) -> Written:
    return replace(written, lost=(*written.lost, MODEL_PANEL))
