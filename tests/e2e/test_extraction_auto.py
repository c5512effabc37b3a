"""`strategy: auto` of an extraction task, from task file to a report that shows evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import small_extraction
from edgedistill.core.errors import DataError
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import run_task

STUDENT = {"family": "truncated", "options": {"layers": [0, 1], "num_heads": 2}}


def write(folder: Path, teacher_folder: Path, minutes: float) -> Path:
    """A task whose trainings have one epoch: every trial is a whole one."""
    task: Path = small_extraction.write_task(
        folder, teacher_folder, student=STUDENT, requirements={"retention": 0.5},
        distillation={
            "strategy": "auto", "search": {"minutes": minutes}, "num_epochs": 1,
            "augmentation": {"num_texts": 40},
        },
    )  # fmt: skip
    return task


def test_the_report_shows_what_was_tried_and_the_chosen_one_ships(
    tmp_path: Path, teacher_folder: Path
) -> None:
    result = run_task(write(tmp_path, teacher_folder, 0.15), runs_dir=tmp_path / "runs")
    tried = json.loads((result.folder / "report.json").read_text())["strategies"]
    trials = {trial["name"]: trial for trial in tried["trials"]}
    assert trials["response"]["seconds"] > 0
    assert 0 <= trials["response"]["score"] <= 1
    assert trials[tried["chosen"]]["reason"].startswith("chosen")
    assert tried["num_ranking"] + tried["num_deciding"] > 0
    assert "Strategies tried" in (result.folder / "report.md").read_text()
    assert result.bundle.exists()


def test_check_forecasts_the_search_and_warns_where_not_all_will_fit(
    tmp_path: Path, teacher_folder: Path
) -> None:
    checked = check_task(write(tmp_path, teacher_folder, 0.001))
    assert 0 < checked.forecast.seconds["trying strategies"] <= 0.06
    assert any("it tries what fits" in warning for warning in checked.warnings)


def test_too_few_validation_texts_are_refused_before_any_work(
    tmp_path: Path, teacher_folder: Path
) -> None:
    task = write(tmp_path, teacher_folder, 1.0)
    rows = tmp_path / "validation.jsonl"
    rows.write_text("\n".join(rows.read_text().splitlines()[:6]) + "\n")
    for act in (check_task, lambda path: run_task(path, runs_dir=tmp_path / "runs")):
        with pytest.raises(DataError, match="too few"):
            act(task)
    assert not list((tmp_path / "runs").rglob("teacher*/classifier*"))
