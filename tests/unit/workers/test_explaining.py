"""Answers with what moved them, in the worker: the answer comes first, whatever goes wrong."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from gateway.core.findings import Report
from gateway.core.jobs import BusinessStatus
from models.explained import Explained, NotExplained
from models.manifest import parse
from tests.audited import bodies
from tests.hospital import MANIFEST, UREA, Hospital, ToyModel, observation
from workers.explaining import answer_and_explain_all

BASELINE = 0.9
CREATININE = 'missing = "refuse"\ncodes = [{ system = "http://loinc.org", code = "2160-0" }]'
LEASE_S = 60.0


def toy(text: str = MANIFEST) -> ToyModel:
    model = ToyModel()
    model.manifest = parse(text.replace(CREATININE, f"baseline = {BASELINE}\n{CREATININE}"))
    return model


def case(creatinine: float = 1.9, urea: float = 40.0) -> dict[str, np.ndarray]:
    return {"x": np.array([creatinine, urea, 50], np.float32)}


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    made.models.model = toy()
    made.explain()
    yield made
    made.close()


def test_an_answer_is_what_it_is_without_explanation_and_says_what_moved_it() -> None:
    model = toy()

    (answered,) = answer_and_explain_all(model, [case()], within_s=LEASE_S)

    assert answered.row == pytest.approx(model.predict({"x": case()["x"][None]})[0].tolist())
    assert isinstance(answered.explained, Explained)
    changes = {each.part: each.change for each in answered.explained.effects}
    assert changes == pytest.approx({"Creatinine": 0.1, "Urea": 0.0}, abs=1e-6)
    assert answered.explained.kept == ("Age",)
    assert model.batches == [4, 1]


def test_nothing_to_hide_leaves_the_answer_and_says_so() -> None:
    model = ToyModel()
    alone = {"x": np.array([1.9, np.nan, 50], np.float32)}

    (answered,) = answer_and_explain_all(model, [alone], within_s=LEASE_S)

    assert answered.row == pytest.approx([0.19])
    assert answered.explained == NotExplained("nothing that the model was given can be hidden")


def test_a_network_that_breaks_on_what_is_hidden_costs_no_result(
    logs: list[dict[str, object]],
) -> None:
    model = toy()
    model.breaks_at = BASELINE

    (answered,) = answer_and_explain_all(model, [case()], within_s=LEASE_S)

    assert answered.row == pytest.approx([0.19])
    assert answered.explained == NotExplained("it could not be worked out")
    (line,) = logs
    assert (line["event"], line["error"]) == ("explanation-failed", "RuntimeError")
    assert "0.19" not in str({**line, "exc_info": None})


def test_a_network_that_breaks_on_the_case_itself_is_an_error_as_ever() -> None:
    model = toy()
    model.breaks_at = 1.9

    with pytest.raises(RuntimeError):
        answer_and_explain_all(model, [case(1.9)], within_s=LEASE_S)


def test_a_batch_s_explanations_take_a_share_of_its_lease_and_no_more() -> None:
    now = [0.0]

    class Slow(ToyModel):
        def predict(self, tensors: object) -> object:
            now[0] += 6
            return super().predict(tensors)

    model = Slow()
    model.manifest = toy().manifest

    answered = answer_and_explain_all(
        model, [case()] * 5, within_s=LEASE_S, monotonic=lambda: now[0]
    )

    kinds = [type(each.explained) for each in answered]
    assert kinds == [Explained] * 3 + [NotExplained] * 2
    assert len({tuple(each.row) for each in answered}) == 1
    assert answered[-1].explained == NotExplained("it took longer than the model may take")


def test_one_case_s_explanation_takes_no_longer_than_the_model_may() -> None:
    now = [0.0]

    class Slow(ToyModel):
        def predict(self, tensors: object) -> object:
            now[0] += 2
            return super().predict(tensors)

    model = Slow()
    model.manifest = toy(f"{MANIFEST}\n[limits]\nmax_batch = 2\ntimeout_s = 3\n").manifest

    (answered,) = answer_and_explain_all(
        model, [case()], within_s=LEASE_S, monotonic=lambda: now[0]
    )

    assert answered.explained == NotExplained("it took longer than the model may take")
    assert answered.row == pytest.approx([0.19])


# --- the whole way --------------------------------------------------------------------------


def serve(hospital: Hospital, *names: str) -> list[Report]:
    """Push a creatinine and a urea of each patient; give what is on its way to the EHR."""
    for name in names:
        hospital.admit_patient(name)
        hospital.push(observation(40, name=f"u-{name}", code=UREA, of=name))
        hospital.push(observation(1.9, name=f"o-{name}", of=name))
    hospital.infer()
    with hospital.store.read() as uow:
        found = uow.deliveries.of_jobs([job.id for job in hospital.jobs()])
        return [Report.from_json(uow.deliveries.body(each)) for each in found.values()]


def test_a_route_that_asks_for_it_tells_in_the_chart_what_moved_the_result(
    hospital: Hospital,
) -> None:
    (report,) = serve(hospital, "p1")
    hospital.deliver()

    (result,) = hospital.ehr.results()
    told = "What moved it, each input hidden in turn: Creatinine +10 points, 1 other +0 points."
    assert told in result["text"]["div"]
    assert told in result["note"][1]["text"]
    assert "Not hidden: Age." in result["note"][1]["text"]
    assert report.identifier == result["identifier"][0]["value"]


def test_a_route_that_does_not_ask_for_it_runs_the_model_once_for_all(tmp_path: Path) -> None:
    plain = Hospital(tmp_path)

    reports = serve(plain, "p1", "p2")

    assert plain.models.model.batches == [2]
    assert all(len(report.result["note"]) == 1 for report in reports)
    plain.close()


def test_explained_and_plain_routes_of_one_model_do_not_mix(hospital: Hospital) -> None:
    (explained,) = hospital.site.routes
    plain = type(explained)(**{**vars(explained), "name": "plain", "explain": False})
    hospital.site = type(hospital.site)(**{**vars(hospital.site), "routes": (explained, plain)})

    reports = serve(hospital, "p1")

    assert sorted(len(report.result["note"]) for report in reports) == [1, 2]


def test_a_result_whose_explanation_failed_is_written_and_says_so(hospital: Hospital) -> None:
    hospital.models.model.breaks_at = BASELINE

    (report,) = serve(hospital, "p1")

    assert report.result["valueQuantity"]["value"] == pytest.approx(0.19, abs=1e-6)
    assert "No explanation: it could not be worked out." in report.result["text"]["div"]


def test_an_answer_outside_its_range_is_a_fault_with_explanation_too(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(observation(11.0))

    hospital.infer()

    assert hospital.job().business_status is BusinessStatus.INFERENCE_FAILED


def test_what_moved_a_result_is_in_no_audit_event(hospital: Hospital) -> None:
    serve(hospital, "p1")
    hospital.deliver()

    with hospital.store.read() as uow:
        told = bodies(uow.connection)
    assert told
    assert not any(b"Creatinine" in body for body in told)
    assert orjson.loads(told[0])["resourceType"] == "AuditEvent"
