"""Several teachers from the task file to a bundle: mixed, mapped, left out where they fail."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import edgedistill
import small_task
from edgedistill.core.errors import ModelError, SpecError
from edgedistill.core.task import DistillationSpec, TaskSpec
from edgedistill.models.teachers.encoder import new_classifier, save_classifier
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.pipeline.stages.further import called, label_groups

NAMES = {"order": ["where", "when"], "cancel": "stop", "refund": None}


def own_classifier(folder: Path, teacher: Path, *, is_broken: bool = False) -> Path:
    """A classifier of other labels than the task's, which nobody fine-tuned."""
    torch.manual_seed(3)
    model = new_classifier(teacher, 4)
    if is_broken:
        torch.nn.init.constant_(model.head.weight, float("nan"))
    save_classifier(model, folder, ("stop", "where", "weather", "when"))
    shutil.copyfile(teacher / "tokenizer.json", folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> dict[str, str]:
    """Sources of further teachers."""
    root = tmp_path_factory.mktemp("teachers")
    return {
        "good": f"folder:{teacher_folder}",
        "foreign": f"folder:{own_classifier(root / 'foreign', teacher_folder)}",
        "broken": f"folder:{own_classifier(root / 'broken', teacher_folder, is_broken=True)}",
        "missing": f"folder:{root / 'missing'}",
    }


def write(folder: Path, teacher: Path, teachers: Any, **mixture: Any) -> Path:
    return small_task.write_task(
        folder, teacher, teachers=teachers, requirements={"retention": 0.5},
        distillation={"mixture": mixture, "num_epochs": 3, "augmentation": {"num_texts": 80}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(
    tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path, folders: dict[str, str]
) -> RunResult:
    """Four further teachers, of which two fail."""
    folder = tmp_path_factory.mktemp("several")
    mapped = {"num_epochs": 0, "labels": NAMES}
    task = write(
        folder, teacher_folder,
        [
            {"source": folders["missing"]},
            {"source": folders["foreign"], **mapped, "weight": 0.5},
            {"source": folders["broken"], **mapped},
            {"source": folders["good"], "num_epochs": 4, "learning_rate": 0.003, "batch_size": 8},
        ],
        weighting="confidence",
    )  # fmt: skip
    return run_task(task, runs_dir=folder / "runs")


def stage(result: RunResult, name: str) -> Path:
    (found,) = [each.folder for each in result.stages if each.name == name]
    return found


def test_a_mixture_runs_to_a_bundle_and_failures_are_told(
    result: RunResult, folders: dict[str, str]
) -> None:
    classifier = edgedistill.load(result.bundle)
    assert classifier.predict(["please cancel it now"])[0].reason in (None, "out_of_bounds")
    notes = json.loads((result.folder / "report.json").read_text())["making"]["notes"]
    missing, broken, mixture = notes
    assert "Further teacher 1" in missing
    assert "no such model folder" in missing
    assert "Further teacher 3" in broken
    assert "not numbers" in broken
    assert "answers of 3 teachers, confidence weights" in mixture
    assert f"{folders['foreign']} " in mixture
    assert f"{folders['good']} " in mixture
    assert "was left out" in (result.folder / "report.html").read_text()
    names = {each.name for each in result.stages}
    own = called(folders["good"])
    assert {"teacher", f"teacher-{own}", f"answers-{own}", "answers-foreign", "mixture"} <= names
    assert not {"answers-missing", "answers-broken", "teacher-foreign"} & names


def test_the_student_learns_the_mixture(result: RunResult) -> None:
    mixture, transfer = stage(result, "mixture"), stage(result, "transfer")
    ours, first = (np.load(folder / "logits.npy") for folder in (mixture, transfer))
    assert ours.shape == first.shape
    assert ours.dtype == np.float16
    assert np.abs(ours - first).max() > 0.1
    told = json.loads((mixture / "told.json").read_text())
    assert sum(told["shares"]) == pytest.approx(1.0)
    # The one that nobody fine-tuned is less sure, and so counts less than its 0.5 of 2.5.
    assert told["shares"][1] < 0.2
    student = stage(result, "student-static")
    inputs = json.loads((student / "stage.json").read_text())["inputs"]
    (made,) = [each for each in result.stages if each.name == "mixture"]
    assert inputs["answers"] == made.fingerprint


def test_where_nothing_is_left_to_be_heard_the_run_stops(
    result: RunResult, folders: dict[str, str]
) -> None:
    runs = result.folder.parent
    task = yaml.safe_load((runs.parent / "task.yaml").read_text())
    *_, good = task["teachers"]
    # Neither the first teacher nor the second is to be heard, and the third is not there.
    task["teachers"] = [{**good, "weight": 0.0}, {"source": folders["missing"]}]
    task["distillation"]["mixture"] = {"first_weight": 0.0}
    (runs.parent / "other.yaml").write_text(yaml.safe_dump(task))
    before = [len(list(runs.glob(f"store/{name}-*"))) for name in ("teacher", "answers")]
    with pytest.raises(ModelError, match="no teacher is left"):
        run_task(runs.parent / "other.yaml", runs_dir=runs)
    # In another place and of another weight it is the same teacher still.
    after = [len(list(runs.glob(f"store/{name}-*"))) for name in ("teacher", "answers")]
    assert after == before


def test_stages_of_teachers_have_names() -> None:
    sources = (
        "hub:org/Name-2",
        "folder:../models/été 3/",
        "package:gt_all",
        "folder:…",
        "folder:.",
    )
    names = [called(source) for source in sources]
    assert names == ["Name-2", "t-3", "gt_all", "further", "further"]


def test_check_warns_of_what_is_missing_and_foresees_the_others(
    folders: dict[str, str], teacher_folder: Path, tmp_path: Path
) -> None:
    alone = check_task(write(tmp_path / "a", teacher_folder, []))
    more = [{"source": folders["missing"]}, {"source": folders["good"], "num_epochs": 6,
                                             "batch_size": 16}]  # fmt: skip
    checked = check_task(write(tmp_path / "b", teacher_folder, more))
    assert alone.warnings == ()
    assert "Further teacher 1" in checked.warnings[0]
    seconds = checked.forecast.seconds
    own = seconds["teacher"] + seconds["transfer"]
    assert seconds["further teachers"] == pytest.approx(own)
    assert "further teachers" not in alone.forecast.seconds
    assert checked.forecast.disk_bytes > alone.forecast.disk_bytes


def test_a_label_unknown_to_a_teacher_is_refused_before_work(
    folders: dict[str, str], teacher_folder: Path, tmp_path: Path
) -> None:
    unmapped = {"source": folders["foreign"], "num_epochs": 0, "labels": {"order": "where"}}
    path = write(tmp_path, teacher_folder, [unmapped])
    for refused in (check_task, lambda path: run_task(path, runs_dir=tmp_path / "runs")):
        with pytest.raises(SpecError, match="does not know the label 'cancel'") as caught:
            refused(path)
        assert "teachers.0.labels" in str(caught.value)
        assert "or to null" in str(caught.value)
    assert not list((tmp_path / "runs").glob("store/t*-*"))
    with pytest.raises(SpecError, match="of no known form") as caught:
        check_task(write(tmp_path, teacher_folder, [unmapped | {"source": "elsewhere"}]))
    assert caught.value.where == "teachers.0.source"


def test_mappings_of_labels() -> None:
    own, labels = ("b", "a", "x", "y"), ("a", "b")
    assert label_groups(own, labels, None) == ((1,), (0,))
    assert label_groups(own, labels, {"a": ("x", "y")}) == ((2, 3), (0,))
    assert label_groups(own, labels, {"a": ()}) == ((), (0,))
    for mapping, message in (
        ({"c": ("x",)}, "no label of the task"),
        ({"a": ("z",)}, "'z', which is to stand for 'a'"),
        ({"a": ("b",)}, "stands for more than one"),
        ({"a": (), "b": ()}, "none of the task's labels"),
    ):
        with pytest.raises(SpecError, match=message):
            label_groups(own, labels, mapping)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teachers": [{"source": "hub:a/b", "weight": 0}]}, "weights of the teachers are all 0"),
        ({"teachers": []}, "nothing to mix"),
        ({"teachers": [{"source": "hub:a/b", "labels": {"a": "b"}}]}, "learns the task's own"),
        ({"teachers": [{"source": "hub:a/b", "weight": float("nan")}]}, "weight"),
    ],
)
def test_settings_that_contradict_each_other(changes: Any, message: str) -> None:
    value = {
        "name": "x", "data": {"files": {"train": "a.jsonl"}}, "teacher": {"source": "hub:a/b"},
        "distillation": DistillationSpec.model_validate({"mixture": {"first_weight": 0}}),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        TaskSpec.model_validate(value | changes)
