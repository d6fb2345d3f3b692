"""Fills a data folder through the gateway's own intake, in batches, with nothing else running."""

import itertools
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from adapters.site import SiteWatch
from benchmarks.workload import Post
from gateway.api.arrivals import Posting
from gateway.api.intake import Intake
from gateway.core.clock import new_id
from gateway.core.fhir import parse_resource
from gateway.core.principal import Principal, Role
from gateway.settings import Settings
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.installation import Installation
from gateway.store.model_watch import ModelWatch

BATCH = 512
_SENDER = Principal(new_id(), "the EHR", Role.EHR, "ehr")


def fill(
    nadi: Installation, settings: Settings, posts: Iterable[Post], tell: Callable[[int], None]
) -> None:
    """Receive what an EHR would push, and give the audit log its leaves.

    Args:
        nadi: Opened, with a site that knows the system `ehr`.
        settings: Of its folder.
        posts: Each with a single resource.
        tell: Told how many were received so far.
    """
    site, models = SiteWatch(nadi.store).current, ModelWatch(nadi.store).current
    intake = Intake(nadi.store, site, models, process_name="api", after_commit=_nobody)
    waiting, made = iter(posts), 0
    while batch := [_posting(post) for post in itertools.islice(waiting, BATCH)]:
        intake(batch)
        _integrate(nadi, settings)
        made += len(batch)
        tell(made)


def stored(folder: Path) -> int:
    """Count the stored events of a folder."""
    connection = sqlite3.connect(folder / "nadi.db")
    try:
        (count,) = connection.execute("select count(*) from events").fetchone()
    finally:
        connection.close()
    return int(count)


def _nobody() -> None:
    """Ring nobody: nothing runs while the folder is filled."""


def _posting(post: Post) -> Posting:
    return Posting(
        principal=_SENDER,
        system="ehr",
        request_id=new_id(),
        address=None,
        resource=parse_resource(post.body),
    )


def _integrate(nadi: Installation, settings: Settings) -> None:
    with nadi.store.write() as uow:
        uow.audit_log.integrate(nadi.keys.signing, nadi.keys.origin)
        note = uow.audit_log.newest_checkpoint()
    CheckpointFile(settings.data_dir).append(note or "")
