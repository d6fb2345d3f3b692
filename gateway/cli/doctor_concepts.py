"""What `nadi doctor` says of the Concepts under which an OpenMRS gets results.

Every one that a route writes is looked up, without a test patient and without writing anything:

* it has to be there, not retired, and of the type of what is written: a number, a choice, or a text
  where its name does not say that an AI made it;
* OpenMRS ignores the unit of a number and shows the Concept's, so that has to be the model's;
* a number alone does not say which version of the model made it: a panel does, or a note.

What can't be looked up (a code with a system, a login that sees no Concepts) the probe tries.

Source: OpenMRS webservices.rest; docs/write-back.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isclose

from adapters import ehr_profile
from adapters.ehr_profile import Profile
from adapters.openmrs_concepts import Concept, Concepts
from adapters.site import Site, System
from gateway.cli.doctor_feeds import FeedFinding
from gateway.cli.doctor_remedies import with_remedy
from gateway.cli.models_installed import Find
from gateway.core.errors import GatewayError, ProcessingError, TransientError
from gateway.core.ladder import Panel, Terms
from gateway.core.read_back import Label, label_of
from gateway.core.routing import Route
from models.manifest import Output
from workers.units import conversion

_WITHIN_S = 5.0
_PANEL = "name two Concepts for that (write_back.panel)"
#: System and code.
Code = tuple[str, str]


@dataclass
class LookedUp:
    """What came of looking up the Concepts of one system.

    Attributes:
        findings: What is said of each.
        untold: The models' codes of those that could not be looked up.
    """

    findings: list[FeedFinding] = field(default_factory=list)
    untold: list[Code] = field(default_factory=list)


@dataclass(frozen=True)
class _Wanted:
    """A Concept that results are written under.

    Attributes:
        of: The model's code; None for one of the panel's.
        own: System, code and name of the Concept, as the site says.
        outputs: What models answer under it.
        needed: Its type, where no output says that.
        is_named: Whether something else says which model made what stands under it.
    """

    of: Code | None
    own: tuple[str, str, str]
    outputs: tuple[Output, ...] = ()
    needed: str = ""
    is_named: bool = True


def terms_of(site: Site, system: System) -> Terms:
    """Give the terms for a probe of a system: with the codes of all routes, without a panel."""
    found, codes = system.terms, dict(system.terms.codes)
    for route in _routes(site, system):
        found = system.terms.under(route.terms)
        codes |= found.codes
    return Terms(found.only, found.never, found.if_label_lost, codes)


def look_up(site: Site, system: System, find: Find) -> LookedUp:
    """Look up every Concept that results are written under in a system.

    Args:
        site: For its routes.
        system: One that gets results.
        find: Gives the model of a route.
    """
    try:
        profile = _profile_of(system)
        return _look_up(site, system, profile, find) if profile.needs_codes else LookedUp()
    except GatewayError as error:
        return LookedUp([FeedFinding(_check(system), error.message, is_fault=True)])


def _look_up(site: Site, system: System, profile: Profile, find: Find) -> LookedUp:
    found = LookedUp()
    found.findings += _unnamed(site, system, find)
    concepts = Concepts.of(system, timeout_s=system.timeout_s or _WITHIN_S)
    for wanted in (*_wanted(site, system, profile, find), *_of_panels(site, system)):
        says, is_fault = _looked_up(concepts, wanted, profile, found)
        found.findings.append(FeedFinding(_check(system), f"{wanted.own[1]}: {says}", is_fault))
    if concepts:
        concepts.close()
    return found


def _looked_up(
    concepts: Concepts | None, wanted: _Wanted, profile: Profile, found: LookedUp
) -> tuple[str, bool | None]:
    """Look up one; remember it as untold where that can't be done."""
    why = "a code with a system" if wanted.own[0] else "its address is not that of an OpenMRS"
    if concepts and not wanted.own[0]:
        try:
            concept = concepts.find(wanted.own[1])
        except TransientError as error:
            return f"could not be looked up: {with_remedy(error)}", None
        except ProcessingError:
            why = "the login may see none, or there is no REST interface"
        else:
            return _judged(concept, wanted, profile)
    if wanted.of is None:
        return f"can't be looked up ({why})", None
    found.untold.append(wanted.of)
    return f"can't be looked up ({why}); a probe tries it where there is a test_patient", None


