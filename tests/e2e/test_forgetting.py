"""A teacher that goes from general rows to the task's own, and what is left of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedistill
import small_task
from edgedistill.core.errors import DataError, EdgeDistillError
from edgedistill.core.task_file import load_task
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import RunResult, run_task

#: The same labels in other words.
GENERAL = {
    "order": "send shop broken a",
    "cancel": "tomorrow help can i",
    "refund": "what for the to",
}


def general_rows(copies: int) -> list[dict[str, str]]:
    return [
        {"text": f"{first} {second} {word}", "label": label}
        for label, words in GENERAL.items()
        for first in words.split()
        for second in words.split()
        for word in ("today", "again", "never", "you")[:copies]
    ]


def write(folder: Path, teacher: Path, /, requirements: Any = None, **settings: Any) -> Path:
    steps = [
        {"data": "general.jsonl", "validation": "general_validation.jsonl", "num_epochs": 5},
        {"data": "domain.csv", "num_epochs": 1, "replay": 0.25},
    ]
    task = small_task.write_task(
        folder, teacher,
        teacher={
            "source": f"folder:{teacher}", "num_epochs": 3, "learning_rate": 0.003,
            "batch_size": 16, "steps": steps, **settings,
        },
        requirements={"retention": 0.5, **(requirements or {})},
        distillation={"num_epochs": 3, "augmentation": {"num_texts": 60}},
    )  # fmt: skip
    small_task.write_rows(folder / "general.jsonl", general_rows(3))
    small_task.write_rows(
        folder / "general_validation.jsonl",
        [row for row in general_rows(4) if row["text"].endswith("you")],
    )
    domain = small_task.rows(12, 9)
    # A text of the task's test split: it must not be learned.
    domain.append(small_task.rows(20, 3)[0])
    lines = ["text,label", *(f"{row['text']},{row['label']}" for row in domain)]
    (folder / "domain.csv").write_text("\n".join(lines), encoding="utf-8")
    return task


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> RunResult:
    folder = tmp_path_factory.mktemp("forgetting")
    task = write(folder, teacher_folder, {"general_retention": 0.99}, ewc=20.0, replay=0.3)
    return run_task(task, runs_dir=folder / "runs")


def test_general_ability_is_measured_and_bounded(result: RunResult) -> None:
    edgedistill.load(result.bundle).predict(["where is my order"])
    report = json.loads((result.folder / "report.json").read_text())
    general, domain = report["earlier_steps"]
    assert general["data"] == "general.jsonl"
    assert general["num_rows"] == 48
    assert general["before"] > 0.9
    # What nobody showed the student it cannot keep: the run says so, and why.
    judgement = next(j for j in report["requirements"] if j["requirement"] == "general retention")
    assert judgement["bound"] == pytest.approx(general["kept"]["low"])
    assert judgement["holds"] == (general["kept"]["low"] >= 0.99)
    assert result.ships == all(j["holds"] for j in report["requirements"])
    assert not result.ships
    assert any(reason.startswith("general retention") for reason in result.reasons)
    assert domain["num_left_out"] >= 1
    markdown = (result.folder / "report.md").read_text()
    assert "Earlier steps" in markdown
    assert "were left out" in markdown


def test_the_teacher_went_through_all_steps(result: RunResult) -> None:
    (teacher,) = [stage.folder for stage in result.stages if stage.name == "teacher"]
    record = json.loads((teacher / "training.json").read_text())
    first, second = record["steps"]
    assert len(first["history"]) <= 5
    assert "elastic" not in first["history"][0]
    assert len(second["history"]) == 1
    assert second["history"][0]["elastic"] >= 0
    assert record["history"][0]["elastic"] > 0
    assert not (teacher / "steps").exists()
    texts = json.loads((teacher / "ability_texts.json").read_text())
    tested = {row["text"] for row in small_task.rows(20, 3)}
    assert not tested & set(texts[1]["texts"])
    with np.load(teacher / "abilities.npz") as arrays:
        assert len(arrays["after.0"]) == 48


def test_check_foresees_the_steps(teacher_folder: Path, tmp_path: Path) -> None:
    with_steps = check_task(write(tmp_path / "a", teacher_folder)).forecast.seconds
    without = check_task(write(tmp_path / "b", teacher_folder, steps=[])).forecast.seconds
    shares = [each["teacher"] / each["transfer"] for each in (with_steps, without)]
    assert shares[0] > 1.5 * shares[1]


def test_rows_that_are_wrong_are_refused(teacher_folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path, teacher_folder)
    small_task.write_rows(tmp_path / "general.jsonl", [{"text": "a help", "label": "elsewhere"}])
    with pytest.raises(DataError, match=r"'elsewhere' of row general\.jsonl:1") as caught:
        check_task(path)
    assert caught.value.where == str(tmp_path / "general.jsonl")
    small_task.write_rows(tmp_path / "general.jsonl", small_task.rows(20, 3))
    with pytest.raises(DataError, match="every row stands among"):
        check_task(path)
    (tmp_path / "general.jsonl").unlink()
    for refused in (check_task, lambda path: run_task(path, runs_dir=tmp_path / "runs")):
        with pytest.raises(DataError, match="no such file"):
            refused(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": [], "ewc": 1.0}, "nothing to forget"),
        ({"steps": [], "replay": 0.5}, "nothing to forget"),
        ({"num_epochs": 0}, "nothing is fine-tuned"),
        ({"steps": [{"data": "a.jsonl", "replay": 0.1}]}, "no rows before the first step"),
        ({"batch_size": 1}, "a batch of one row"),
        ({"ewc": float("inf")}, "ewc"),
        ({"replay": 1.0}, "replay"),
    ],
)
def test_settings_that_protect_nothing(
    settings: Any, message: str, teacher_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgeDistillError, match=message) as caught:
        load_task(write(tmp_path, teacher_folder, **settings))
    assert "task.yaml" in str(caught.value)


def test_a_bound_without_steps_is_refused(teacher_folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path, teacher_folder, {"general_retention": 0.9}, steps=[])
    with pytest.raises(EdgeDistillError, match="nothing to keep without"):
        load_task(path)
