"""Where a teacher may come from, and everything that is refused."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from edgedistill.core.errors import EdgeDistillError, ModelError, SpecError
from edgedistill.models.teachers.sources import check_model_folder, resolve_teacher


@pytest.fixture
def folder(teacher_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small teacher that a test may damage."""
    return Path(shutil.copytree(teacher_folder, tmp_path / "model"))


def refused(kind: type[EdgeDistillError], source: str, root: Path, **options: str) -> str:
    with pytest.raises(kind) as caught:
        resolve_teacher(source, root=root, **options)
    assert caught.value.where
    return str(caught.value)


def test_a_folder_is_found_from_the_task_and_by_its_full_path(folder: Path) -> None:
    assert resolve_teacher("folder:model", root=folder.parent) == folder
    assert resolve_teacher(f"folder:{folder}", root=Path("/nowhere")) == folder


def test_the_digest_of_the_weights_is_checked(folder: Path) -> None:
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert resolve_teacher("folder:model", root=folder.parent, sha256=digest) == folder
    told = refused(ModelError, "folder:model", folder.parent, sha256="0" * 64)
    assert digest in told
    assert "0" * 64 in told


def test_a_package_that_carries_a_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site/carries_a_model"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    told = refused(ModelError, "package:carries_a_model", tmp_path)
    assert "carries no model.safetensors" in told
    shutil.move(str(folder), package / "data/model")
    found = resolve_teacher("package:carries_a_model", root=tmp_path)
    assert found == package / "data/model"


@pytest.mark.parametrize(
    "source", ["", "model", "folder:", "package:", "hub:", "https://a.b/c", "pickle:x", ":x"]
)
def test_an_unknown_form_is_told_the_known_ones(source: str, tmp_path: Path) -> None:
    assert "package:NAME, folder:PATH or hub:ORG/NAME" in refused(SpecError, source, tmp_path)


@pytest.mark.parametrize("name", ["os.path", "../x", "a-b", "1x", "a b"])
def test_only_a_top_level_package_is_looked_up(name: str, tmp_path: Path) -> None:
    assert "not the name of a top-level package" in refused(SpecError, f"package:{name}", tmp_path)


@pytest.mark.parametrize("name", ["no_such_package_here", "json"])
def test_an_absent_package_and_one_without_weights(name: str, tmp_path: Path) -> None:
    told = refused(ModelError, f"package:{name}", tmp_path)
    assert "not installed" in told or "carries no" in told


def test_the_hub_without_a_connection(tmp_path: Path) -> None:
    told = refused(ModelError, "hub:no-such-org/no-such-model", tmp_path)
    assert "the hub gave no model 'no-such-org/no-such-model'" in told
    assert "folder:PATH" in told


def test_no_such_folder(tmp_path: Path) -> None:
    assert "no such model folder" in refused(ModelError, "folder:absent", tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_lacks_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    told = refused(ModelError, "folder:model", folder.parent)
    assert f"no {name} in the model folder" in told
    assert str(folder) in told


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "x.ckpt"])
def test_a_pickle_checkpoint_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    told = refused(ModelError, "folder:model", folder.parent)
    assert f"{name} is a pickle checkpoint" in told
    assert "convert it to model.safetensors" in told


def test_a_pickle_beside_safe_weights_is_left_alone(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    check_model_folder(folder)
