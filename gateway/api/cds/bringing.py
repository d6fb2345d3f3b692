"""(1) What a call brings, and what is asked of its EHR, is received as everything else is.

* What was not asked for is not taken; what is another patient's refuses the call.
* What is missing is asked of the EHR, if the patient's consents foresee that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from starlette.concurrency import run_in_threadpool

from adapters.site import System
from gateway.api.arrivals import Posting, base_url_of
from gateway.api.batch import Receipt
from gateway.api.cds.asked import Asked
from gateway.api.cds.charts import Charts
from gateway.api.edge import Edge
from gateway.api.entries import with_refusals
from gateway.api.receive import Receiver
from gateway.core.audit import (
    AgentKind,
    AuditAgent,
    AuditRecord,
    Outcome,
    Source,
    Step,
    consent_decided,
    fetched,
)
from gateway.core.cds.accepting import insist_on_patient
from gateway.core.cds.chosen import Triggering, chosen
from gateway.core.cds.prefetch import Template
from gateway.core.cds.request import Brought, bundle_of
from gateway.core.clock import new_id, utc_now
from gateway.core.consent import READ, About, ConsentDecision, Model, question
from gateway.core.event import facts
from gateway.core.fhir import ParsedBundle, ParseLimits, parse_bundle
from gateway.core.task import JobLine


@dataclass(frozen=True)
class Got:
    """What an EHR was asked for besides.

    Attributes:
        prefetch: What it gave, by key.
        failed: Keys that it did not give, or not in time.
    """

    prefetch: Mapping[str, Sequence[Brought]] = field(default_factory=dict)
    failed: tuple[str, ...] = ()


class Bringing:
    """Receives what calls bring."""

    def __init__(self, edge: Edge, receiver: Receiver, limits: ParseLimits) -> None:
        self._edge = edge
        self._receiver = receiver
        self._limits = limits
        self._charts = Charts()

    def close(self) -> None:
        """Close the connections to EHRs."""
        self._charts.close()

    async def received(
        self, asked: Asked, brought: Sequence[Brought], *, is_told: bool
    ) -> list[JobLine]:
        """Receive what a call brings; give the jobs whose results are shown.

        Args:
            asked: The call.
            brought: What of it is taken.
            is_told: Whether that is all that the EHR has of what the model reads.

        Raises:
            InvalidResource: Something is another patient's.
            TransientError: There is no room for it, or the database is away.
        """
        bundle = await run_in_threadpool(self._parsed, asked, brought)
        posting = Posting(
            principal=asked.call.principal,
            system=asked.route.source,
            request_id=asked.call.request_id,
            address=asked.call.address,
            bundle=bundle,
            awaited_by=asked.route.name,
            # What was refused is not here: the EHR may be asked for it in another form.
            is_told=is_told and not any(entry.issues for entry in bundle.entries),
        )
        receipts = await self._receiver.receive(posting)
        return chosen(_triggering(asked, bundle, receipts))

    def _parsed(self, asked: Asked, brought: Sequence[Brought]) -> ParsedBundle:
        bundle = with_refusals(parse_bundle(bundle_of(brought), limits=self._limits))
        base_url = base_url_of(asked.site, asked.route.source)
        contents = (entry.resource.content for entry in bundle.entries if entry.resource)
        insist_on_patient(asked.request, contents, base_url)
        return bundle

    async def fetched(self, asked: Asked, missing: Sequence[Template]) -> Got | None:
        """Ask the EHR for what is missing; None where the patient's consents forbid it."""
        system = asked.site.system(asked.route.source)
        if system is None or system.address is None:
            return Got(failed=tuple(each.key for each in missing))
        decision = await run_in_threadpool(self._foreseen, asked)
        step, user = self._step(asked), _model_agent(asked)
        await self._edge.record(consent_decided(step, decision, stage="fetch", user=user))
        if not decision.is_permitted:
            return None
        got = await run_in_threadpool(
            self._charts.fetch,
            system,
            missing,
            asked.request.patient,
            token=asked.request.access_token,
            until_s=asked.until_s,
        )
        await self._edge.record(*self._asked_for(asked, system, missing, got.failed))
        return Got(got.prefetch, got.failed)

    def _foreseen(self, asked: Asked) -> ConsentDecision:
        """Ask the consents before anything is known of what would be fetched."""
        key, card = asked.patient_key, asked.line.card
        with self._edge.store.read() as uow:
            consents = uow.consents.of([key], asked.site.abdm_policy)[key]
            about, model = (
                About(asked.patient, None, uow.now),
                Model(asked.route.model, card.digest),
            )
            return question(asked.route.asks, about, consents, model, READ).foresee()

    def _asked_for(
        self, asked: Asked, system: System, missing: Sequence[Template], failed: Sequence[str]
    ) -> list[AuditRecord]:
        ehr = AuditAgent(system.name, system.name, AgentKind.SERVER)
        step = self._step(asked)
        return [
            fetched(
                replace(step, id=new_id(), outcome=outcome, reason=reason),
                ehr=ehr,
                query=f"{each.resource_type}?cds-prefetch={each.key}&patient={step.patient_key}",
            )
            for each in missing
            for outcome, reason in [_how_it_went(each.key in failed)]
        ]

    def _step(self, asked: Asked) -> Step:
        return Step(
            id=new_id(),
            recorded=utc_now(),
            source=Source(asked.site.name or "unconfigured", "api"),
            patient_key=asked.patient_key,
            request_id=asked.call.request_id,
        )


def _triggering(
    asked: Asked, bundle: ParsedBundle, receipts: Sequence[Receipt]
) -> Iterator[Triggering[JobLine]]:
    for index, receipt in enumerate(receipts):
        resource = bundle.entries[index].resource
        if resource is not None:
            mine = [job for job in receipt.jobs if job.route == asked.route.name]
            at = facts(resource.content).effective if mine else None
            yield Triggering(index < len(asked.request.orders), at, mine)


def _model_agent(asked: Asked) -> AuditAgent:
    return AuditAgent(asked.line.card.digest, asked.route.model, AgentKind.USER)


def _how_it_went(has_failed: bool) -> tuple[Outcome, str]:
    if has_failed:
        return Outcome.MINOR_FAILURE, "The system did not give it in time."
    return Outcome.SUCCESS, ""
