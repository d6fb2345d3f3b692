"""What holds of every model that comes with Nadi."""

import re
from datetime import UTC, datetime

import pytest

from models.package import pack, verified
from models.registry import REFERENCE_MODELS, load, sha256
from models.runtime import Runtime
from tests.packages import KEY, TRUST

FOLDERS = sorted(path.parent for path in REFERENCE_MODELS.glob("*/manifest.toml"))
MODELS = [load(folder) for folder in FOLDERS]
EACH = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


def test_the_folder_of_a_model_bears_its_name():
    assert [model.name for model in MODELS] == [folder.name for folder in FOLDERS]
    assert {"ckd-risk", "news2"} <= {model.name for model in MODELS}


@EACH
def test_every_file_is_there_and_the_one_the_manifest_was_written_for(model):
    missing = [name for name in model.manifest.files if not (model.folder / name).is_file()]

    assert missing == []
    assert sha256(model.weights()) == model.manifest.weights.sha256
    twin = model.manifest.weights.reference
    assert twin is None or sha256(model.reference_weights()) == twin.sha256


@EACH
def test_the_golden_cases_hold_under_both_kernel_settings(model):
    gaps = [Runtime(model, exact_int8=exact).golden_gap for exact in (False, True)]

    assert max(gaps) <= model.manifest.weights.tolerance


@EACH
def test_the_card_says_what_the_model_must_not_be_taken_for(model):
    card = (model.folder / model.manifest.card).read_text(encoding="utf-8")

    assert model.manifest.demonstration_only
    assert card.startswith(f"# Model card: {model.name} {model.manifest.version}\n")
    assert "**Demonstration only." in card
    assert re.search(r"^## Limits$", card, re.MULTILINE)


@EACH
def test_the_files_of_a_model_fit_into_the_repository(model):
    sizes = {name: (model.folder / name).stat().st_size for name in model.manifest.files}

    assert {name: size for name, size in sizes.items() if size > 25 * 2**20} == {}


@EACH
def test_a_model_makes_a_package_that_a_gateway_takes(model, tmp_path):
    package, passed = tmp_path / "model.nadi.zip", []

    pack(model.folder, KEY, package)

    today = datetime.now(UTC).date()
    with verified(package, TRUST, day=today, told=lambda check, _: passed.append(check)) as found:
        assert found.reference == f"{model.name}@{model.manifest.version}"
        assert set(found.sums) == set(model.manifest.files)
    assert passed[-2:] == ["evaluation", "network"]


@EACH
def test_the_licence_of_a_model_is_that_of_the_project(model):
    named = model.manifest.licence_file
    texts = {(model.folder / name).read_bytes() for name in (named,) if name}

    assert texts <= {(REFERENCE_MODELS.parents[1] / "LICENSE").read_bytes()}
