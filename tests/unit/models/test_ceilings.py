"""The most that a gate may allow, on manifests as makers write them."""

import pytest

from models.ceilings import Ceilings
from models.manifest import Gate, parse
from models.registry import REFERENCE_MODELS
from tests.packages import files

TEXT = files()["manifest.toml"].decode()


def manifest(gate="", tolerance="0.03"):
    text = TEXT.replace("max_loss = 0.005", gate or "max_loss = 0.005")
    return parse(text.replace("tolerance = 0.03", f"tolerance = {tolerance}", 1))


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("max_loss = 0.9", "gate.max_loss is 0.9, Nadi's limit is 0.02"),
        ("max_subgroup_loss = 0.06", "gate.max_subgroup_loss is 0.06, Nadi's limit is 0.05"),
        ("max_flips = 1.0", "gate.max_flips is 1, Nadi's limit is 0.05"),
        ("confidence = 0.5", "gate.confidence is 0.5, at least 0.9 is needed"),
    ],
)
def test_a_gate_that_allows_more_than_anybody_s_may_is_named_with_its_limit(gate, said):
    assert Ceilings().against(manifest(gate)) == (said,)


def test_a_tolerance_of_golden_cases_has_a_ceiling_too():
    assert Ceilings().against(manifest(tolerance="0.1")) == ()
    (said,) = Ceilings().against(manifest(tolerance="0.11"))
    assert said == "weights.tolerance is 0.11, Nadi's limit is 0.1"


def test_of_a_measured_quantity_the_limits_are_shares_of_the_output_s_range():
    score = parse((REFERENCE_MODELS / "news2" / "manifest.toml").read_text(encoding="utf-8"))
    alone = score.model_copy(update={"outputs": score.outputs[:1]})
    width = score.outputs[0].range[1] - score.outputs[0].range[0]
    within = Gate(metric="mae", max_loss=0.019 * width, max_subgroup_loss=0.04 * width)
    beyond = Gate(metric="mae", max_loss=0.021 * width, max_subgroup_loss=0.04 * width)

    assert width > 1
    assert Ceilings().against(alone.model_copy(update={"gate": within})) == ()
    (said,) = Ceilings().against(alone.model_copy(update={"gate": beyond}))
    assert said.startswith("gate.max_loss is")


def test_a_site_may_be_stricter_and_is_named():
    strict = Ceilings(max_loss=0.001, whose="the site's")

    assert strict.against(manifest()) == ("gate.max_loss is 0.005, the site's limit is 0.001",)


@pytest.mark.parametrize("folder", sorted(REFERENCE_MODELS.glob("*/manifest.toml")), ids=str)
def test_the_models_that_come_with_nadi_stay_below_the_limits(folder):
    assert Ceilings().against(parse(folder.read_text(encoding="utf-8"))) == ()
