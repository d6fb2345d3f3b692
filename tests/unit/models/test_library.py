"""Imported models lie on disk whole or not at all."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.library import Library
from models.package import Package, verified
from models.refusals import FileAltered, FileDamaged
from models.registry import REFERENCE_MODELS, InstalledModel, ModelUnusable, WeightsAltered, load
from tests.packages import DAY, TRUST, files, sealed


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(REFERENCE_MODELS, tmp_path / "models")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return sealed(files(version="1.1.0"), tmp_path / "a.nadi.zip")


@contextmanager
def package(path: Path) -> Iterator[Package]:
    with verified(path, TRUST, day=DAY) as found:
        yield found


def fine(_model: InstalledModel) -> None:
    """Find nothing wrong with a model."""


def kept(library: Library, path: Path) -> InstalledModel:
    with package(path) as found:
        return library.keep(found, fine)


def in_folder(tmp_path: Path) -> list[str]:
    return sorted(each.name for each in (tmp_path / "models").iterdir() if each.is_dir())


def test_what_is_kept_is_found_by_its_digest_and_is_for_its_owner_only(
    library: Library, path: Path, tmp_path: Path
) -> None:
    model = kept(library, path)

    assert model.folder == tmp_path / "models" / model.digest
    found = library.find(model.digest)
    assert found is not None
    assert found.digest == model.digest
    assert stat.S_IMODE(model.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "models").stat().st_mode) == 0o700


def test_what_came_with_nadi_is_found_too_and_what_is_nowhere_is_not(library: Library) -> None:
    ckd_risk = load(REFERENCE_MODELS / "ckd-risk")

    found = library.find(ckd_risk.digest)

    assert found is not None
    assert found.folder == ckd_risk.folder
    assert library.find("0" * 64) is None


def test_keeping_again_changes_nothing(library: Library, path: Path, tmp_path: Path) -> None:
    first = kept(library, path)
    changed_at = first.folder.stat().st_mtime_ns

    kept(library, path)

    assert first.folder.stat().st_mtime_ns == changed_at
    assert in_folder(tmp_path) == [first.digest]


def test_what_was_altered_is_refused_listed_as_broken_and_mended_by_the_next_import(
    library: Library, path: Path
) -> None:
    model = kept(library, path)
    weights = model.folder / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")

    with pytest.raises(WeightsAltered, match="import it again"):
        library.find(model.digest)
    _, broken = library.all()
    assert [(each.name, each.is_altered) for each in broken] == [(model.digest, True)]

    kept(library, path)
    assert library.find(model.digest) is not None


def test_a_model_that_does_not_work_here_leaves_nothing(
    library: Library, path: Path, tmp_path: Path
) -> None:
    def wrong(model: InstalledModel) -> None:
        raise ModelUnusable(f"{model.reference} does not work")

    with package(path) as found, pytest.raises(ModelUnusable, match=r"1\.1\.0 does not work"):
        library.keep(found, wrong)

    assert in_folder(tmp_path) == []


def test_a_package_that_was_changed_since_it_was_verified_leaves_nothing(
    library: Library, path: Path, tmp_path: Path
) -> None:
    content = path.read_bytes()

    with package(path) as found:
        path.write_bytes(content.replace(files()["card.md"][:20], b"#" * 20))
        with pytest.raises((FileAltered, FileDamaged)):
            library.keep(found, fine)

    assert in_folder(tmp_path) == []


def test_drafts_that_were_left_behind_are_not_listed_and_go_with_the_next_import(
    library: Library, path: Path, tmp_path: Path
) -> None:
    left_behind = tmp_path / "models" / ".draft-abc"
    shutil.copytree(REFERENCE_MODELS / "ckd-risk", left_behind)
    brought, _ = library.brought()

    models, broken = library.all()
    assert (len(models), broken) == (len(brought), [])
    model = kept(library, path)

    assert in_folder(tmp_path) == [model.digest]


def test_a_folder_that_can_not_be_written_is_named(library: Library, path: Path) -> None:
    (path.parent / "models").write_text("a file in its place")

    with package(path) as found, pytest.raises(ModelUnusable, match="models can't be written"):
        library.keep(found, fine)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_of_another_user_is_named(library: Library, path: Path) -> None:
    (path.parent / "models").mkdir(mode=0o500)

    with package(path) as found, pytest.raises(ModelUnusable, match="can't be written"):
        library.keep(found, fine)


def test_of_the_folders_one_that_is_broken_hides_no_other(tmp_path: Path) -> None:
    brought = tmp_path / "brought"
    shutil.copytree(REFERENCE_MODELS / "ckd-risk", brought / "good")
    shutil.copytree(REFERENCE_MODELS / "ckd-risk", brought / "gone")
    (brought / "gone" / "card.md").unlink()

    models, broken = Library(brought, tmp_path / "models").all()

    assert [model.folder.name for model in models] == ["good"]
    assert [(each.name, each.is_altered) for each in broken] == [("gone", False)]
