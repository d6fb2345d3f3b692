"""A report is held to its gate and told in figures, not only believed."""

import json

import pytest

from models.evaluation_report import ReportUnusable, one_line, read_report
from models.manifest import parse
from models.registry import REFERENCE_MODELS
from tests.packages import evaluation, files

MANIFEST = parse(files()["manifest.toml"].decode())


def report(**changed):
    return read_report(evaluation(MANIFEST, **changed))


def changed_comparison(place=0, **changed):
    comparisons = json.loads(evaluation(MANIFEST))["comparisons"]
    comparisons[place] |= changed
    return comparisons


def test_a_report_tells_what_was_measured_and_what_was_allowed():
    told = report().told(MANIFEST.gate)

    assert told["auroc"] == "fp32 0.9000 (0.8500 to 0.9500), this form 0.9000 (0.8500 to 0.9500)"
    assert told["loss"] == "0.0010, at most 0.0020 with 95% confidence; allowed 0.005"
    assert told["worst subgroup"] == "sex: female, 400 cases: at most 0.0020; allowed 0.02"
    assert told["decisions that change"] == "1.0%; allowed 2.0%"
    assert told["cases"] == "400, split test"
    assert told["kernels"] == "vnni, avx2-exact, avx2"
    assert one_line(told).startswith("auroc fp32 0.9000")


def test_a_loss_of_nothing_has_no_sign():
    told = report(comparisons=changed_comparison(loss=-1e-9, loss_bound=0.004)).told(MANIFEST.gate)

    assert told["loss"].startswith("0.0000, at most 0.0040")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"comparisons": []}, "no figures for the kernels avx2, avx2-exact, vnni"),
        ({"comparisons": changed_comparison(loss_bound=0.5)}, "says accepted, but vnni, all"),
        ({"comparisons": changed_comparison(1, loss_bound=0.5)}, "vnni, sex: female: the loss"),
        ({"comparisons": changed_comparison(flips=0.9)}, "90.0% of the decisions change"),
        ({"split": "calibration"}, "the split calibration, which the model was fitted to"),
        ({"split": "Train"}, "the split Train"),
        ({"weights_sha256": "0" * 64}, "about other weights"),
    ],
)
def test_a_report_that_does_not_show_what_it_says_is_none(changed, said):
    with pytest.raises(ReportUnusable, match=said):
        report(**changed).insist_on(MANIFEST.weights, MANIFEST.gate)


@pytest.mark.parametrize(
    "folder", sorted(each.parent for each in REFERENCE_MODELS.glob("*/evaluation.json")), ids=str
)
def test_the_reports_of_the_reference_models_show_what_they_say(folder):
    manifest = parse((folder / "manifest.toml").read_text(encoding="utf-8"))
    found = read_report((folder / manifest.evaluation).read_bytes())

    found.insist_on(manifest.weights, manifest.gate)

    assert f"allowed {manifest.gate.max_loss:g}" in found.told(manifest.gate)["loss"]
