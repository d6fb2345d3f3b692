"""What `nadi doctor` says of what an EHR says of itself: what it lacks, and what that means."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from adapters.fhir_rest.answers import EhrCapabilities, TypeCapabilities
from adapters.search_parameters import asked_by
from gateway.cli.write_back_view import asked_way
from gateway.core.ladder import Terms
from workers.ehrs import Ehrs

_CREATE, _CONDITIONAL = "create", "conditional create"
_SEARCH, _BY_IDENTIFIER = "search", "search by identifier"
_LOOKS_FIRST = (
    "nothing needs to be done: Nadi looks whether a result is there before it sends it again"
)
_NO_CREATE = (
    "results go there in the form named above, or stay on the worklist; to have Observations, let "
    "Nadi's user create them"
)
_NO_SEARCH = "models get only what is sent to Nadi; let Nadi's user search Observations"
_UNSURE = (
    "a result whose answer was lost is not sent again before it can be looked for: let Nadi's user "
    "search Observations"
)


@dataclass(frozen=True)
class Lack:
    """Something that an EHR can't do.

    Attributes:
        means: What that is for the hospital, and what is to be done.
        matters: Whether something is to be done.
    """

    ability: str
    means: str
    matters: bool


def of_itself(ehrs: Ehrs, name: str, terms: Terms) -> tuple[str, bool]:
    """Ask a system what it can do; say it, and whether nothing is lacking that matters.

    Raises:
        GatewayError: It can't be asked.
    """
    connection = ehrs.connection(name)
    known = connection.client.capabilities().of("Observation")
    able = abilities(known)
    can = ", ".join(ability for ability, has in able.items() if has) or "nothing with them"
    way = asked_way(terms, connection.abilities, connection.beyond)
    lacks = list(lacking(known))
    parts = [f"{connection.base_url}; {way}", f"Observations: {can}"]
    parts += [f"no {each.ability}: {each.means}" for each in lacks]
    return "; ".join(parts), not any(each.matters for each in lacks)


def abilities(known: TypeCapabilities) -> dict[str, bool]:
    """Say what of that which Nadi uses an EHR can do with a type."""
    return {
        _CREATE: "create" in known.interactions,
        _CONDITIONAL: known.conditional_create,
        _SEARCH: "search-type" in known.interactions,
        _BY_IDENTIFIER: "identifier" in known.search_parameters,
    }


def unsaid(searches: Iterable[str], said: EhrCapabilities) -> list[str]:
    """Give the parameters that are searched by and that an EHR does not say it knows.

    Args:
        searches: As `types` of a listener has them.
        said: What it says of itself; of a type without any parameter it says nothing.
    """
    asked = ((kind, name) for kind, names in map(asked_by, searches) for name in names)
    known = {kind: each.search_parameters for kind, each in said.types.items()}
    missing = (f"{kind}:{name}" for kind, name in asked if name not in known.get(kind, {name}))
    return [each for each in dict.fromkeys(missing) if known[each.partition(":")[0]]]


def lacking(known: TypeCapabilities) -> Iterator[Lack]:
    """Say what each ability that an EHR lacks means for the hospital, and what is to be done."""
    able = abilities(known)
    if not able[_CREATE]:
        yield Lack(_CREATE, _NO_CREATE, matters=True)
    if not able[_SEARCH]:
        yield Lack(_SEARCH, _NO_SEARCH, matters=True)
        if not able[_CONDITIONAL]:
            yield Lack(_CONDITIONAL, _UNSURE, matters=True)
        return
    if not able[_CONDITIONAL]:
        yield Lack(_CONDITIONAL, _LOOKS_FIRST, matters=False)
    if not able[_BY_IDENTIFIER]:
        yield Lack(_BY_IDENTIFIER, f"{_LOOKS_FIRST}, by patient, code and day", matters=False)
