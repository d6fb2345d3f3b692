"""Finds the patients of a feed: by what number, in which system, as the site file says.

An EHR that is asked is asked as the workers ask it, with its credential and on record; what it
answered is remembered for a while, in memory. A patient whom nobody knows by the number, or whom
several are known by, is nobody.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from adapters.hl7v2.identity import FindPatient, plain_id
from adapters.site import Site
from adapters.site_feeds import Feed
from gateway.core import audit
from gateway.core.audit import AgentKind, AuditAgent, Source, Step
from gateway.core.clock import new_id
from gateway.store.unit_of_work import Store
from workers.ehrs import Ehrs

_KNOWN_FOR_S = 600.0
_UNKNOWN_FOR_S = 30.0
_MOST_REMEMBERED = 10_000
#: What has a meaning in a search value (FHIR R4 search, section 3.1.1.3).
_ESCAPED, _ESCAPE = re.compile(r"([\\$,|])"), r"\\\1"


@contextmanager
def finding(
    feed: Feed, store: Store, source: Source, *, site: Callable[[], Site], timeout_s: float
) -> Iterator[FindPatient]:
    """Give what finds the patients of a feed; its connections are closed at the end.

    Args:
        feed: It says how they are found.
        store: The database, for the record.
        source: Who writes the record.
        site: Gives the site in force.
        timeout_s: Longest wait for the EHR.
    """
    entry = feed.patients
    system = site().system(feed.speaks_for)
    has_fhir = system is not None and system.address is not None
    if entry is None or entry.find == "id" or not (entry.find == "search" or has_fhir):
        yield plain_id
        return
    ehrs = Ehrs(site, store=store, timeout_s=timeout_s)
    try:
        yield Search(feed.speaks_for, entry.identifier, store, source, ehrs)
    finally:
        ehrs.close()


class Search:
    """Asks an EHR. Threads may share one."""

    def __init__(
        self, system: str, identifier: str, store: Store, source: Source, ehrs: Ehrs
    ) -> None:
        self._system = system
        self._identifier = identifier
        self._store = store
        self._source = source
        self._ehrs = ehrs
        self._lock = threading.Lock()
        self._remembered: OrderedDict[str, tuple[float, str | None]] = OrderedDict()

    def __call__(self, number: str) -> str | None:
        """Give the id of the patient with a number; None where that is nobody.

        Raises:
            TransientError: The EHR, or our database, is away.
            ProcessingError: The EHR refuses the search.
            ConfigurationError: The site does not say where the EHR is.
        """
        now = time.monotonic()
        with self._lock:
            known = self._remembered.get(number)
        if known is not None and known[0] > now:
            return known[1]
        found = self._ask(number)
        self._remember(number, now, found)
        return found

    def _ask(self, number: str) -> str | None:
        client = self._ehrs.connection(self._system).client
        query = [("identifier", f"{self._identifier}|{_ESCAPED.sub(_ESCAPE, number)}")]
        answer = client.search("Patient", query, max_pages=1)
        # An EHR that does not know the parameter answers with everybody.
        ids = {str(each["id"]) for each in answer if "id" in each and self._has(each, number)}
        found = ids.pop() if len(ids) == 1 else None
        self._record(number, found)
        return found

    def _has(self, patient: Mapping[str, Any], number: str) -> bool:
        wanted = (self._identifier, number)
        listed = patient.get("identifier") or ()
        return any((each.get("system"), each.get("value")) == wanted for each in listed)

    def _record(self, number: str, found: str | None) -> None:
        sealer = self._store.sealer
        hashed = sealer.keyed_hash("patient-number", self._identifier, number)
        key = sealer.patient_key(self._system, f"Patient/{found}") if found else None
        with self._store.write() as uow:
            step = Step(id=new_id(), recorded=uow.now, source=self._source, patient_key=key)
            ehr = AuditAgent(self._system, self._system, AgentKind.SERVER)
            uow.audit(audit.fetched(step, ehr=ehr, query=f"Patient?identifier={hashed}"))

    def _remember(self, number: str, now: float, found: str | None) -> None:
        with self._lock:
            self._remembered[number] = (now + (_KNOWN_FOR_S if found else _UNKNOWN_FOR_S), found)
            self._remembered.move_to_end(number)
            if len(self._remembered) > _MOST_REMEMBERED:
                self._remembered.popitem(last=False)
