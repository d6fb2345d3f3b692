"""The worklist over the API: clinicians sign off what no EHR takes; it may also be tried again.

* `GET /worklist` lists the open items as FHIR Tasks, the newest first, without any patient value;
* `GET /worklist/{id}` gives one, with its version as ETag; `…/result` gives the result itself;
* `POST /worklist/{id}/sign-off` {reason?}: with If-Match only as it was seen (412). The same person
  is answered alike however often they ask; somebody else is told who was there before (409);
* `POST /worklist/{id}/retry` goes down the write-back ladder again, from the top.

An item has the id of its job. The rules are in `gateway.store.worklist`.
"""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from gateway.api.body import read_body
from gateway.api.edge import Call, Edge
from gateway.api.outcome import fhir_response, refuse
from gateway.api.paging import count_of, insist_on_known, next_link, next_of, searchset
from gateway.api.results import written
from gateway.core.audit import Source
from gateway.core.errors import ConsentDenied, ContentError, Erased
from gateway.core.worklist import Item, SignOffReason, item_task
from gateway.store import worklist
from gateway.store.registering import Actor
from gateway.store.unit_of_work import UnitOfWork
from gateway.store.worklist import ItemChanged

_MOST_BYTES = 1024
_ANY = "*"


class _SignedOff(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: SignOffReason | None = None


class WorklistCalls:
    """The calls."""

    def __init__(self, edge: Edge, ring: Callable[[], None]) -> None:
        """Take the edge, and what tells the workers that there is something to do."""
        self._edge = edge
        self._ring = ring

    async def listed(self, call: Call) -> Response:
        """`GET /worklist`."""
        insist_on_known(call.request)
        count, before = count_of(call.request), next_of(call.request)
        items, last = await run_in_threadpool(self._list, before, count)
        patients: set[str | None] = {each.job.patient_key for each in items}
        await self._edge.record_query(call, f"worklist?_count={count}", patients)
        tasks = [item_task(each) for each in items]
        return fhir_response(searchset(call.request, tasks, following=next_link("before", last)))

    async def read(self, call: Call) -> Response:
        """`GET /worklist/{id}`."""
        item = await run_in_threadpool(self._find, _id(call))
        await self._edge.record_read(call, "Task", item.job.id, item.job.patient_key)
        return _answer(item)

    async def result(self, call: Call) -> Response:
        """`GET /worklist/{id}/result`."""
        item, shown = await run_in_threadpool(self._result, _id(call))
        kind = str(shown["resourceType"])
        await self._edge.record_read(call, kind, item.delivery.identifier, item.job.patient_key)
        return fhir_response(shown, headers=_tag(item))

    async def sign_off(self, call: Call) -> Response:
        """`POST /worklist/{id}/sign-off`."""
        reason, seen = await _reason(call), _seen(call)

        def sign(uow: UnitOfWork) -> Item:
            return worklist.sign_off(uow, _id(call), self._actor(call), reason, seen=seen)

        try:
            return _answer(await run_in_threadpool(self._written, sign))
        except ItemChanged as error:
            return refuse(error, status=412)

    async def retry(self, call: Call) -> Response:
        """`POST /worklist/{id}/retry`."""
        site = self._edge.site()

        def again(uow: UnitOfWork) -> Item:
            worklist.retry(uow, _id(call), self._actor(call), lambda name: bool(site.route(name)))
            return worklist.find(uow, _id(call))

        item = await run_in_threadpool(self._written, again)
        self._ring()
        return _answer(item, status=202)

    def _written(self, change: Callable[[UnitOfWork], Item]) -> Item:
        with self._edge.store.write() as uow:
            return change(uow)

    def _list(self, before: str | None, count: int) -> tuple[list[Item], str | None]:
        with self._edge.store.read() as uow:
            return worklist.listed(uow, before=before, limit=count)

    def _find(self, item_id: str) -> Item:
        with self._edge.store.read() as uow:
            return worklist.find(uow, item_id)

    def _result(self, item_id: str) -> tuple[Item, dict[str, Any]]:
        with self._edge.store.read() as uow:
            item = worklist.find(uow, item_id)
            if item.is_withdrawn:
                raise ConsentDenied
            if uow.erasures.closed([item.delivery.patient_key]):
                raise Erased
            uow.patient_keys.load({item.delivery.patient_key})
            shown = next(written(uow, [item.delivery]), None)
        if shown is None:
            raise Erased
        return item, shown

    def _actor(self, call: Call) -> Actor:
        source = Source(self._edge.site().name or "unconfigured", "api")
        return Actor(source, call.agent, call.principal.id)


def _id(call: Call) -> str:
    return str(call.request.path_params["id"])


def _answer(item: Item, *, status: int = 200) -> Response:
    return fhir_response(item_task(item), status=status, headers=_tag(item))


def _tag(item: Item) -> dict[str, str]:
    return {"ETag": f'W/"{item.version}"'}


def _seen(call: Call) -> str | None:
    """Give the version that the caller saw; None where they do not say."""
    given = call.request.headers.get("if-match", _ANY).strip()
    return None if given == _ANY else given.removeprefix("W/").strip('"')


async def _reason(call: Call) -> SignOffReason | None:
    """Read why; nothing need be said.

    Raises:
        ContentError: It is none of the reasons there are.
    """
    said = call.request.headers
    if said.get("content-length", "0") == "0" and "transfer-encoding" not in said:
        return None
    body = await read_body(call.request, max_bytes=_MOST_BYTES, max_decompressed=_MOST_BYTES)
    call.keep(body)
    try:
        return _SignedOff.model_validate_json(body).reason
    except ValidationError:
        known = ", ".join(SignOffReason)
        says = f"Give nothing, or a JSON object with a reason: {known}."
        raise ContentError(says, location="reason") from None
