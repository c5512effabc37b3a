"""A student that is also its own teacher, from the task file to a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import edgedistill
import small_task
from edgedistill.core.errors import MissingSignal, SpecError
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import RunResult, run_task

TRUNCATED = {"family": "truncated", "options": {"layers": [0, 1], "num_heads": 2}}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> RunResult:
    """A two-layer student, taught by its teacher, its average and its own last layer."""
    folder = tmp_path_factory.mktemp("own")
    teacher = {
        "source": f"folder:{teacher_folder}", "num_epochs": 6, "learning_rate": 0.003,
        "batch_size": 16, "l2_sp": 0.01,
    }  # fmt: skip
    task = small_task.write_task(
        folder, teacher_folder, student=TRUNCATED, teacher=teacher,
        distillation={
            "strategy": ["response", {"name": "average", "decay": 0.9}, "shallow"],
            "num_epochs": 3, "num_texts": 190, "augmentation": {"num_texts": 80},
        },
        requirements={"retention": 0.5},
    )  # fmt: skip
    return run_task(task, runs_dir=folder / "runs")


def test_own_teachers_run_to_a_bundle_and_are_not_shipped(result: RunResult) -> None:
    classifier = edgedistill.load(result.bundle)
    assert classifier.predict(["please cancel it now"])[0].reason in (None, "out_of_bounds")
    (student,) = [stage for stage in result.stages if stage.name == "student-truncated"]
    history = json.loads((student.folder / "training.json").read_text())["history"]
    assert len(history) == 3
    for entry in history:
        assert entry["average/answers"] > 0
        assert entry["shallow/answers"] > 0
    names = load_file(student.folder / "student.safetensors")
    assert all(name.startswith(("embedding.", "layers.", "head.")) for name in names)
    # Nothing of the teacher's inside is asked for.
    assert not [stage for stage in result.stages if stage.name == "internals"]


def test_the_teacher_was_held_near_its_pretrained_weights(
    result: RunResult, teacher_folder: Path
) -> None:
    (teacher,) = [stage for stage in result.stages if stage.name == "teacher"]
    history = json.loads((teacher.folder / "training.json").read_text())["history"]
    begun = load_file(teacher_folder / "model.safetensors")
    ended = load_file(teacher.folder / "classifier" / "model.safetensors")
    away = sum(
        float(((ended[f"encoder.{name}"] - start) ** 2).sum())
        for name, start in begun.items()
        if not name.startswith("pooler.")
    )
    # The mean of an epoch's steps, against the weights that were kept, an average of them all.
    pulls = [entry["anchor"] for entry in history]
    assert pulls[0] > 0
    assert 0.2 * min(pulls) < 0.005 * away < 2 * max(pulls)


def test_students_without_shallower_layers_are_refused(
    tmp_path: Path, teacher_folder: Path
) -> None:
    strategy = {"strategy": ["response", "shallow"]}
    path = small_task.write_task(tmp_path / "a", teacher_folder, distillation=strategy)
    with pytest.raises(MissingSignal, match="a static student has no hidden states"):
        check_task(path)
    path = small_task.write_task(
        tmp_path / "b", teacher_folder, distillation=strategy,
        student={"family": "truncated", "options": {"layers": [1]}},
    )  # fmt: skip
    with pytest.raises(SpecError, match="single layer") as caught:
        check_task(path)
    assert caught.value.where == "distillation.strategy.1 (shallow)"
    average = {"strategy": ["response", "average"]}
    path = small_task.write_task(tmp_path / "c", teacher_folder, distillation=average)
    seconds = check_task(path).forecast.seconds
    assert seconds["students"] / seconds["transfer"] == pytest.approx(4 / 3)
