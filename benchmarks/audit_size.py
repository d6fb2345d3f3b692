"""Measure the audit log at size: appending, integrating, proving, verifying, starting.

    python -m benchmarks audit-size --events 1000000

Fills a data folder with synthetic AuditEvents of jobs (no patient in it) through the same code as
the gateway, then times. Figures of docs/audit.md come from here.
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

from rich.console import Console

from gateway.cli.prepare import prepare_data
from gateway.core.audit import AuditRecord, Source, Step, job_changed, noted
from gateway.core.clock import new_id, to_ms, utc_now
from gateway.core.ledger import leaf_hash, read_verifier_key, verify_checkpoint, verify_inclusion
from gateway.settings import Settings
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.engine import insert_all
from gateway.store.installation import Installation, open_installation
from gateway.store.packing import unpacked
from gateway.store.tables import jobs

_BATCH = 10_000
_PROOFS = 200
_APPEND_FOR_S = 5.0


def run(events: int, folder: Path | None, console: Console) -> None:
    """Fill, then measure."""
    folder = folder or Path(tempfile.mkdtemp()) / "nadi"
    # In a process of its own: a child begins with its parent's peak of memory.
    filling = multiprocessing.Process(target=_prepare, args=(folder, events, console))
    filling.start()
    filling.join()
    started = time.perf_counter()
    nadi = open_installation(Settings(data_dir=folder))
    console.print(f"opening the installation: {1000 * (time.perf_counter() - started):.0f} ms")
    _prove(nadi, console)
    nadi.store.close()
    _verify(folder, console, "--log-only")
    _verify(folder, console)
    nadi = open_installation(Settings(data_dir=folder))
    for per_transaction in (1, 16, 64):
        for writers in (1, 8):
            _append(nadi, writers, per_transaction, console)
    nadi.store.close()


def _prepare(folder: Path, events: int, console: Console) -> None:
    settings = Settings(data_dir=folder)
    if not folder.exists():
        prepare_data(settings, sandbox=True)
    nadi = open_installation(settings)
    _fill(nadi, settings, events, console)
    nadi.store.close()


def _fill(nadi: Installation, settings: Settings, wanted: int, console: Console) -> None:
    with nadi.store.read() as uow:
        newest = uow.audit_proofs.newest()
    there, source = newest[0] if newest else 0, Source("site", "measure")
    appending = integrating = 0.0
    for start in range(there, wanted, _BATCH):
        now = utc_now()
        count = min(_BATCH, wanted - start)
        records, rows = _jobs(now, source, count)
        began = time.process_time()
        with nadi.store.write() as uow:
            uow.audit(*records)
            insert_all(uow.connection, jobs, rows)
        between = time.process_time()
        with nadi.store.write() as uow:
            uow.audit_log.integrate(nadi.keys.signing, nadi.keys.origin)
        appending += between - began
        integrating += time.process_time() - between
    with nadi.store.read() as uow:
        CheckpointFile(settings.data_dir).append(uow.audit_log.newest_checkpoint() or "")
    if wanted > there:
        each = (wanted - there) / 1e6
        console.print(
            f"append {appending / each:.1f} µs/event, integrate {integrating / each:.1f} µs/event"
        )


def _jobs(
    now: datetime, source: Source, count: int
) -> tuple[list[AuditRecord], list[dict[str, object]]]:
    """Make the AuditEvents and the rows of jobs that were admitted and then cancelled."""
    records: list[AuditRecord] = []
    rows: list[dict[str, object]] = []
    for _ in range(count // 2):
        job_id, event_id, at = new_id(), new_id(), to_ms(now)
        ids = {"job_id": job_id, "event_id": event_id, "patient_key": None}
        for verb, state, status in (
            ("admit", "ready", "queued"),
            ("cancel", "cancelled", "superseded"),
        ):
            step = Step(id=new_id(), recorded=now, source=source, **ids)
            details = {"route": "ckd-risk", "model": "ckd-risk@1"}
            records.append(
                job_changed(step, verb, state=state, business_status=status, details=details)
            )
        rows.append(
            {
                **ids,
                "id": ids["job_id"],
                "route": "ckd-risk",
                "model": "ckd-risk@1",
                "model_digest": "d" * 64,
                "state": "cancelled",
                "business_status": "superseded",
                "available_ms": at,
                "created_ms": at,
                "updated_ms": at,
            }
        )
        del rows[-1]["job_id"]
    return records, rows


def _append(nadi: Installation, writers: int, per_transaction: int, console: Console) -> None:
    """Let threads append for a few seconds, each event durable when its transaction ends."""
    until, source = time.monotonic() + _APPEND_FOR_S, Source("site", "measure")
    counts = [0] * writers

    def work(number: int) -> None:
        while time.monotonic() < until:
            steps = [
                Step(id=new_id(), recorded=utc_now(), source=source) for _ in range(per_transaction)
            ]
            records = [noted(step, "note", details={"what": "measure"}) for step in steps]
            with nadi.store.write() as uow:
                uow.audit(*records)
            counts[number] += per_transaction

    threads = [threading.Thread(target=work, args=(number,)) for number in range(writers)]
    began = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cpu_us = 1e6 * (time.process_time() - began) / sum(counts)
    console.print(
        f"append, {writers} writers, {per_transaction} a transaction: "
        f"{sum(counts) / _APPEND_FOR_S:,.0f} events/s, {cpu_us:.0f} µs of CPU an event"
    )


def _prove(nadi: Installation, console: Console) -> None:
    times = []
    name, key = read_verifier_key(nadi.keys.verifier)
    with nadi.store.read() as uow:
        size, note = uow.audit_proofs.newest() or (0, "")
        root = verify_checkpoint(note, key, origin=name).root
        for number in range(_PROOFS):
            index = number * 7919 * 131 % size
            began = time.process_time()
            proof = uow.audit_proofs.inclusion(index, size)
            times.append(1000 * (time.process_time() - began))
            query = "select body from audit_leaves join audit_events on seq = audit_seq"
            body = uow.connection.exec_driver_sql(f"{query} where leaf_index = {index}").scalar()
            verify_inclusion(leaf_hash(unpacked(body)), index, size=size, proof=proof, root=root)
        began = time.process_time()
        uow.audit_proofs.consistency(size // 3, size)
        consistent = 1000 * (time.process_time() - began)
    console.print(
        f"inclusion proof at {size}, CPU: median {statistics.median(times):.2f} ms, "
        f"worst {max(times):.2f} ms; consistency {consistent:.2f} ms"
    )


def _verify(folder: Path, console: Console, *options: str) -> None:
    began = time.perf_counter()
    nadi = Path(sys.executable).with_name("nadi")
    command = [str(nadi), "audit", "verify", *options, "--data-dir", str(folder)]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    # The usage of this child alone; `resource` would add those before it.
    _, _, used = os.wait4(child.pid, 0)
    console.print(
        f"verify {' '.join(options)}: {time.perf_counter() - began:.1f} s, "
        f"{used.ru_utime + used.ru_stime:.1f} s of CPU, peak {used.ru_maxrss / 1024:.0f} MiB"
    )
