"""Strategies from the task file to a bundle, and the teacher's inside kept or read along."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import edgedistill
import small_task
from edgedistill.core.events import Event
from edgedistill.core.task import TaskSpec
from edgedistill.core.task_file import load_task
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.pipeline.search import candidates_of
from edgedistill.pipeline.stages import internals
from edgedistill.pipeline.stages import student as student_stage
from edgedistill.pipeline.stages.any_ground import Candidate
from edgedistill.pipeline.stages.dataset import prepare_data
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.internals import prepare_internals
from edgedistill.pipeline.stages.student import TrainedStudent, train_student
from edgedistill.pipeline.stages.teacher import prepare_teacher
from edgedistill.pipeline.stages.transfer import prepare_transfer
from edgedistill.pipeline.store import Store
from edgedistill.pipeline.strategy import layers_asked

PAGE = Path(edgedistill.__file__).parents[2] / "docs" / "how-to" / "choose-a-strategy.md"
TERMS = {
    "response/soft", "response/energy", "feature/states", "attention/maps", "relation/attention",
    "relation/value", "consistency/views",
}  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> RunResult:
    """The small task with a one-layer student, taught as the guide's first example says."""
    (example, *_) = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    folder = tmp_path_factory.mktemp("strategies")
    task = small_task.write_task(
        folder, teacher_folder,
        student={"family": "truncated", "options": {"layers": [1], "num_heads": 2}},
        distillation={
            **yaml.safe_load(example)["distillation"],
            "num_epochs": 3, "num_texts": 190, "augmentation": {"num_texts": 80},
        },
        requirements={"retention": 0.5},
    )  # fmt: skip
    return run_task(task, runs_dir=folder / "runs")


def test_a_combination_of_all_runs_to_a_bundle(result: RunResult) -> None:
    classifier = edgedistill.load(result.bundle)
    assert classifier.predict(["please cancel it now"])[0].reason in (None, "out_of_bounds")
    (student,) = [stage for stage in result.stages if stage.name == "student-truncated"]
    history = json.loads((student.folder / "training.json").read_text())["history"]
    assert len(history) == 3
    assert set(history[0]) >= TERMS
    # The schedule ends at 0 on the last step; balanced by the mean, other parts stay near 1.
    assert history[2]["attention/maps"] < 0.4 * history[0]["attention/maps"]


def test_the_report_says_what_was_kept_of_the_teacher(result: RunResult) -> None:
    report = json.loads((result.folder / "report.json").read_text())
    (note,) = report["making"]["notes"]
    assert "kept in half precision" in note
    assert "attention maps of layers 1" in note
    assert "kept in half precision" in (result.folder / "report.html").read_text()


def test_nothing_that_learned_along_is_shipped(result: RunResult) -> None:
    from safetensors.numpy import load_file

    (student,) = [stage for stage in result.stages if stage.name == "student-truncated"]
    names = load_file(student.folder / "student.safetensors")
    assert names
    assert all(name.startswith(("embedding.", "layers.", "head.")) for name in names)


def student_of(task: Path, runs: Path) -> tuple[TrainedStudent, Ground, list[str]]:
    """The first stages of a run, up to the trained student, and what was said."""
    spec, said = load_task(task), list[str]()
    assert isinstance(spec, TaskSpec)

    def listen(event: Event) -> None:
        said.append(event.message)

    context = Context(
        spec, task.parent, runs, Store(runs / "store", listen), listen, time.monotonic() + 60
    )
    data = prepare_data(context)
    teacher = prepare_teacher(context, data)
    transfer = prepare_transfer(context, data, teacher)
    candidates = candidates_of(spec)
    layers = layers_asked(spec, candidates, teacher.source)
    ground = Ground(context, data, teacher, transfer)
    ground = replace(ground, internals=prepare_internals(ground, layers))
    return train_student(ground, candidates[0]), ground, said


def test_where_the_cache_would_not_fit_the_teacher_reads_along(
    result: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, runs = result.folder.parents[1] / "task.yaml", result.folder.parent
    kept, _, _ = student_of(task, runs)
    assert kept.stage.reused
    # A cache that is there is used however full the disk has become.
    monkeypatch.setattr(internals, "MOST_DISK_SHARE", 1e-15)
    _, ground, _ = student_of(task, runs)
    assert ground.internals is not None
    assert ground.internals.signals is not None

    for stage in (runs / "store").glob("*-*"):
        if stage.name.startswith(("data-", "teacher-", "transfer-")):
            (tmp_path / "store").mkdir(exist_ok=True)
            (tmp_path / "store" / stage.name).symlink_to(stage)
    live, ground, said = student_of(task, tmp_path)
    assert ground.internals is not None
    assert ground.internals.signals is None
    assert not live.stage.reused
    assert not list((tmp_path / "store").glob("internals-*"))
    assert any("it is not kept" in message for message in said)
    assert "reads each batch along" in ground.internals.note
    # The same training, but for half precision.
    for ours, theirs in zip(live.training["history"], kept.training["history"], strict=True):
        assert ours["validation"] == pytest.approx(theirs["validation"], rel=0.05)
        assert ours["feature/states"] == pytest.approx(theirs["feature/states"], rel=0.02)


def test_generations_learn_from_each_other_and_go_on_after_a_kill(
    result: RunResult, tmp_path: Path, teacher_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = result.folder.parent
    task = small_task.write_task(
        tmp_path, teacher_folder,
        student={"family": "truncated", "options": {"layers": [1], "num_heads": 2}},
        distillation={"generations": 3, "num_epochs": 2, "augmentation": {"num_texts": 80}},
    )  # fmt: skip
    spec = load_task(task)
    assert isinstance(spec, TaskSpec)
    taught: list[np.ndarray] = []
    whole_lesson = student_stage.prepare_lesson

    def lesson(ground: Ground, candidate: Candidate, logits: np.ndarray) -> Any:
        if len(taught) == 2:
            taught.append(np.array(logits))
            raise KeyboardInterrupt
        taught.append(np.array(logits))
        return whole_lesson(ground, candidate, logits)

    monkeypatch.setattr(student_stage, "prepare_lesson", lesson)
    with pytest.raises(KeyboardInterrupt):
        student_of(task, runs)
    trained, ground, said = student_of(task, runs)
    # The first generation learns from the teacher, the others each from the one before; those
    # that were done before the kill are not done again.
    assert len(taught) == 4
    np.testing.assert_array_equal(taught[0], ground.transfer.logits)
    assert np.abs(taught[1] - taught[0]).max() > 0.01
    assert np.abs(taught[2] - taught[1]).max() > 0.001
    np.testing.assert_array_equal(taught[3], taught[2])
    assert not any("generation" in message for message in said)
    scores = trained.training["generations"]
    assert len(scores) == 3
    assert scores[-1] == trained.training["best_score"]
    assert not (trained.stage.folder / "generations").exists()
