"""To which verb, which library and which matter a stack belongs.

* **Verb**: each process has one that is its own (what it does unless something else is found), and
  marks of another: the innermost frame of a marked file decides.
* **Library**: whose code the innermost frame is.
* **Matter**: what it is about, whatever the verb: the innermost frame of a marked file decides.
"""

from collections.abc import Mapping, Sequence

from benchmarks.sampling import Stack

Marks = Mapping[str, Sequence[str]]

RECEIVE, ADMIT, QUEUE, LEDGER = "1 receive", "2 store and admit", "3 queue", "3 Merkle log"
INFER, REPORT, DELIVER = "4 infer", "5 report", "6 deliver"

#: Process -> its own verb.
_OWN = {"api": RECEIVE, "relay": QUEUE, "worker-infer": INFER, "worker-deliver": DELIVER}
#: Process -> another verb -> beginnings of the files that mark it.
_MARKED: Mapping[str, Marks] = {
    "api": {
        ADMIT: (
            *("gateway/api/intake", "gateway/store/", "gateway/core/admission"),
            *("gateway/core/routing", "gateway/deciding", "adapters/trigger_memory"),
        )
    },
    "relay": {
        LEDGER: (
            *("workers/integrator", "workers/witnesses", "gateway/core/ledger"),
            *("gateway/store/audit_log", "gateway/store/checkpoint_file"),
        )
    },
    "worker-infer": {
        REPORT: ("gateway/core/findings", "gateway/core/result_", "workers/result_batches")
    },
}

OWN, DATABASE, HTTP, CELERY, OTHER = (
    "Nadi's own",
    "SQLAlchemy and driver",
    "HTTP and event loop",
    "Celery",
    "other libraries",
)
LIBRARIES: Marks = {
    OWN: ("gateway/", "workers/", "adapters/", "models/"),
    DATABASE: ("sqlalchemy/", "sqlite3/", "psycopg"),
    HTTP: (
        *("uvicorn/", "starlette/", "fastapi/", "uvloop/", "asyncio/", "httptools/"),
        *("httpx/", "httpcore/", "h11/", "anyio/", "http/", "socket.py", "selectors.py"),
    ),
    CELERY: ("celery/", "kombu/", "redis/", "valkey/", "vine/", "billiard/", "amqp/"),
}

_ELSE = "everything else"
MATTERS: Marks = {
    "AuditEvents": ("gateway/core/audit", "gateway/core/balp", "gateway/store/audit_t"),
    "Merkle log": ("gateway/core/ledger", "gateway/store/audit_log", "workers/integrator"),
    "consent": (
        *("gateway/core/consent", "gateway/store/consent", "gateway/deciding"),
        *("workers/consents", "workers/last_look"),
    ),
    "sealing and keys": ("gateway/store/sealing", "gateway/store/patient_keys"),
    "reading and validating FHIR": (
        *("gateway/core/fhir", "gateway/core/r4_", "gateway/core/event.py", "gateway/api/arrivals"),
    ),
    "admission and routes": (
        *("gateway/core/admission", "gateway/core/routing", "adapters/trigger_memory"),
        *("adapters/site_trigger", "gateway/api/intake", "gateway/api/batch", "gateway/api/tally"),
    ),
    "jobs and accounts of delivery": (
        *("gateway/store/jobs", "gateway/store/deliveries", "gateway/core/jobs"),
        *("gateway/core/delivery", "workers/cases", "workers/fates"),
    ),
    "the record, stored and read": (
        *("gateway/store/events", "workers/fetching", "workers/chart", "workers/opening"),
        *("workers/attached", "workers/standing"),
    ),
    "features and the model": (
        *("workers/features", "workers/readings", "workers/encoding", "workers/units"),
        *("workers/inference", "models/"),
    ),
    "wording the result": ("gateway/core/findings", "gateway/core/result_"),
    "writing to the EHR": (
        *("adapters/fhir_rest", "workers/result_recipient", "workers/climb", "workers/ehrs"),
        *("gateway/core/write_back", "gateway/core/ladder", "workers/delivery"),
    ),
    "transactions and commits": (
        *("gateway/store/unit_of_work", "gateway/store/engine", "gateway/store/group_commit"),
    ),
    "looking for work and ringing": (
        *("workers/relay", "workers/next_batches", "workers/line", "gateway/store/lines"),
        *("gateway/queue", "gateway/bell", "gateway/redis_transport"),
    ),
    "Celery": LIBRARIES[CELERY],
    "HTTP and event loop": (*LIBRARIES[HTTP], "gateway/api/"),
}


def verb(process: str, stack: Stack) -> str:
    """Say to which verb a stack of a process belongs."""
    return _innermost(stack, _MARKED.get(process, {})) or _OWN.get(process, process)


def library(stack: Stack) -> str:
    """Say whose code was running."""
    return _innermost(stack[-1:], LIBRARIES) or OTHER


def matter(stack: Stack) -> str:
    """Say what it was about."""
    return _innermost(stack, MATTERS) or _ELSE


def _innermost(stack: Stack, marks: Marks) -> str | None:
    beginnings = [(each, name) for name, marked in marks.items() for each in marked]
    for frame in reversed(stack):
        found = next((name for each, name in beginnings if frame.file.startswith(each)), None)
        if found:
            return found
    return None
