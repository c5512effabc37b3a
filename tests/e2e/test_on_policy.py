"""A student that learns from its own answers too: from the task file to the bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import small_generation
from edgedistill.core.errors import SpecError
from edgedistill.core.events import Event
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import run_task
from edgedistill.runtime.verification import verify

SHAPE = {"num_heads": 2, "num_kv_heads": 1}
TASK: dict[str, Any] = {
    "teacher": {
        "vocabulary_size": 340,
        "shape": {**SHAPE, "hidden_size": 48, "num_layers": 2, "intermediate_size": 96},
        "training": {"num_epochs": 4, "learning_rate": 5e-3, "batch_tokens": 512},
    },
    "student": {
        "shape": {**SHAPE, "hidden_size": 32, "num_layers": 1, "intermediate_size": 64},
        "training": {"num_epochs": 3, "learning_rate": 1e-2, "batch_tokens": 512},
        "weight_types": ["f16"],
    },
    "distillation": {"on_policy": 0.5, "divergence": "reverse_kl"},
    "requirements": {"retention": None},
}


def test_a_killed_run_learns_what_a_whole_one_does_and_ships(tmp_path: Path) -> None:
    task = small_generation.write_task(tmp_path, **TASK)
    cut, whole = tmp_path / "cut", tmp_path / "whole"

    class Killed(BaseException):
        pass

    def killed_at(runs: Path, stage: str) -> list[str]:
        """Run until that stage has done an epoch; returns what was told before."""
        told = []

        def listen(event: Event) -> None:
            told.append(event.message)
            if event.stage == stage and event.message == "epoch 1 of 3":
                raise Killed

        with pytest.raises(Killed):
            run_task(task, runs_dir=runs, listener=listen)
        return told

    killed_at(cut, "student")
    shutil.copytree(cut, whole)
    for begun in (whole / "store").glob("student-*"):
        shutil.rmtree(begun)
    assert "continues after epoch 1" not in killed_at(whole, "control")
    assert "continues after epoch 1" in killed_at(cut, "control")
    (first,), (second,) = ((runs / "store").glob("student-*") for runs in (whole, cut))
    weights = "model.safetensors"
    assert (first / weights).read_bytes() == (second / weights).read_bytes()
    run = run_task(task, runs_dir=whole)
    learned = json.loads((first / "training.json").read_text(encoding="utf-8"))["history"]
    assert all({"soft", "hard", "on_policy"} <= set(epoch) for epoch in learned)
    (control,) = (whole / "store").glob("control-*")
    alone = json.loads((control / "training.json").read_text(encoding="utf-8"))["history"]
    assert all("on_policy" not in epoch for epoch in alone)
    assert verify(run.bundle).holds


def test_it_costs_time_and_none_of_the_disk(tmp_path: Path) -> None:
    often, never = (
        check_task(
            small_generation.write_task(tmp_path / str(share), distillation={"on_policy": share})
        ).forecast
        for share in (0.5, 0.0)
    )
    assert often.seconds["student and control"] > never.seconds["student and control"]
    assert often.disk_bytes == never.disk_bytes


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"on_policy": 0.2, "hard_weight": 1}, "leaves the teacher out"),
        ({"on_policy": 1.5}, "less than or equal to 1"),
        ({"on_policy": -0.1}, "greater than or equal to 0"),
    ],
)
def test_what_makes_no_sense_is_refused_at_check(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(SpecError, match=why):
        check_task(small_generation.write_task(tmp_path, distillation=changes))
