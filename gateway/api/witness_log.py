"""`POST /witness/checkpoints`: this gateway keeps the newest checkpoint of other logs.

No credential is asked for: a note is signed by the key of its log, which the site file has to name
under `witness_for`, and it says nothing but how long that log is. What is kept, and every attempt
to have another history kept, is on record in the audit log here.

Source: C2SP tlog-witness (https://c2sp.org/tlog-witness), without the cosignature.
"""

import hashlib
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from adapters.site import Site
from gateway.api.body import read_body
from gateway.api.outcome import refuse
from gateway.core.audit import AgentKind, AuditAgent, Outcome, Source, Step, noted
from gateway.core.clock import new_id
from gateway.core.errors import ContentError, GatewayError, NotFound
from gateway.core.ledger import Checkpoint
from gateway.core.witnessing import (
    LogForked,
    SizeKnown,
    insist_on_growth,
    open_note,
    read_submission,
)
from gateway.store.evidence import WITNESSED
from gateway.store.unit_of_work import Store, UnitOfWork
from gateway.store.witnesses import WitnessedLog

_MOST_BYTES = 64 * 1024


class WitnessedLogs:
    """Keeps the checkpoints of the logs that the site file names."""

    def __init__(self, store: Store, site: Callable[[], Site], process_name: str) -> None:
        self._store = store
        self._site = site
        self._process_name = process_name

    async def add(self, request: Request) -> Response:
        """Take a checkpoint; answers 409 with the known size when the proof starts elsewhere."""
        try:
            body = await read_body(request, max_bytes=_MOST_BYTES, max_decompressed=_MOST_BYTES)
            size = await run_in_threadpool(self._add, body)
        except SizeKnown as error:
            return PlainTextResponse(
                f"{error.size}\n", status_code=409, headers={"Content-Type": "text/x.tlog.size"}
            )
        except GatewayError as error:
            return refuse(error)
        return PlainTextResponse(f"{size}\n")

    async def newest(self, request: Request) -> Response:
        """`GET /witness/checkpoints?origin=…`: the newest checkpoint that is kept of a log."""
        try:
            note = await run_in_threadpool(self._newest, request.query_params.get("origin"))
        except GatewayError as error:
            return refuse(error)
        return PlainTextResponse(note)

    def _newest(self, origin: str | None) -> str:
        if not origin:
            raise ContentError("Name the log: ?origin=…", location="origin")
        with self._store.read() as uow:
            kept = uow.witnesses.log(origin)
        if kept is None:
            raise NotFound("No checkpoint of this log is kept here.")
        return kept.note

    def _add(self, body: bytes) -> int:
        site, submission = self._site(), read_submission(body)
        new = open_note(submission.note, site.witness_for)
        source = Source(site.name or "unconfigured", self._process_name)
        try:
            with self._store.write() as uow:
                kept = uow.witnesses.log(new.origin)
                known = open_note(kept.note, site.witness_for) if kept else None
                insist_on_growth(known, new, submission)
                if known is None or new.size > known.size:
                    note = WitnessedLog(new.origin, new.size, submission.note, uow.now_ms)
                    uow.witnesses.replace(note, known_size=known.size if known else None)
                    _record(uow, source, new, submission.note)
        except LogForked as error:
            with self._store.write() as uow:
                _record(uow, source, new, submission.note, refused=error.message)
            raise
        return new.size


def _record(
    uow: UnitOfWork, source: Source, new: Checkpoint, note: str, *, refused: str = ""
) -> None:
    step = Step(
        id=new_id(),
        recorded=uow.now,
        source=source,
        patient_key=None,
        outcome=Outcome.SERIOUS_FAILURE if refused else Outcome.SUCCESS,
        reason=refused,
    )
    log = AuditAgent(new.origin, new.origin, AgentKind.CLIENT)
    details = {
        "what": WITNESSED,
        "origin": new.origin,
        "size": str(new.size),
        "sha256": hashlib.sha256(note.encode()).hexdigest(),
    }
    uow.audit(noted(step, "note", agents=[log], details=details))