def _judged(concept: Concept | None, wanted: _Wanted, profile: Profile) -> tuple[str, bool | None]:
    if concept is None:
        return "there is no such Concept: what is written under it is refused; make it", True
    says = f"'{concept.name}', {concept.datatype}"
    if concept.is_retired:
        return f"{says}, is retired: name another", True
    if wanted.needed not in ("", concept.datatype):
        return f"{says}, has to be {wanted.needed}: the model's title and version are a text", True
    for output in wanted.outputs:
        problem, is_fault = _under(concept, wanted, profile, output)
        if problem:
            return f"{says}{problem}", is_fault
    return f"{says} in {concept.unit}" if concept.unit else says, False


def _under(
    concept: Concept, wanted: _Wanted, profile: Profile, output: Output
) -> tuple[str, bool | None]:
    """Say what is wrong with writing an output under a Concept; nothing where all is well."""
    needed = _needed(concept, wanted, profile, output)
    if concept.datatype != needed:
        return f", takes no {needed}, which {output.name} is written as", True
    if needed == "Text":
        return "", False
    problem, is_fault = _units(concept.unit, output.unit) if output.unit else ("", False)
    if problem:
        return f": {problem}", is_fault
    if not wanted.is_named:
        return f": nothing beside a value says which model made it: {_PANEL}", None
    return "", False


def _needed(concept: Concept, wanted: _Wanted, profile: Profile, output: Output) -> str:
    """Say of which type a Concept has to be; one whose name does not say AI gets a text."""
    name = wanted.own[2] or concept.name
    if not profile.ai_note and label_of({"code": {"text": name}}) is Label.LOST:
        return "Text"
    return "Coded" if output.kind == "class" else "Numeric"


def _units(theirs: str, ours: str) -> tuple[str, bool | None]:
    """Compare the unit in which a number is shown with the one in which it is written."""
    if not theirs:
        return f"tells no unit; set it to {ours}, as the model's", None
    try:
        found = conversion(ours, theirs)
    except GatewayError as error:
        says = f"its unit {theirs} can't be compared with the model's {ours}"
        return f"{says} ({type(error).__name__})", None if theirs != ours else False
    if isclose(found.scale, 1.0, rel_tol=1e-9) and found.offset == 0:
        return "", False
    return f"shows numbers in {theirs}, and the model's are in {ours}: every value is wrong", True


def _wanted(site: Site, system: System, profile: Profile, find: Find) -> Iterator[_Wanted]:
    outputs: dict[Code, list[Output]] = {}
    for route in _routes(site, system):
        for code, output in _chief(route, find):
            outputs.setdefault(code, []).append(output)
    for of, own in terms_of(site, system).codes.items():
        is_named = profile.ai_note or bool(_panels(site, system))
        yield _Wanted(of, own, tuple(outputs.get(of, ())), is_named=is_named)


def _of_panels(site: Site, system: System) -> Iterator[_Wanted]:
    for panel in _panels(site, system):
        yield _Wanted(None, ("", panel.code, ""))
        yield _Wanted(None, ("", panel.model, ""), needed="Text")


def _panels(site: Site, system: System) -> list[Panel]:
    """Give the panels that routes write into a system, each once."""
    panels = (system.terms.under(route.terms).panel for route in _routes(site, system))
    return list(dict.fromkeys(panel for panel in panels if panel))


def _unnamed(site: Site, system: System, find: Find) -> Iterator[FeedFinding]:
    """Say which routes write what the site names no Concept for."""
    for route in _routes(site, system):
        codes = system.terms.under(route.terms).codes
        for code, _ in _chief(route, find):
            if code not in codes:
                says = f"write_back.codes names no Concept for {code[1]}, which {route.model} gives"
                yield FeedFinding(_check(system), f"{says}: it is not written", is_fault=None)


def _chief(route: Route, find: Find) -> Iterator[tuple[Code, Output]]:
    """Give the code that a route's results stand under, and what stands there."""
    model = find(route.model)
    if model is not None:
        chief = model.manifest.outputs[0]
        code = model.manifest.panel.code if model.manifest.panel else chief.code
        yield (code.system, code.code), chief


def _routes(site: Site, system: System) -> Iterator[Route]:
    return (route for route in site.routes if route.sink == system.name)


def _check(system: System) -> str:
    return f"concept of {system.name}"


def _profile_of(system: System) -> Profile:
    if system.profile:
        return ehr_profile.profile(system.profile)
    return ehr_profile.recognised(system.base_url, None)
