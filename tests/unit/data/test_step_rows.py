"""Rows of earlier steps: what is measured is learned nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgedistill.core.artefacts import Dataset, Example
from edgedistill.core.errors import DataError
from edgedistill.core.task import TaskSpec
from edgedistill.core.teachers import TuningStep
from edgedistill.data.step_rows import load_steps, step_files


def examples(*texts: str) -> tuple[Example, ...]:
    return tuple(Example(text, text, "a") for text in texts)


DATASET = Dataset(
    ("a", "b"), examples("own one", "own two"), examples("held out"), examples("tested"),
    unlabelled=examples("pool"),
)  # fmt: skip


def spec(**data: Any) -> TaskSpec:
    return TaskSpec.model_validate({
        "name": "x", "teacher": {"source": "hub:a/b"},
        "data": {"files": {"train": "t.jsonl"}, **data},
    })  # fmt: skip


def write(path: Path, *texts: str, label: str = "a") -> None:
    path.write_text("".join(json.dumps({"text": t, "label": label}) + "\n" for t in texts))


def test_what_is_measured_is_learned_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "general.jsonl", "Tested!", "general", "été", "shown later", "held  OUT")
    write(tmp_path / "shown.jsonl", "shown", "own ONE", "pool")
    write(tmp_path / "domain.jsonl", "SHOWN", "domain", "own two")
    write(tmp_path / "later.jsonl", "Shown later", "x")
    steps = [
        TuningStep(data="general.jsonl", validation="shown.jsonl"),
        TuningStep(data="domain.jsonl", validation="later.jsonl"),
    ]
    general, domain = load_steps(steps, spec(), DATASET, tmp_path)
    assert [row.text for row in general.train] == ["general", "été"]
    assert [row.text for row in general.validation] == ["shown"]
    assert general.num_left_out == 5
    # A text of the task's own may be learned twice.
    assert [row.text for row in domain.train] == ["domain", "own two"]
    assert [row.text for row in domain.validation] == ["Shown later", "x"]
    names = ["general.jsonl", "shown.jsonl", "domain.jsonl", "later.jsonl"]
    assert step_files(steps, tmp_path) == [tmp_path / name for name in names]


def test_validation_rows_are_cut_where_no_file_has_them(tmp_path: Path) -> None:
    write(tmp_path / "general.jsonl", *(f"text number {i}" for i in range(40)))
    ratios = {"split_ratios": {"validation": 0.25, "test": 0.1}}
    ((step),) = load_steps([TuningStep(data="general.jsonl")], spec(**ratios), DATASET, tmp_path)
    assert len(step.validation) == 10
    assert len(step.train) == 30
    assert not {row.text for row in step.validation} & {row.text for row in step.train}
    assert step_files([TuningStep(data="general.jsonl")], tmp_path) == [tmp_path / "general.jsonl"]
    assert load_steps([], spec(), DATASET, tmp_path) == []


def test_malformed_rows_are_refused_or_set_aside(tmp_path: Path) -> None:
    write(tmp_path / "general.jsonl", "one", "two")
    with (tmp_path / "general.jsonl").open("a") as stream:
        stream.write('{"text": ""}\n')
    write(tmp_path / "shown.jsonl", "three")
    steps = [TuningStep(data="general.jsonl", validation="shown.jsonl")]
    aside = tmp_path / "quarantine.jsonl"
    with pytest.raises(DataError, match=r"general\.jsonl:3"):
        load_steps(steps, spec(), DATASET, tmp_path, aside)
    assert not aside.exists()
    (step,) = load_steps(steps, spec(on_malformed="quarantine"), DATASET, tmp_path, aside)
    assert len(step.train) == 2
    assert aside.exists()


def test_labels_that_the_task_lacks_are_named(tmp_path: Path) -> None:
    write(tmp_path / "general.jsonl", "one")
    write(tmp_path / "shown.jsonl", "two", label="c")
    steps = [TuningStep(data="general.jsonl", validation="shown.jsonl")]
    with pytest.raises(DataError, match="'c' of row shown") as caught:
        load_steps(steps, spec(), DATASET, tmp_path)
    assert caught.value.where == str(tmp_path / "shown.jsonl")
    assert "a, b" in str(caught.value)
