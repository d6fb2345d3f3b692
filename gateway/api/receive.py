"""(1) Receive: FHIR pushed by a system, answered after it is durable.

* `POST /fhir/{type}` and `PUT /fhir/{type}/{id}` answer 202 with a Task, its address in Location;
* `POST /fhir` takes a Bundle of any type and answers 200 with a Task (or OperationOutcome) per
  entry; a transaction, document or message with one bad entry is refused whole;
* `DELETE /fhir/{type}/{id}` is received as the last version of the resource
  (`gateway.api.deletions`);
* so is a `POST /fhir` with the header `X-Medplum-Deleted-Resource`, which has no content;
* where the site names the secret of a system, whatever it pushes has to be signed with it;
* an empty `POST /fhir` says that something changed, and a notification of a Subscription what
  (`gateway.api.notices`);
* with the header `X-Nadi-Receive: record` resources are kept and set nothing going: a model must
  not run for last year's results because they are imported;
* the same resource version, or the same bytes, gives the same Task;
* a Consent is answered when no result that it stops is on its way to an EHR any more
  (`gateway.withdrawal`); where one still is after a while, 503 says so, and the Consent is to be
  sent again;
* what is refused is put on record and counted, without anything of its content.

Source: FHIR R4 http.html#create, #update, #transaction.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from gateway.api.arrivals import Posting
from gateway.api.batch import Receipt
from gateway.api.body import check_headers, read_body
from gateway.api.deletions import address_of, deleted_resource, with_deletions
from gateway.api.edge import Call, Edge, Endpoint
from gateway.api.entries import is_whole, with_refusals
from gateway.api.notices import NoticeBox, brought, notice_of, notification_in
from gateway.api.outcome import STATUS_OF_CONTENT, fhir_response, operation_outcome
from gateway.api.signature import insist_signed
from gateway.api.tally import Tally
from gateway.api.wake import Wake
from gateway.core.audit import Source
from gateway.core.canary import CANARY_SYSTEM
from gateway.core.errors import ContentError, Forbidden, InvalidResource, Issue, NotFound
from gateway.core.fhir import (
    ParsedBundle,
    ParseLimits,
    Resource,
    parse_bundle,
    parse_resource,
    resource_type_of,
)
from gateway.core.r4_schema import resource_types
from gateway.core.task import event_task
from gateway.room import Room
from gateway.settings import Settings
from gateway.store.group_commit import GroupCommit
from gateway.telemetry import count_received
from gateway.withdrawal import settle_in_flight

RECEIVE_HEADER, RECORD = "x-nadi-receive", "record"
_DELETED_HEADER = "x-medplum-deleted-resource"
_NO_CONTENT = frozenset({b"", b"{}"})
_NO_DELETION = (
    "X-Medplum-Deleted-Resource has to be Type/id of a resource type of FHIR R4, and the body "
    "empty or {}: else nobody knows what was deleted."
)
# Beyond this size reading a body takes long enough to hold up the other callers.
LARGE_BYTES = 64 * 1024


class Receiver:
    """The ways in."""

    def __init__(
        self,
        settings: Settings,
        intake: GroupCommit[Posting, tuple[Receipt, ...]],
        edge: Edge,
        room: Room,
        notices: NoticeBox,
    ) -> None:
        self._settings = settings
        self._notices = notices
        self._room = room
        self._intake = intake
        self._edge = edge
        self._wake = Wake()
        self._limits = ParseLimits(settings.max_depth, settings.max_entries)

    async def create(self, call: Call) -> Response:
        """`POST /fhir/{type}`."""
        return await self._on_record(call, self._create)

    async def update(self, call: Call) -> Response:
        """`PUT /fhir/{type}/{id}`."""
        return await self._on_record(call, self._update)

    async def delete(self, call: Call) -> Response:
        """`DELETE /fhir/{type}/{id}`: received as the last version of the resource."""
        return await self._on_record(call, self._delete)

    async def base(self, call: Call) -> Response:
        """`POST /fhir`: a Bundle, or a single resource from a system that knows no better."""
        return await self._on_record(call, self._base)

    async def _on_record(self, call: Call, handler: Endpoint) -> Response:
        system = _system_of(call)
        try:
            return await handler(call)
        except ContentError as error:
            await self._edge.record_refusal(call, error.issues[0].code)
            count_received(system, error.issues[0].code)
            raise

    async def _create(self, call: Call) -> Response:
        kind = _known_type(call)
        body = await self._body(call)
        if kind == "Bundle":
            return await self._bundle(call, body)
        return await self._single(call, await self._parsed(body, kind), is_update=False)

    async def _update(self, call: Call) -> Response:
        kind, wanted = _known_type(call), call.request.path_params["id"]
        body = await self._body(call)
        if kind == "Bundle":
            return await self._bundle(call, body, expected_id=wanted)
        resource = await self._parsed(body, kind)
        _insist_id(resource.content, kind, wanted)
        return await self._single(call, resource, is_update=True)

    async def _delete(self, call: Call) -> Response:
        self._insist_signed(call, b"")
        reference = _known_type(call), call.request.path_params["id"]
        return await self._receive_deletion(call, reference)

    async def _deleted(self, call: Call, written: str) -> Response:
        """Take what Medplum posts of a deletion: a header, and nothing, or `{}`, as the body."""
        body = b"" if _is_empty(call) else await self._body(call)
        if not body:
            self._insist_signed(call, body)
        reference = address_of(written)
        if reference is None or body.strip() not in _NO_CONTENT:
            raise ContentError(_NO_DELETION)
        return await self._receive_deletion(call, reference)

    async def _receive_deletion(self, call: Call, reference: tuple[str, str]) -> Response:
        find = partial(deleted_resource, self._edge.store, _system_of(call), reference)
        return await self._single(call, await run_in_threadpool(find), is_update=True)

    async def _base(self, call: Call) -> Response:
        deleted = call.request.headers.get(_DELETED_HEADER)
        if deleted is not None:
            return await self._deleted(call, deleted)
        if _is_empty(call):
            self._insist_signed(call, b"")
            return await self._ping(call)
        body = await self._body(call)
        if resource_type_of(body) == "Bundle":
            return await self._bundle(call, body)
        return await self._single(call, await self._parsed(body), is_update=False)

    async def _body(self, call: Call) -> bytes:
        check_headers(call.request)
        kind = call.request.path_params.get("type", "Bundle")
        if kind not in ("Bundle", "Consent"):  # before it is read: it may be what memory lacks for
            self._room.insist(is_consent=_is_canary(call))
        body = await read_body(
            call.request,
            max_bytes=self._settings.max_body_bytes,
            max_decompressed=self._settings.max_decompressed_bytes,
        )
        call.keep(body)
        self._insist_signed(call, body)
        return body

    def _insist_signed(self, call: Call, body: bytes) -> None:
        _system_of(call)  # a credential that speaks for none is told that first
        insist_signed(call, self._edge.site, body)

    async def _parsed(self, body: bytes, kind: str | None = None) -> Resource:
        parse = partial(parse_resource, body, limits=self._limits, expected_type=kind)
        return await run_in_threadpool(parse) if len(body) > LARGE_BYTES else parse()

    async def _single(self, call: Call, resource: Resource, *, is_update: bool) -> Response:
        (receipt,) = await self.receive(_posting(call, resource=resource, is_update=is_update))
        if receipt.event is None:
            raise InvalidResource(receipt.issues)
        location = f"/fhir/Task/{receipt.event.id}"
        return fhir_response(
            event_task(receipt.event, receipt.jobs), status=202, headers={"Location": location}
        )

    async def _bundle(self, call: Call, body: bytes, *, expected_id: str | None = None) -> Response:
        parsed = await run_in_threadpool(parse_bundle, body, limits=self._limits)
        if expected_id is not None:
            _insist_id(parsed.content, "Bundle", expected_id)
        said = notification_in(parsed)
        if said is None:
            return await self._entries(call, parsed)
        answer = await self._entries(call, brought(parsed))
        # Only now: were what it brings not kept, its numbers must not count as received.
        await self._notices.keep(_system_of(call), notice_of(said, parsed))
        return answer

    async def _ping(self, call: Call) -> Response:
        await self._notices.ping(_system_of(call))
        taken = Issue("informational", "What changed will be asked for.", severity="information")
        return fhir_response(operation_outcome([taken]))

    async def _entries(self, call: Call, parsed: ParsedBundle) -> Response:
        if any(entry.method == "DELETE" for entry in parsed.entries):
            deleted = partial(with_deletions, self._edge.store, _system_of(call), parsed)
            parsed = await run_in_threadpool(deleted)
        bundle = with_refusals(parsed)
        _insist_whole(bundle, [entry.issues for entry in bundle.entries])
        posting = _posting(call, bundle=bundle)
        receipts = await self.receive(posting) if bundle.entries else ()
        _insist_whole(bundle, [receipt.issues for receipt in receipts])
        return fhir_response(_bundle_response(bundle, receipts))

    async def receive(self, posting: Posting) -> tuple[Receipt, ...]:
        """Receive what a request brings; it is durable when this returns.

        Raises:
            TransientError: There is no room for it, or the database is away.
        """
        is_canary = posting.system == CANARY_SYSTEM
        self._room.insist(is_consent=posting.holds_consent or is_canary)
        receipts = await self._wake.answer(self._intake.submit(posting))
        patients = {key: ref for each in receipts for key, ref in each.consents_of.items()}
        if patients:
            await run_in_threadpool(self._settle_in_flight, patients)
        return receipts

    def _settle_in_flight(self, patients: Mapping[str, str]) -> None:
        """Wait until nothing that these patients no longer permit is on its way to an EHR.

        Raises:
            ResultUnderway: Something is, and its EHR does not answer.
        """
        site, within_s = self._edge.site(), self._settings.revocation_wait_s
        source = Source(site.name or "unconfigured", "api")
        changes = settle_in_flight(self._edge.store, site, source, patients, within_s=within_s)
        tally = Tally()
        for change in changes:
            tally.changed(change.job.route, change.state, change.business_status)
        tally.publish()


def _posting(
    call: Call,
    *,
    resource: Resource | None = None,
    bundle: ParsedBundle | None = None,
    is_update: bool = False,
) -> Posting:
    return Posting(
        principal=call.principal,
        system=_system_of(call),
        request_id=call.request_id,
        address=call.address,
        is_update=is_update,
        resource=resource,
        bundle=bundle,
        is_record=call.request.headers.get(RECEIVE_HEADER) == RECORD,
    )


def _is_empty(call: Call) -> bool:
    """Say whether a request has no body at all, as HAPI's notification without a payload."""
    headers = call.request.headers
    return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers


def _is_canary(call: Call) -> bool:
    return call.principal.system == CANARY_SYSTEM


def _system_of(call: Call) -> str:
    if call.principal.system is None:
        raise Forbidden(
            "This credential speaks for no system: "
            "make one with `nadi access add NAME --role ehr --system SYSTEM`."
        )
    return call.principal.system


def _insist_id(content: Mapping[str, object], kind: str, wanted: str) -> None:
    if content.get("id") != wanted:
        raise ContentError(
            "The id of the resource has to be the id in the address.", location=f"{kind}.id"
        )


def _known_type(call: Call) -> str:
    kind: str = call.request.path_params["type"]
    if kind not in resource_types():
        raise NotFound("FHIR R4 has no such resource type.")
    return kind


def _insist_whole(bundle: ParsedBundle, found: Sequence[tuple[Issue, ...]]) -> None:
    """Refuse a Bundle that is one whole and has a bad entry; nothing of it is stored."""
    issues = tuple(issue for of_entry in found for issue in of_entry)
    if issues and is_whole(bundle):
        raise InvalidResource(issues[:20])


def _bundle_response(bundle: ParsedBundle, receipts: Sequence[Receipt]) -> dict[str, object]:
    kind = "transaction-response" if bundle.type == "transaction" else "batch-response"
    response: dict[str, object] = {"resourceType": "Bundle", "type": kind}
    if receipts:
        response["entry"] = [_entry(receipt) for receipt in receipts]
    return response


def _entry(receipt: Receipt) -> dict[str, object]:
    if receipt.event is None:
        return {"response": {"status": _status(receipt.issues), "outcome": _outcome(receipt)}}
    return {
        "resource": event_task(receipt.event, receipt.jobs),
        "response": {"status": "202", "location": f"Task/{receipt.event.id}"},
    }


def _status(issues: Sequence[Issue]) -> str:
    return str(STATUS_OF_CONTENT.get(issues[0].code, 422))


def _outcome(receipt: Receipt) -> dict[str, object]:
    return operation_outcome(receipt.issues)
