"""What an EHR lacks is told with what it means, and what is to be done."""

import pytest

from adapters.fhir_rest.answers import EhrCapabilities, TypeCapabilities
from gateway.cli.doctor_systems import lacking, unsaid

ALL = TypeCapabilities(
    interactions=frozenset({"create", "search-type"}),
    search_parameters=frozenset({"identifier", "code"}),
    conditional_create=True,
)


def told(known: TypeCapabilities) -> dict[str, tuple[str, bool]]:
    return {each.ability: (each.means, each.matters) for each in lacking(known)}


def test_of_an_ehr_that_can_do_all_nothing_is_told() -> None:
    assert told(ALL) == {}


def test_without_conditions_and_identifiers_nadi_looks_first_and_nobody_has_to_act() -> None:
    found = told(TypeCapabilities(interactions=ALL.interactions))

    assert set(found) == {"conditional create", "search by identifier"}
    assert all(
        means.startswith("nothing needs to be done: Nadi looks") for means, _ in found.values()
    )
    assert not any(matters for _, matters in found.values())


@pytest.mark.parametrize(
    ("known", "ability", "says"),
    [
        (
            TypeCapabilities(interactions=frozenset({"search-type"})),
            "create",
            "results go there in the form named above",
        ),
        (
            TypeCapabilities(interactions=frozenset({"create"}), conditional_create=True),
            "search",
            "models get only what is sent to Nadi; let Nadi's user search",
        ),
        (
            TypeCapabilities(interactions=frozenset({"create"})),
            "conditional create",
            "a result whose answer was lost is not sent again",
        ),
    ],
)
def test_what_somebody_has_to_mend_is_told_with_how(
    known: TypeCapabilities, ability: str, says: str
) -> None:
    means, matters = told(known)[ability]

    assert means.startswith(says)
    assert matters


def saying(**types: TypeCapabilities) -> EhrCapabilities:
    return EhrCapabilities("4.0.1", "", transaction=False, batch=False, types=types)


def test_a_parameter_that_an_ehr_does_not_name_is_told_where_it_names_others() -> None:
    said = saying(Observation=ALL, Patient=TypeCapabilities())
    searches = [
        "Observation?category=laboratory&code:in=http://example.org/vs&_tag=x&category=vital-signs",
        "Observation?encounter.class=IMP",
        "Patient?birthdate=2000",
        "Consent?status=active",
        "Encounter",
    ]

    assert unsaid(searches, said) == ["Observation:category", "Observation:encounter"]
    assert unsaid(searches, saying()) == []
