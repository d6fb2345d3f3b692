"""The faults that this EHR can be told to have, while it runs.

`GET /sandbox/faults` shows them, `POST /sandbox/faults` sets those that are named. Each is a way
in which a real EHR has been seen to fail its clients.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.sandbox.keys import Resource
from adapters.sandbox.refusal import FHIR_JSON, Refusal, outcome
from adapters.sandbox.search import MAX_COUNT

Rate = float
_SERVICE_UNAVAILABLE = 503
_TOO_MANY_REQUESTS = 429
_WRITES = frozenset({"POST", "PUT", "DELETE"})


class Faults(BaseModel):
    """What is wrong at the moment; the defaults are a healthy EHR.

    Attributes:
        down: `503` answers everything so, `close` closes every connection without an answer.
        slow_ms: Delay before a request is looked at.
        error_rate: Share of requests answered with one of `error_statuses`, nothing done.
        retry_after_s: Retry-After of an injected 429 or 503.
        drop_after_commit_rate: Share of writes that are done, then closed without an answer.
        fail_after_commit_rate: Share of writes that are done, then answered with one of
            `error_statuses` all the same.
        duplicate_rate: Share of Subscription pushes that are sent `push_copies` times.
        push_copies: How often in all; HAPI was seen to send 19.
        reorder_rate: Share of Subscription pushes that are sent after the one that follows.
        push_loss_rate: Share of Subscription pushes that are never sent.
        lose_every: Of so many events the last is never sent; 0 loses none.
        posts_pushes: Rest-hooks are POSTed with the resource, deletions too, as Medplum does.
        no_events_operation: `$events` of a Subscription is refused (501).
        ignore_unknown_params: Unknown search parameters match everything instead of 400.
        ignored_params: Known search parameters that match everything all the same.
        drop_elements: Elements lost in silence on write: `device`, `meta.security`, or of one
            type only, `Observation.identifier`.
        units_by_code: The unit in which a number is kept under a code, whatever was sent.
        no_conditional_create: If-None-Exist is ignored.
        no_transaction: Transaction Bundles are refused (501).
        no_batch: Batch Bundles are refused (501).
        no_update_create: PUT to an unknown id is refused.
        unknown_id_status: With what it is refused then.
        no_reads: There is no FHIR read or search (404), only writes on their conditions.
        unsupported_types: Types that this EHR does not have (404).
        export_wait_s: How long an export takes to be made.
        export_errors: An export names a resource that could not be exported.
        no_history: What happened to a type is not told (501), nor offered.
        forgets_deleted: What was deleted is answered 404, as if it had never been.
        no_ranges: A file of an export can't be continued.
        writable_types: The only types that may be written (405); empty: all.
        known_codes: An Observation needs one of these codes (422); empty: any will do.
        required_elements: Elements without which a resource is refused (422), by type, as
            `Observation.effectiveDateTime`.
        refused_statuses: Values of `status` that are refused (422).
        no_metadata: There is no CapabilityStatement (404).
        software: What the CapabilityStatement names; empty: this EHR itself.
        page_size: Matches on a page where a search does not say.
        max_page_size: Matches on a page, whatever a search says.
        seed: Restarts the dice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    down: Literal["no", "503", "close"] = "no"
    slow_ms: int = Field(default=0, ge=0, le=600_000)
    error_rate: Rate = Field(default=0.0, ge=0, le=1)
    error_statuses: tuple[int, ...] = Field(default=(500, 503, 429), min_length=1)
    retry_after_s: int = Field(default=1, ge=0)
    drop_after_commit_rate: Rate = Field(default=0.0, ge=0, le=1)
    fail_after_commit_rate: Rate = Field(default=0.0, ge=0, le=1)
    duplicate_rate: Rate = Field(default=0.0, ge=0, le=1)
    reorder_rate: Rate = Field(default=0.0, ge=0, le=1)
    push_copies: int = Field(default=2, ge=2, le=100)
    push_loss_rate: Rate = Field(default=0.0, ge=0, le=1)
    lose_every: int = Field(default=0, ge=0)
    posts_pushes: bool = False
    no_events_operation: bool = False
    ignore_unknown_params: bool = False
    ignored_params: tuple[str, ...] = ()
    drop_elements: tuple[str, ...] = ()
    units_by_code: Mapping[str, str] = Field(default_factory=dict)
    no_conditional_create: bool = False
    no_transaction: bool = False
    no_batch: bool = False
    no_update_create: bool = False
    unknown_id_status: int = Field(default=405, ge=400, le=599)
    no_reads: bool = False
    unsupported_types: tuple[str, ...] = ()
    export_wait_s: float = Field(default=0.0, ge=0, le=600)
    export_errors: bool = False
    no_history: bool = False
    forgets_deleted: bool = False
    no_ranges: bool = False
    writable_types: tuple[str, ...] = ()
    known_codes: tuple[str, ...] = ()
    required_elements: tuple[str, ...] = ()
    refused_statuses: tuple[str, ...] = ()
    no_metadata: bool = False
    software: str = ""
    page_size: int = Field(default=50, ge=1, le=MAX_COUNT)
    max_page_size: int = Field(default=MAX_COUNT, ge=1, le=MAX_COUNT)
    seed: int = 0


