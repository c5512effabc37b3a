"""Several teachers weighted by agreement, from the task file to a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedistill
import small_task
from edgedistill.core.errors import MissingSignal, SpecError
from edgedistill.core.files import read_json
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import run_task
from edgedistill.pipeline.stages.answers import Apart


def write(folder: Path, teacher: Path, **changes: Any) -> Path:
    more = {"source": f"folder:{teacher}", "batch_size": 16, "num_epochs": 2}
    mixture = {"weighting": "agreement", "agree_with": "labels", "first_weight": 2.0}
    return small_task.write_task(
        folder, teacher, **{
            "teachers": [more | {"learning_rate": 0.003}, more | {"learning_rate": 0.0001}],
            "requirements": {"retention": 0.5},
            "distillation": {
                "mixture": mixture, "num_epochs": 2, "generations": 2,
                "augmentation": {"num_texts": 80},
            },
        } | changes,
    )  # fmt: skip


def test_agreement_runs_to_a_bundle(tmp_path: Path, teacher_folder: Path) -> None:
    result = run_task(write(tmp_path, teacher_folder), runs_dir=tmp_path / "runs")
    classifier = edgedistill.load(result.bundle)
    assert classifier.predict(["please cancel it now"])[0].reason in (None, "out_of_bounds")
    notes = json.loads((result.folder / "report.json").read_text())["making"]["notes"]
    (mixture,) = [note for note in notes if "mixture" in note]
    assert "answers of 3 teachers, weights by agreement with the labels in each step" in mixture
    (student,) = [each.folder for each in result.stages if each.name == "student-static"]
    record = read_json(student / "training.json")
    assert len(record["generations"]) == 2
    assert np.isfinite([entry["response/soft"] for entry in record["history"]]).all()


def test_what_each_teacher_says_is_told_apart() -> None:
    rng = np.random.default_rng(0)
    first, other = rng.normal(size=(2, 7, 3))
    answers = Apart(first, [(other, ((2,), (), (0, 1)))], (1.0, 1.0))[np.array([5, 2])]
    assert answers.shape == (2, 2, 3)
    for place, row in enumerate((5, 2)):
        p, q = (np.exp(each[row]) / np.exp(each[row]).sum() for each in (first, other))
        np.testing.assert_allclose(np.exp(answers[place, 0]), p)
        # It does not know the second label: there the first teacher speaks.
        completed = np.array([q[2], 0.0, q[0] + q[1]]) * (1 - p[1]) + [0.0, p[1], 0.0]
        np.testing.assert_allclose(np.exp(answers[place, 1]), completed)


def test_what_cannot_agree_is_refused(tmp_path: Path, teacher_folder: Path) -> None:
    path = write(tmp_path / "a", teacher_folder, student={"family": "linear"})
    with pytest.raises(MissingSignal, match="fitted to labels alone"):
        check_task(path)
    mixture = {"mixture": {"weighting": "static", "agree_with": "labels"}}
    path = write(tmp_path / "b", teacher_folder, distillation=mixture)
    with pytest.raises(SpecError, match="weighting agreement alone") as caught:
        check_task(path)
    assert f"{path}:" in str(caught.value)
    path = write(tmp_path / "c", teacher_folder, teachers=[])
    with pytest.raises(SpecError, match="nothing to mix"):
        check_task(path)
