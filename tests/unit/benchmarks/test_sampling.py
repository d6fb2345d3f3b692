from benchmarks.sampling import Frame, read
from benchmarks.verbs import (
    ADMIT,
    CELERY,
    DATABASE,
    DELIVER,
    LEDGER,
    OTHER,
    OWN,
    QUEUE,
    RECEIVE,
    REPORT,
    library,
    matter,
    verb,
)

PACKAGES = "/some/where/.venv/lib/python3.11/site-packages"


def stack(*files):
    return tuple(Frame("f", file) for file in files)


def test_stacks_are_read_with_paths_below_the_root_they_belong_to():
    line = f"main (/some/where/.venv/bin/x);run ({PACKAGES}/celery/app/base.py) 12"

    ((seen, count),) = read([line]).items()

    assert seen[1] == Frame("run", "celery/app/base.py")
    assert str(seen[1]) == "celery.app.base.run"
    assert count == 12


def test_the_same_stack_in_two_lines_is_counted_together():
    assert read(["a (x.py) 1", "a (x.py) 2"]).total() == 3


def test_a_thread_that_only_waits_is_left_out():
    waiting = f"run ({PACKAGES}/kombu/loop.py);poll ({PACKAGES}/kombu/utils/eventio.py) 7"

    assert read([waiting, "a (x.py) 1"]).total() == 1


def test_the_innermost_frame_that_marks_a_verb_decides():
    commit = stack("gateway/store/group_commit.py", "gateway/api/intake.py", "json/encoder.py")

    assert verb("api", commit) == ADMIT
    assert verb("api", stack("uvicorn/server.py", "gateway/core/fhir.py")) == RECEIVE
    assert verb("relay", stack("workers/relay.py")) == QUEUE
    assert verb("relay", stack("workers/relay.py", "gateway/core/ledger.py")) == LEDGER
    assert verb("worker-infer", stack("workers/inference.py", "gateway/core/findings.py")) == REPORT
    assert verb("worker-deliver", stack("celery/app/trace.py")) == DELIVER
    assert verb("supervisor", stack("gateway/supervisor.py")) == "supervisor"


def test_a_library_is_told_by_who_was_running():
    assert library(stack("celery/app/trace.py", "gateway/store/jobs.py")) == OWN
    assert library(stack("gateway/store/jobs.py", "sqlalchemy/engine/base.py")) == DATABASE
    assert library(stack("gateway/queue.py", "kombu/messaging.py")) == CELERY
    assert library(stack("gateway/core/ledger.py", "json/encoder.py")) == OTHER


def test_what_a_statement_is_for_is_told_by_who_asked_for_it():
    asked = stack("workers/inference.py", "gateway/core/audit.py", "sqlalchemy/engine/base.py")

    assert matter(asked) == "AuditEvents"
    assert matter(stack("somewhere/else.py")) == "everything else"