class FaultKnobs:
    """Holds the present faults and throws their dice."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.current = faults or Faults()
        self._random = random.Random(self.current.seed)  # noqa: S311  dice, not keys

    def turn(self, changes: Mapping[str, Any]) -> Faults:
        """Set the faults that are named and leave the others as they are.

        Raises:
            Refusal: A name is unknown or a value out of range (422).
        """
        try:
            self.current = Faults.model_validate({**self.current.model_dump(), **changes})
        except ValidationError as error:
            wrong = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
            raise Refusal(422, "value", f"These faults can't be set so: {wrong}.") from None
        if "seed" in changes:
            self._random.seed(self.current.seed)
        return self.current

    def strikes(self, rate: Rate) -> bool:
        """Throw the dice once: does a fault of this rate happen now?"""
        return rate > 0 and self._random.random() < rate

    def pick_status(self) -> int:
        """Choose the status of an injected error."""
        return self._random.choice(self.current.error_statuses)

    def strip(self, resource: Resource) -> Resource:
        """Lose the elements that this EHR loses, and keep numbers in its own units, in a copy."""
        for path in self.current.drop_elements:
            head, _, rest = path.partition(".")
            if head == resource["resourceType"]:
                resource = _without(resource, rest.split("."))
            elif not head[:1].isupper():
                resource = _without(resource, path.split("."))
        return _in_own_unit(resource, self.current.units_by_code)


def _in_own_unit(resource: Resource, units: Mapping[str, str]) -> Resource:
    quantity = resource.get("valueQuantity")
    if not units or not isinstance(quantity, dict):
        return resource
    codes = [coding.get("code") for coding in resource.get("code", {}).get("coding", ())]
    unit = next((units[code] for code in codes if code in units), None)
    if unit is None:
        return resource
    return {**resource, "valueQuantity": {"value": quantity.get("value"), "unit": unit}}


def _without(node: Resource, steps: list[str]) -> Resource:
    """Copy a resource without one element; what is left empty goes too."""
    first, *rest = steps
    if first not in node:
        return node
    kept = {key: value for key, value in node.items() if key != first}
    if rest and isinstance(node[first], dict):
        inner = _without(node[first], rest)
        return {**kept, first: inner} if inner else kept
    return node if rest else kept


class FaultGate:
    """Stands before the FHIR routes and makes them fail as the knobs say.

    `/sandbox/*` stays reachable, so that a fault can be taken back.
    """

    def __init__(self, app: ASGIApp, knobs: FaultKnobs) -> None:
        self._app = app
        self._knobs = knobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or fail to."""
        if scope["type"] != "http" or scope["path"].startswith("/sandbox/"):
            await self._app(scope, receive, send)
            return
        faults = self._knobs.current
        if faults.slow_ms:
            await asyncio.sleep(faults.slow_ms / 1000)
        fail = self._failure(scope)
        if fail is None:
            await self._app(scope, receive, send)
        else:
            await fail(scope, receive, send)

    def _failure(self, scope: Scope) -> Callable[[Scope, Receive, Send], Awaitable[None]] | None:
        """Choose how this request fails; None when it does not."""
        faults = self._knobs.current
        if faults.down == "close":
            return _hang_up
        if faults.down == "503":
            return _error(_SERVICE_UNAVAILABLE, faults.retry_after_s)
        if self._knobs.strikes(faults.error_rate):
            return _error(self._knobs.pick_status(), faults.retry_after_s)
        is_write = scope["method"] in _WRITES and not scope["path"].endswith("/_search")
        return self._failure_after_commit(faults) if is_write else None

    def _failure_after_commit(
        self, faults: Faults
    ) -> Callable[[Scope, Receive, Send], Awaitable[None]] | None:
        """Choose how a write fails that is done all the same; None when it does not."""
        if self._knobs.strikes(faults.drop_after_commit_rate):
            return self._commit_and_hang_up
        if self._knobs.strikes(faults.fail_after_commit_rate):
            return self._commit_and_fail
        return None

    async def _commit_and_hang_up(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, _swallow)
        await _hang_up(scope, receive, send)

    async def _commit_and_fail(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, _swallow)
        error = _error(self._knobs.pick_status(), self._knobs.current.retry_after_s)
        await error(scope, receive, send)


async def _swallow(_: Message) -> None:
    """Keep the answer from the client."""


def _error(status: int, retry_after_s: int) -> Response:
    body = outcome("transient", "A fault was asked for.")
    says_when = status in {_SERVICE_UNAVAILABLE, _TOO_MANY_REQUESTS}
    headers = {"Retry-After": str(retry_after_s)} if says_when else {}
    return Response(body, status, headers, FHIR_JSON)


async def _hang_up(_: Scope, receive: Receive, send: Send) -> None:
    """Close the connection without a byte of answer.

    ASGI has no word for it. Under uvicorn `send` belongs to the object that owns the transport;
    under any other server the failure to answer is the server's to show.

    Raises:
        ConnectionAbortedError: The server gives no access to its transport.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise ConnectionAbortedError
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        """Wait until the server has noticed, else it would try to answer 500."""
