"""A worker lets go of what was retired: its memory is freed, and no later job runs on it."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.core.errors import NotFound
from gateway.core.jobs import BusinessStatus, JobState
from gateway.store.registering import retire
from models.library import Library
from models.registry import REFERENCE_MODELS, InstalledModel, load_installed
from tests.hospital import Hospital, observation
from tests.registered import ACTOR, register_model
from tests.tflite_models import expected, float_model
from tests.toy_models import case_of, numbers, toy_model
from workers.models_loaded import OpenModels
from workers.retiring import RetiredWatch

INSTALLED = load_installed()
CKD_RISK, NEWS2 = INSTALLED["ckd-risk"], INSTALLED["news2"]


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.close()


def opened(folder: Path) -> OpenModels:
    return OpenModels(Library(REFERENCE_MODELS, folder / "imported"))


def retired(hospital: Hospital, model: InstalledModel) -> None:
    register_model(hospital.store, model.manifest, model.digest)
    with hospital.store.write() as uow:
        retire(uow, model.digest, "Recalled.", ACTOR)


def comes_true(fact: Callable[[], bool], within_s: float = 20) -> bool:
    give_up = time.monotonic() + within_s
    while not fact() and time.monotonic() < give_up:
        time.sleep(0.01)
    return fact()


def test_the_session_of_a_retired_model_is_freed_and_another_stays_open(tmp_path: Path) -> None:
    models = opened(tmp_path)
    kept, session = models.get(NEWS2.digest), weakref.ref(models.get(CKD_RISK.digest))

    assert models.retire({CKD_RISK.digest, "0" * 64}) == 1

    assert session() is None  # at once: nothing holds it in a cycle
    assert models.get(NEWS2.digest) is kept
    assert models.retire({CKD_RISK.digest}) == 0


def test_a_retired_model_is_not_opened_again(tmp_path: Path) -> None:
    models = opened(tmp_path)

    models.retire({CKD_RISK.digest})

    with pytest.raises(NotFound, match="retired"):
        models.get(CKD_RISK.digest)
    assert models.warm_up([CKD_RISK.digest, NEWS2.digest]) == 1


def test_a_run_that_is_under_way_ends_before_its_session_goes(tmp_path: Path) -> None:
    models = opened(tmp_path)
    running = models.get(CKD_RISK.digest)
    session = weakref.ref(running)

    models.retire({CKD_RISK.digest})

    batch = {"features": np.full((1, running.manifest.width), np.nan, np.float32)}
    assert running.predict(batch).shape == (1, 1)
    del running
    assert session() is None


def test_the_thread_of_a_retired_tflite_model_ends(tmp_path: Path) -> None:
    known = [case_of([1, 1, 1, 1], float(expected(np.ones((1, 4), np.float32))[0, 0]))]
    model = toy_model(tmp_path / "toy", float_model(), known, kind="tflite-fp32", tables=numbers())
    gc.collect()  # what earlier tests left would be counted
    before = set(threading.enumerate())
    models = OpenModels(Library(tmp_path, tmp_path / "imported"))
    models.get(model.digest)
    (thread,) = set(threading.enumerate()) - before

    models.retire({model.digest})

    assert comes_true(lambda: not thread.is_alive())


def test_an_idle_worker_notices_by_itself(hospital: Hospital, tmp_path: Path) -> None:
    models = opened(tmp_path)
    session = weakref.ref(models.get(CKD_RISK.digest))
    watch = RetiredWatch(hospital.store, models, every_s=0.01)
    watch.start()
    time.sleep(0.1)
    assert session() is not None

    retired(hospital, CKD_RISK)

    assert comes_true(lambda: session() is None)
    watch.stop()
    with pytest.raises(NotFound):
        models.get(CKD_RISK.digest)


def test_a_watch_that_never_began_can_be_stopped(hospital: Hospital, tmp_path: Path) -> None:
    RetiredWatch(hospital.store, opened(tmp_path)).stop()


def test_a_job_that_comes_after_the_session_is_gone_is_cancelled_and_opens_nothing(
    hospital: Hospital, tmp_path: Path
) -> None:
    hospital.admit_patient()
    hospital.push(observation())
    retired(hospital, CKD_RISK)
    with hospital.store.write() as uow:
        statement = "update jobs set model_digest = ?"
        uow.connection.exec_driver_sql(statement, (CKD_RISK.digest,))
    models = opened(tmp_path)
    models.retire({CKD_RISK.digest})
    hospital.ports = replace(hospital.ports, models=models)
    before = hospital.job().state

    hospital.infer()

    job = hospital.job()
    assert before is JobState.READY
    assert (job.state, job.business_status) == (JobState.CANCELLED, BusinessStatus.MODEL_RETIRED)
    with pytest.raises(NotFound):
        models.get(CKD_RISK.digest)
