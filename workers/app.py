"""Composition root of the worker processes: knows everyone, decides nothing.

Run with `python -m celery -A workers.app worker -Q infer -P threads -c 2` (or `-Q deliver`).
A worker uses threads, not child processes: one model session serves them all.
"""

import random
from collections.abc import Collection
from functools import lru_cache

from celery.signals import worker_init, worker_ready, worker_shutdown

from adapters.site import SiteWatch, name_of
from gateway import heap, telemetry
from gateway.catching_up import longest_wait_s
from gateway.core.audit import Source
from gateway.core.clock import to_ms, utc_now
from gateway.core.delivery import Backoff
from gateway.core.errors import ConfigurationError, NotFound
from gateway.erasure_watch import ErasureWatch
from gateway.heartbeat import heartbeat
from gateway.queue import DELIVER_QUEUE, INFER_QUEUE, celery
from gateway.settings import Settings, get_settings
from gateway.store.installation import MASTER, open_installation, record_start, record_stop
from gateway.store.jobs import rescue
from gateway.store.unit_of_work import Store
from workers import tasks
from workers.ehrs import Ehrs
from workers.last_look import WAITS_PER_LEASE
from workers.ports import LoadedModel, Models, Ports
from workers.rescue import put_back
from workers.retiring import RetiredWatch

__all__ = ["app"]

app = celery
log = telemetry.get_logger()


class _NoModels:
    """What a worker that only delivers has: it never loads the inference runtime."""

    def get(self, digest: str) -> LoadedModel:
        """Give none."""
        raise NotFound(f"This worker runs no models (asked for {digest}).")

    def retire(self, _digests: Collection[str]) -> int:
        """Let go of none."""
        return 0


@lru_cache(maxsize=1)
def ports() -> Ports:
    """Put the outside of this worker together, once."""
    settings = get_settings()
    store = open_installation(settings).store
    watch = SiteWatch(store)
    return Ports(
        store=store,
        site=watch.current,
        models=_models(settings, store) if INFER_QUEUE in _queues() else _NoModels(),
        ehrs=Ehrs(watch.current, store=store, timeout_s=settings.ehr_timeout_s),
        owner=settings.worker_name or f"{'+'.join(sorted(_queues()))}@{settings.host_name}",
        lease_ms=int(1000 * max(settings.lease_s, WAITS_PER_LEASE * settings.ehr_timeout_s)),
        backoff=Backoff(
            base_s=settings.retry_base_s,
            max_s=settings.retry_max_s,
            budget_s=settings.retry_budget_s,
        ),
        random=random.random,
        began_ms=to_ms(utc_now()),
    )


@lru_cache(maxsize=1)
def _retired_watch() -> RetiredWatch:
    return RetiredWatch(ports().store, ports().models)


@lru_cache(maxsize=1)
def _erasure_watch() -> ErasureWatch:
    return ErasureWatch(ports().store)


def _queues() -> set[str]:
    return set(celery.amqp.queues.consume_from)


def _models(settings: Settings, store: Store) -> Models:
    # Imported here: the inference runtime costs memory that a worker that delivers can do without.
    from models.library import Library  # noqa: PLC0415
    from models.registry import REFERENCE_MODELS  # noqa: PLC0415
    from workers.models_loaded import OpenModels  # noqa: PLC0415

    brought = settings.models_dir or REFERENCE_MODELS
    models = OpenModels(Library(brought, settings.imported_models_dir))
    with store.read() as uow:
        digests = [digest for _, _, digest in uow.models.in_service()]
    log.info("models-open", count=models.warm_up(digests))
    return models


def _prepare(**_: object) -> None:
    """Free what a dead predecessor of the same name held, before the first message comes."""
    settings = get_settings()
    queues = _queues()
    telemetry.configure("worker-" + "+".join(sorted(queues)), settings)
    mine = ports()
    source = _source(mine)
    budget_s = settings.retry_budget_s + _longest_wait_s(mine)
    with mine.store.write() as uow:
        record_start(uow, source, MASTER)
        if INFER_QUEUE in queues:
            lost = uow.jobs.held_by(mine.owner)
            changes = rescue(lost, now_ms=uow.now_ms, budget_s=budget_s)
            put_back(uow, changes, source)
        if DELIVER_QUEUE in queues:
            uow.deliveries.release(mine.owner)


def _longest_wait_s(mine: Ports) -> float:
    try:
        return longest_wait_s(mine.site())
    except ConfigurationError:  # no site is usable: what was lost is put back all the same
        return 0.0


def _source(mine: Ports) -> Source:
    return Source(name_of(mine.site, "site"), mine.owner)


def _settle(**_: object) -> None:
    heap.settle()
    heartbeat().start()
    _erasure_watch().start()
    if INFER_QUEUE in _queues():
        _retired_watch().start()


def _close(**_: object) -> None:
    _retired_watch().stop()
    _erasure_watch().stop()
    record_stop(ports().store, _source(ports()))
    ports().store.close()


worker_init.connect(_prepare)
worker_ready.connect(_settle)
worker_shutdown.connect(_close)
tasks.register(ports)
