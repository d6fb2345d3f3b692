"""(1.1) Whose a Binary is: it names no patient itself, but a resource whose rules it shares.

* `securityContext` names the patient, or a resource that came in the same Bundle or was received
  before and names her;
* in a Bundle, a Binary is also that patient's whose resource points at it.

So it is sealed under the patient's own key and goes when she is erased. A Binary that comes alone
and says nothing is nobody's.

Source: FHIR R4 Binary.securityContext (http://hl7.org/fhir/R4/binary.html).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from adapters.site import Site
from gateway.api.arrivals import Posting, base_url_of
from gateway.core.admission import Arrival
from gateway.core.attachments import references
from gateway.core.event import relative_reference
from gateway.store.identity import named_key
from gateway.store.unit_of_work import UnitOfWork

Arrivals = Sequence[Arrival | None]


def with_owners(uow: UnitOfWork, posting: Posting, arrivals: Arrivals, site: Site) -> Arrivals:
    """Give the arrivals of a posting, each Binary with the patient that it belongs to.

    Args:
        uow: For what was received before.
        posting: The request.
        arrivals: Of it, in order; None where an entry gave none.
        site: For the EHR's base; absolute references below it are its own.
    """
    if not any(_is_orphan(each) for each in arrivals):
        return arrivals
    owners = _Owners(uow, posting, arrivals, base_url_of(site, posting.system))
    return [
        owners.adopt(place, each) if each is not None and _is_orphan(each) else each
        for place, each in enumerate(arrivals)
    ]


def _is_orphan(arrival: Arrival | None) -> bool:
    return (
        arrival is not None
        and arrival.facts.resource_type == "Binary"
        and arrival.facts.patient is None
    )


class _Owners:
    """Finds the patients of the Binaries of one posting."""

    def __init__(
        self, uow: UnitOfWork, posting: Posting, arrivals: Arrivals, base_url: str | None
    ) -> None:
        self._uow = uow
        self._arrivals = arrivals
        self._base_url = base_url
        self._names = _names(posting, arrivals)
        self._pointing = self._patients_pointing()

    def adopt(self, place: int, binary: Arrival) -> Arrival:
        """Give a Binary with its patient, if one can be told."""
        patient = self._of_context(binary) or self._pointing.get(place)
        if patient is None:
            return binary
        return replace(
            binary,
            facts=replace(binary.facts, patient=patient),
            patient_key=self._uow.sealer.patient_key(binary.system, patient),
        )

    def _of_context(self, binary: Arrival) -> str | None:
        """Give the patient of the resource that `securityContext` names, new or received before."""
        literal = str((binary.content.get("securityContext") or {}).get("reference", ""))
        place = self._place(literal)
        here = None if place is None else self._arrivals[place]
        if here is not None:
            return here.facts.patient
        kind, _, name = (self._relative(literal) or "").partition("/")
        if not name:
            return None
        key = named_key(self._uow.sealer, binary.system, kind, name)
        before = self._uow.events.current([key]).get(key)
        return self._uow.events.patient(before) if before else None

    def _patients_pointing(self) -> Mapping[int, str]:
        """Give the patient of what is pointed at, by place; what two share is nobody's."""
        found: dict[int, set[str]] = {}
        for arrival in self._arrivals:
            if arrival is None or arrival.facts.patient is None:
                continue
            for literal in references(arrival.content):
                place = self._place(literal)
                if place is not None:
                    found.setdefault(place, set()).add(arrival.facts.patient)
        return {place: patients.pop() for place, patients in found.items() if len(patients) == 1}

    def _place(self, literal: str) -> int | None:
        return self._names.get(literal, self._names.get(self._relative(literal) or ""))

    def _relative(self, literal: str) -> str | None:
        return relative_reference(literal, base_url=self._base_url)


def _names(posting: Posting, arrivals: Arrivals) -> Mapping[str, int]:
    """Give the places of the arrivals by what they can be referred to with."""
    names: dict[str, int] = {}
    for place, arrival in enumerate(arrivals):
        if arrival is None:
            continue
        if posting.bundle and (url := posting.bundle.entries[place].full_url):
            names[url] = place
        if arrival.facts.resource_id:
            names[f"{arrival.facts.resource_type}/{arrival.facts.resource_id}"] = place
    return names
