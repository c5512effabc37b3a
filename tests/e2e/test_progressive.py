"""A curriculum and assistants in a row, from the task file to a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedistill
import small_task
from edgedistill.core.errors import MissingSignal, SpecError
from edgedistill.core.task import DistillationSpec
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import RunResult, run_task

TRUNCATED = {"family": "truncated", "options": {"layers": [0, 1], "num_heads": 2}}
CURRICULUM = {"by": "loss", "parts": 3}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> RunResult:
    """A one-layer student of a two-layer assistant, hard texts last."""
    folder = tmp_path_factory.mktemp("progressive")
    task = small_task.write_task(
        folder, teacher_folder,
        student={"family": "truncated", "options": {"layers": [1], "num_heads": 2}},
        distillation={
            "assistants": [TRUNCATED], "curriculum": CURRICULUM,
            "num_epochs": 4, "num_texts": 190, "augmentation": {"num_texts": 80},
        },
        requirements={"retention": 0.5},
    )  # fmt: skip
    return run_task(task, runs_dir=folder / "runs")


def stage(result: RunResult, name: str) -> Path:
    (found,) = [each.folder for each in result.stages if each.name == name]
    return found


def test_assistants_and_a_curriculum_run_to_a_bundle(result: RunResult) -> None:
    classifier = edgedistill.load(result.bundle)
    assert classifier.predict(["please cancel it now"])[0].reason in (None, "out_of_bounds")
    (note,) = json.loads((result.folder / "report.json").read_text())["making"]["notes"]
    assert "the last of 1 assistants in a row" in note
    log = (result.folder / "log.jsonl").read_text().splitlines()
    told = [event for event in map(json.loads, log) if "parts of the texts" in str(event)]
    # All are open before half of the four epochs is over, of assistant and student.
    assert [event["message"][:12] for event in told if "assistant" in event["stage"]][-1] == (
        "opens 3 of 3"
    )
    assert any(event["stage"] == "student-truncated" for event in told)


def test_the_student_learns_what_the_assistant_answers(result: RunResult) -> None:
    answers = np.load(stage(result, "assistant-1") / "logits.npy")
    teachers = np.load(stage(result, "transfer") / "logits.npy")
    assert answers.shape == teachers.shape
    assert np.abs(answers - teachers).max() > 0.01
    inputs = json.loads((stage(result, "student-truncated") / "stage.json").read_text())["inputs"]
    (made,) = [each for each in result.stages if each.name == "assistant-1"]
    assert inputs["answers"] == made.fingerprint


def write(folder: Path, teacher: Path, **distillation: Any) -> Path:
    return small_task.write_task(folder, teacher, distillation=distillation)


def test_assistants_that_cannot_teach_are_refused(tmp_path: Path, teacher_folder: Path) -> None:
    path = write(tmp_path / "a", teacher_folder, assistants=[{"family": "linear"}])
    with pytest.raises(MissingSignal, match="fitted to labels alone"):
        check_task(path)
    wrong = {"family": "static", "options": {"wings": 2}}
    path = write(tmp_path / "b", teacher_folder, assistants=[TRUNCATED, wrong])
    with pytest.raises(SpecError, match=r"distillation\.assistants\.1\.options\.wings"):
        check_task(path)
    with pytest.raises(ValueError, match="each needs a family"):
        DistillationSpec.model_validate({"assistants": [{"family": "auto"}]})
    path = write(tmp_path / "c", teacher_folder, curriculum={})
    assert check_task(path).spec.seed == 0


def test_a_curriculum_is_refused_where_nothing_is_learned(
    tmp_path: Path, teacher_folder: Path
) -> None:
    path = small_task.write_task(
        tmp_path, teacher_folder, student={"family": "linear"}, distillation={"curriculum": {}}
    )
    with pytest.raises(MissingSignal, match="fitted to labels alone"):
        check_task(path)


def test_check_foresees_what_assistants_cost(tmp_path: Path, teacher_folder: Path) -> None:
    costs = []
    for name, assistants in (("none", []), ("two", [TRUNCATED, TRUNCATED])):
        path = write(tmp_path / name, teacher_folder, assistants=assistants)
        seconds = check_task(path).forecast.seconds
        costs.append(seconds["students"] / seconds["transfer"])
    assert costs == pytest.approx([1.0, 17.0])
