"""For the operator: is it alive, is it ready, what does it measure."""

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapters.site import Site
from gateway.core.canary import CANARY_SYSTEM
from gateway.core.clock import from_ms, utc_now
from gateway.core.errors import GatewayError
from gateway.feed_standing import pushings, standings
from gateway.levels import Levels
from gateway.store.engine import SchemaTooNew, is_at_head
from gateway.store.unit_of_work import Store
from gateway.telemetry import render_metrics

_PERMITTED = "permitted: nothing is admitted"
_PROMETHEUS = "text/plain; version=1.0.0; charset=utf-8"


class Health:
    """Answers for load balancers, supervisors and Prometheus; needs no credential."""

    def __init__(
        self, store: Store, is_broker_up: Callable[[], bool], site: Callable[[], Site]
    ) -> None:
        self._store = store
        self._is_broker_up = is_broker_up
        self._site = site

    async def live(self, _request: Request) -> Response:
        """`GET /health/live`: the process answers."""
        return JSONResponse({"status": "live"})

    async def ready(self, _request: Request) -> Response:
        """`GET /health/ready`: events can be accepted durably.

        A broker that is away does not make the gateway unready: events are accepted and wait. Nor
        does a listener that does not listen; `nadi up` reads here which ones the site wants.
        """
        checks = await run_in_threadpool(self._checks)
        listeners = await run_in_threadpool(self._listeners)
        pushes = await run_in_threadpool(self._pushes)
        is_ready = checks["database"] == "up" and checks["schema"] == "current"
        is_ready = is_ready and checks["canary"] != _PERMITTED
        status = "ready" if is_ready else "not ready"
        return JSONResponse(
            {"status": status, "checks": checks, "listeners": listeners, **pushes},
            status_code=200 if is_ready else 503,
        )

    async def metrics(self, _request: Request) -> Response:
        """`GET /metrics`: Prometheus text; counts and times, nothing of a patient."""
        return Response(await run_in_threadpool(render_metrics), media_type=_PROMETHEUS)

    def _checks(self) -> dict[str, str]:
        broker = "up" if self._is_broker_up() else "away"
        try:
            with self._store.read() as uow:
                site = f"version {uow.sites.version()}"
            schema = self._schema()
            canary = self._canary() if schema == "current" else "unknown"
        except GatewayError:
            unknown = dict.fromkeys(("schema", "site", "canary"), "unknown")
            return {"database": "away", "broker": broker, **unknown}
        known = {"database": "up", "schema": schema, "broker": broker, "site": site}
        return {**known, "canary": canary}

    def _listeners(self) -> dict[str, str] | None:
        """Give the state of every feed of the site; None where that can't be told."""
        try:
            site = self._site()
            if not site.feeds:
                return {}
            with self._store.read() as uow:
                return {each.feed: each.state for each in standings(uow, site)}
        except GatewayError:
            return None

    def _pushes(self) -> dict[str, dict[str, str]]:
        """Give whether the systems push whose silence is to be told; empty where there are none."""
        try:
            site = self._site()
            with self._store.read() as uow:
                watched = [each for each in pushings(uow, site) if each.after_s is not None]
        except GatewayError:
            return {}
        states = {each.system: "silent" if each.is_silent else "up" for each in watched}
        return {"pushes": states} if states else {}

    def _schema(self) -> str:
        try:
            return "current" if is_at_head(self._store.engine) else "migration needed"
        except SchemaTooNew:
            return "of a newer Nadi"

    def _canary(self) -> str:
        with self._store.read() as uow:
            state = uow.canary.state()
        if state.tripped_ms is not None:
            return _PERMITTED
        return "refused" if state.is_proven else "not run"

    def levels(self) -> Levels:
        """Read the depths of the queues, for a scrape.

        Raises:
            StoreUnavailable: The database is away.
        """
        with self._store.read() as uow:
            by_state: dict[str, int] = {}
            for (state, _), count in uow.jobs.counts().items():
                by_state[state.value] = by_state.get(state.value, 0) + count
            deliveries: dict[str, int] = {}
            for (system, progress), count in uow.deliveries.counts().items():
                if system == CANARY_SYSTEM:
                    continue
                deliveries[progress.value] = deliveries.get(progress.value, 0) + count
            oldest = uow.jobs.oldest_ready_ms()
            waiting, oldest_audit = uow.audit_log.lag()
            notices = uow.notices.depths()
        pushes = self._pushes().get("pushes", {})
        states = (self._listeners() or {}) | {f"{name}/push": pushes[name] for name in pushes}
        now = utc_now()
        return Levels(
            jobs=by_state,
            deliveries=deliveries,
            oldest_ready_s=(now - from_ms(oldest)).total_seconds() if oldest else 0.0,
            audit_waiting=waiting,
            notices=dict(notices),
            listeners={name: float(state == "up") for name, state in states.items()},
            audit_lag_s=(now - from_ms(oldest_audit)).total_seconds() if oldest_audit else 0.0,
        )
