"""What every FHIR call has in common: request id, identity, errors as OperationOutcome, audit.

An endpoint is `async (Call) -> Response`; `endpoint()` turns it into a Starlette one that never
lets an exception out: what is not one of ours is answered 500 with nothing of the request in it.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from adapters.site import Site
from gateway.api.body import NotAcceptable, check_accept
from gateway.api.outcome import refuse
from gateway.api.security import Authenticator
from gateway.core.audit import (
    AgentKind,
    AuditAgent,
    AuditRecord,
    Outcome,
    Source,
    Step,
    forbidden,
    queried,
    received,
    sign_in_failed,
    was_read,
)
from gateway.core.clock import new_id, utc_now
from gateway.core.errors import ContentError, Forbidden, GatewayError, LoginRequired
from gateway.core.principal import SENDER_HEADER, Permission, Principal
from gateway.store.group_commit import GroupCommit
from gateway.store.unit_of_work import Store
from gateway.telemetry import get_logger

logger = get_logger()

_ADDRESS = re.compile(r"[0-9A-Fa-f.:]{2,45}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Call:
    """One authenticated request."""

    request: Request
    principal: Principal
    request_id: str

    @property
    def address(self) -> str | None:
        """Network address of the caller; of the sender where a listener of ours brings it."""
        given = self.request.headers.get(SENDER_HEADER) if self.principal.brings else None
        if given is not None and _ADDRESS.fullmatch(given):
            return given
        return self.request.client.host if self.request.client else None

    def keep(self, body: bytes) -> None:
        """Keep the body at hand, so that a refusal can be recorded with its hash."""
        self.request.state.body = body

    @property
    def sha256(self) -> str:
        """SHA-256 of the body, hexadecimal; of nothing while none was read."""
        return sha256(getattr(self.request.state, "body", b"")).hexdigest()

    @property
    def agent(self) -> AuditAgent:
        """The caller as an audit event names it."""
        who = self.principal
        return AuditAgent(
            who.id, who.name, AgentKind.CLIENT, role=who.role.value, address=self.address
        )


Endpoint = Callable[[Call], Awaitable[Response]]
Identify = Callable[[Request], Awaitable[Principal]]


class Edge:
    """Gives endpoints their common behaviour."""

    def __init__(
        self, store: Store, authenticator: Authenticator, *, site: Callable[[], Site]
    ) -> None:
        self.store = store
        self._authenticator = authenticator
        self._site = site
        self._audit = GroupCommit(self._write_audit, limit=256, max_waiting=10_000)

    def patient_key_of(self, request: Request) -> str | None:
        """Turn `patient=` into the patient's keyed hash; None when no patient is named.

        The header `X-Nadi-Patient` says the same, where the id is not to stand in an address.
        `system=` says whose patient it is; a site with one system needs no telling.

        Raises:
            ContentError: The site has several systems and none is named.
        """
        patient = request.query_params.get("patient", request.headers.get("x-nadi-patient"))
        if not patient:
            return None
        reference = patient if "/" in patient else f"Patient/{patient}"
        return self.store.sealer.patient_key(self.system_of(request), reference)

    def site(self) -> Site:
        """Give the site in force."""
        return self._site()

    def system_of(self, request: Request) -> str:
        """Give the system that `system=` names, or the only one that there is.

        Raises:
            ContentError: The site has several systems and none is named.
        """
        return request.query_params.get("system") or self._only_system()

    def _only_system(self) -> str:
        systems = self._site().of_patients
        if len(systems) != 1:
            raise ContentError(
                f"Say whose patient it is, by system=: {', '.join(systems) or 'no system yet'}.",
                location="system",
            )
        return systems[0]

    def own_token(self, name: str, system: str) -> str:
        """Make a token for what this process itself pushes, see `Authenticator.own_token`."""
        return self._authenticator.own_token(name, system)

    def close(self) -> None:
        """Write the audit events that wait."""
        self._audit.close()

    def endpoint(
        self, permission: Permission, handler: Endpoint, *, identify: Identify | None = None
    ) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a handler that needs one permission.

        Args:
            permission: What the caller needs.
            handler: Answers.
            identify: Says who calls, where that is not known by a token of this gateway.
        """
        known = identify or self.principal

        async def serve(request: Request) -> Response:
            request_id = _request_id(request)
            try:
                response = await self._served((request, request_id), known, permission, handler)
            except NotAcceptable as error:
                response = refuse(error, status=406)
            except GatewayError as error:
                response = refuse(error)
            except ClientDisconnect:
                response = Response(status_code=499)
            except Exception:  # the edge: nothing may pass it unexplained
                logger.exception("request failed", request_id=request_id)
                response = refuse(GatewayError("Something went wrong here; it was recorded."))
            response.headers["X-Request-Id"] = request_id
            return response

        return serve

    async def _served(
        self,
        asked: tuple[Request, str],
        identify: Identify,
        permission: Permission,
        handler: Endpoint,
    ) -> Response:
        request, request_id = asked
        try:
            call = Call(request, await identify(request), request_id)
        except LoginRequired:
            await self._record_sign_in_failure(request, request_id)
            raise
        await self._insist(call, permission)
        check_accept(request)
        return await handler(call)

    async def principal(self, request: Request) -> Principal:
        """Say who calls, by a token of this gateway.

        Raises:
            LoginRequired: There is none, or none in force.
            StoreUnavailable: The database can't say.
        """
        header = request.headers.get("authorization")
        known = self._authenticator.remembered(header)
        if known is not None:
            return known
        return await run_in_threadpool(self._authenticator.authenticate, header)

    async def _insist(self, call: Call, permission: Permission) -> None:
        try:
            call.principal.require(permission)
        except Forbidden:
            step = self._step(call.request_id, outcome=Outcome.SERIOUS_FAILURE)
            await self.record(forbidden(step, client=call.agent, permission=permission.value))
            raise

    async def _record_sign_in_failure(self, request: Request, request_id: str) -> None:
        address = request.client.host if request.client else None
        client = AuditAgent("unknown", "unknown", AgentKind.CLIENT, address=address)
        step = self._step(request_id, outcome=Outcome.SERIOUS_FAILURE)
        await self.record(sign_in_failed(step, client=client))

    async def record_refusal(self, call: Call, issue_type: str) -> None:
        """Record that pushed content was not accepted.

        Raises:
            StoreUnavailable: It can't be recorded at the moment.
        """
        step = self._step(
            call.request_id, outcome=Outcome.SERIOUS_FAILURE, reason=f"Refused: {issue_type}"
        )
        await self.record(received(step, sender=call.agent, resource_type="", sha256=call.sha256))

    async def record_read(
        self, call: Call, resource_type: str, resource_id: str, patient_key: str | None
    ) -> None:
        """Record that one resource was read, before it is shown.

        Raises:
            StoreUnavailable: It can't be recorded, so it can't be shown.
        """
        step = self._step(call.request_id, patient_key=patient_key)
        await self.record(
            was_read(step, agents=[call.agent], resource_type=resource_type, resource=resource_id)
        )

    async def record_query(self, call: Call, query: str, patient_keys: set[str | None]) -> None:
        """Record a search, one event per patient in its answer.

        Raises:
            StoreUnavailable: It can't be recorded, so the answer can't be shown.
        """
        await self.record(
            *(
                queried(
                    self._step(call.request_id, patient_key=key), agents=[call.agent], query=query
                )
                for key in (patient_keys or {None})
            )
        )

    def _step(
        self,
        request_id: str,
        *,
        patient_key: str | None = None,
        outcome: Outcome = Outcome.SUCCESS,
        reason: str = "",
    ) -> Step:
        return Step(
            id=new_id(),
            recorded=utc_now(),
            source=Source(self._site().name or "unconfigured", "api"),
            patient_key=patient_key,
            request_id=request_id,
            outcome=outcome,
            reason=reason,
        )

    async def record(self, *records: AuditRecord) -> None:
        """Put something on record.

        Raises:
            StoreUnavailable: It can't be recorded at the moment.
        """
        futures = [self._audit.submit(record) for record in records]
        for future in futures:
            await asyncio.wrap_future(future)

    def _write_audit(self, records: Sequence[AuditRecord]) -> list[None]:
        with self.store.write() as uow:
            uow.audit(*records)
        return [None] * len(records)


def _request_id(request: Request) -> str:
    """Take the caller's X-Request-Id if it is harmless, else make one."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else new_id()
