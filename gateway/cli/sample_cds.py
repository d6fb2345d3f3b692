"""A CDS Hooks request as a sample: what the API would receive of it, and what it would answer.

The address that is called is not in a request, so the route's service at the hook that it names is
taken. Nobody is asked: what the API would ask the EHR for is named.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from rich.markup import escape

from adapters.site import Site
from adapters.site_cds_hooks import CdsService
from gateway.api.arrivals import base_url_of
from gateway.api.outcome import refuse
from gateway.cli.context import err, out
from gateway.cli.explanation import Explanation
from gateway.cli.sample import Sample, read_sample
from gateway.core.cds.accepting import (
    DATA_MISSING,
    DataMissing,
    insist_on_patient,
    insist_on_server,
    not_given,
)
from gateway.core.cds.prefetch import missing_of, taken_of, templates_of
from gateway.core.cds.request import bundle_of, is_cds_request, read_request
from gateway.core.errors import GatewayError, Issue, NotFound
from gateway.core.fhir import ParseLimits
from gateway.core.r4_json import decode
from gateway.core.routing import Route
from models.registry import InstalledModel

_OK, _PRECONDITION_FAILED = 200, 412
_NOT_OF_STAFF = (
    "no card, and nothing of it is received: no clinician looks (context.userId), and what nobody "
    "reviewed is for clinicians only"
)
_NO_MODEL = "no card, and nothing of it is received: the model of the route is not in service"
_NOT_TAKEN = "nothing of it is received"
_NO_CARD = "no card, since what the model needs is not there"
_IF_GIVEN = "a card, if the EHR gives what it would be asked for; else HTTP 412"
_NOTHING = "no card: nothing that it brings starts the route"
_MAY_FOLLOW = "a card that says that a result may follow: consent does not permit one"
_CARD = "a card, with the result where it is there in time"


@dataclass(frozen=True)
class Answer:
    """What the API would answer to a call.

    Attributes:
        status: HTTP status.
        says: What is in the answer, or why the call is refused.
        issues: Of the OperationOutcome, where it is refused.
        asks_for: Keys that it does not bring, which the EHR would be asked for.
    """

    status: int
    says: str
    issues: tuple[Issue, ...] = ()
    asks_for: tuple[str, ...] = ()

    @property
    def is_refused(self) -> bool:
        """Whether the call is refused."""
        return self.status != _OK

    def as_json(self) -> dict[str, object]:
        """Give it for programs."""
        return {
            "status": self.status,
            "says": self.says,
            "issues": [
                {"code": each.code, "expression": each.expression, "diagnostics": each.diagnostics}
                for each in self.issues
            ],
            "would_ask_ehr_for": list(self.asks_for),
        }


@dataclass(frozen=True)
class Called:
    """A call as far as it can be told before its resources are explained.

    Attributes:
        sample: What the API would receive of it; nothing where it is refused.
        answer: What is answered already; None where that depends on what it brings.
        asks_for: Keys that it does not bring.
        can_ask: Whether the EHR has a FHIR API where it could be asked for them.
    """

    sample: Sample = field(default_factory=lambda: Sample((), ()))
    answer: Answer | None = None
    asks_for: tuple[str, ...] = ()
    can_ask: bool = True

    def answered(self, found: Sequence[Explanation]) -> Answer:
        """Give the answer, once it is known what the route makes of each resource."""
        return self.answer or _by_results(found, self)


def is_call(raw: bytes, limits: ParseLimits) -> bool:
    """Say whether a sample means to be a call of a CDS service.

    Raises:
        ContentError: It is no JSON.
    """
    return is_cds_request(decode(raw, max_depth=limits.max_depth))


def read_call(
    raw: bytes,
    site: Site,
    route: Route,
    model: InstalledModel | None,
    limits: ParseLimits,
) -> Called:
    """Read a call as the API would.

    Args:
        raw: Its body.
        site: Whose services there are.
        route: Of which one is called.
        model: Its model; None where that is not in service.
        limits: Of JSON and Bundles.
    """
    base_url = base_url_of(site, route.source)
    try:
        hook = _service(raw, site, route).hook
        request = read_request(raw, hook=hook, max_depth=limits.max_depth)
        if model is None or not request.is_of_staff:
            return Called(answer=Answer(_OK, _NO_MODEL if model is None else _NOT_OF_STAFF))
        insist_on_server(request, base_url)
        templates = templates_of(
            model.manifest, trigger_type=route.resource_type, local_codes=site.local_codes
        )
        brought = [*request.orders, *taken_of(request.prefetch, templates)]
        sample = read_sample(bundle_of(brought), base_url=base_url) if brought else Sample((), ())
        contents = (each.resource.content for each in sample.resources)
        insist_on_patient(request, contents, base_url)
    except GatewayError as error:
        return Called(answer=_refused(error))
    system = site.system(route.source)
    return Called(
        sample,
        asks_for=tuple(each.key for each in missing_of(request, templates)),
        can_ask=system is not None and system.address is not None,
    )


def _service(raw: bytes, site: Site, route: Route) -> CdsService:
    """Give the service that a call is for: the route's at the hook that it names, or any of it."""
    services = [each for each in site.cds.services.values() if each.route == route.name]
    if not services:
        raise NotFound(f"There is no CDS service of route '{route.name}': it has no `cds_hooks`.")
    named = orjson.loads(raw).get("hook")
    return next((each for each in services if each.hook == named), services[0])


def _refused(error: GatewayError, *, status: int | None = None) -> Answer:
    answered = refuse(error, status=status).status_code
    return Answer(answered, _NOT_TAKEN if status is None else _NO_CARD, error.issues)


def _by_results(found: Sequence[Explanation], called: Called) -> Answer:
    matched = [each for each in found if each.why_not is None]
    lacking = [each.refusal.text for each in matched if each.refusal and _is_lacking(each)]
    if len(lacking) < len(matched):
        is_hidden = not any(_is_told(each) for each in matched if not _is_lacking(each))
        return Answer(_OK, _MAY_FOLLOW if is_hidden else _CARD, asks_for=called.asks_for)
    if called.asks_for and called.can_ask:
        return Answer(_OK, _IF_GIVEN, asks_for=called.asks_for)
    if called.asks_for:
        return _refused(not_given(called.asks_for), status=_PRECONDITION_FAILED)
    if lacking:
        return _refused(DataMissing(" ".join(lacking)), status=_PRECONDITION_FAILED)
    return Answer(_OK, _NOTHING)


def _is_lacking(each: Explanation) -> bool:
    refusal = each.refusal
    return refusal is not None and _is_told(each) and refusal.reason in DATA_MISSING


def _is_told(each: Explanation) -> bool:
    """Whether consent permits to say anything about it."""
    is_permitted = each.consent is not None and each.consent.is_permitted
    return is_permitted and (each.refusal is None or each.refusal.reason != "masked")


def show_answer(file: Path, answer: Answer) -> None:
    """Print what would be answered; a refusal on standard error."""
    told, mark = (err, "[red]✗[/]") if answer.is_refused else (out, "[cyan]→[/]")
    for each in answer.issues:
        place = f" {each.expression}:" if each.expression else ""
        told.print(f"{mark} {escape(f'{file}:{place} {each.diagnostics}')}", soft_wrap=True)
    told.print(
        f"{mark} As a CDS Hooks call the API would answer HTTP {answer.status}: {answer.says}.",
        soft_wrap=True,
    )
    if answer.asks_for:
        keys = escape(", ".join(answer.asks_for))
        told.print(f"  [dim]It does not bring, so the EHR would be asked for:[/] {keys}")
