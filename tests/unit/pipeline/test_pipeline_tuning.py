"""Fine-tuning in steps goes on where it was killed, bit for bit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import small_task
from edgedistill.core.events import Event, Listener, silent
from edgedistill.core.task_file import load_task
from edgedistill.data.loading import load_dataset
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.tuning import Course, fine_tune
from edgedistill.pipeline.store import Store
from edgedistill.tasks.classification import TextEncoder


class KilledError(Exception):
    """Stands for the end of the process."""


def tuned(task: Path, teacher: Path, folder: Path, listener: Listener) -> dict[str, Any]:
    spec: Any = load_task(task)
    store = Store(folder / "store", silent)
    context = Context(spec, task.parent, folder, store, listener, time.monotonic() + 600)
    course = Course(
        context, spec.teacher, "teacher", load_dataset(spec, root=task.parent),
        TextEncoder(teacher / "tokenizer.json", 64),
    )  # fmt: skip
    return fine_tune(course, teacher, folder)


def test_a_killed_course_goes_on_at_its_step(teacher_folder: Path, tmp_path: Path) -> None:
    settings = {
        "source": f"folder:{teacher_folder}", "num_epochs": 1, "learning_rate": 0.003,
        "steps": [{"data": "one.jsonl", "num_epochs": 1},
                  {"data": "two.jsonl", "num_epochs": 1, "replay": 0.3}],
        "replay": 0.2, "ewc": 10.0, "l2_sp": 0.01,
    }  # fmt: skip
    task = small_task.write_task(tmp_path, teacher_folder, teacher=settings)
    for name, seed in (("one", 11), ("two", 12)):
        small_task.write_rows(tmp_path / f"{name}.jsonl", small_task.rows(15, seed))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    record = tuned(task, teacher_folder, whole, silent)
    told: list[str] = []

    def listener(event: Event) -> None:
        told.append(event.stage)
        if event.stage == "teacher, step 2" and len(told) < 100:
            raise KilledError

    with pytest.raises(KilledError):
        tuned(task, teacher_folder, killed, listener)
    assert (killed / "steps" / "0" / "training.json").exists()
    told[:] = [""] * 100
    again = tuned(task, teacher_folder, killed, listener)
    assert "teacher, step 1" not in told
    assert [each["history"][0]["cross_entropy"] for each in (*again["steps"], again)] == [
        each["history"][0]["cross_entropy"] for each in (*record["steps"], record)
    ]
    first, second = (load_file(f / "classifier" / "model.safetensors") for f in (whole, killed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    # Both pulls are there, the second from the second step on.
    terms = [set(each["history"][0]) for each in (*record["steps"], record)]
    assert ["elastic" in each for each in terms] == [False, True, True]
    assert all("anchor" in each for each in terms)
    with np.load(whole / "abilities.npz") as ours, np.load(killed / "abilities.npz") as theirs:
        assert all((ours[name] == theirs[name]).all() for name in ours)
    assert not (killed / "steps").exists()
