"""What every queue's task does: nothing, or as much as a small model, and then says that it did.

A job says so by one byte at the end of a file that all processes of all workers append to; whoever
measures watches it grow. It knows nothing of any queue, so that every environment can run it.
"""

import hashlib
import os
from functools import cache

#: Kinds of jobs; an id begins with its kind.
NOTHING, WORK = "nothing", "work"

_ROUNDS = int(os.environ.get("BENCH_JOB_ROUNDS", "1"))
_BLOCK = b"\0" * 65536


def run(job_id: str) -> None:
    """Do one job."""
    if job_id.startswith(WORK):
        work(_ROUNDS)
    os.write(_done(), b".")


def work(rounds: int) -> None:
    """Keep a core busy outside of the interpreter's lock, as a model's session does."""
    digest = hashlib.sha256()
    for _ in range(rounds):
        digest.update(_BLOCK)


@cache
def _done() -> int:
    return os.open(os.environ["BENCH_DONE"], os.O_WRONLY | os.O_APPEND)
