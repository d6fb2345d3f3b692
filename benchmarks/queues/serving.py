"""A Celery worker that runs reference models: one session per process, shared by its threads.

It is started with threads or with prefork; nothing else differs. A session is opened when its model
is first asked for, in the process that asks: after any fork.
"""

import os
from collections.abc import Sequence
from functools import cache
from threading import Lock

from celery import Celery

from benchmarks.queues.job import run as done
from models.registry import load_installed
from models.runtime import Runtime
from models.tensors import Tensors

#: Model -> runs of one task, so that a task of each takes some ten milliseconds.
RUNS = {"ckd-risk": 200, "chest-xray-pneumonia": 8, "note-specialty": 2}
_LOCK = Lock()

app = Celery("serving", broker=os.environ.get("BENCH_BROKER"))
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=4,
    worker_enable_remote_control=False,
    worker_detect_quorum_queues=False,
    # Only late acknowledgement is concerned, which is off; said to spare a warning.
    worker_cancel_long_running_tasks_on_connection_loss=True,
)


@app.task(ignore_result=True)  # type: ignore[untyped-decorator]  # Celery has no types
def serve(job_id: str) -> None:
    """Run the model that the id begins with on one case, some times over."""
    name = job_id.rpartition("/")[0]
    with _LOCK:
        runtime, case = _opened(name)
    for _ in range(RUNS[name]):
        runtime.predict(case)
    done(job_id)


def send(job_ids: Sequence[str]) -> None:
    """Send a task per id."""
    for job_id in job_ids:
        serve.delay(job_id)


@cache
def _opened(name: str) -> tuple[Runtime, Tensors]:
    model = load_installed()[name]
    cases, _ = model.golden_cases()
    return Runtime(model), {key: value[:1] for key, value in cases.items()}
