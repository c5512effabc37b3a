"""Strategies of a tagger from the task file to a bundle."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file

import edgedistill
import small_extraction
from edgedistill.pipeline.run import RunResult, run_task

PAGE = Path(edgedistill.__file__).parents[2] / "docs" / "how-to" / "choose-a-strategy.md"
STUDENT = {"family": "truncated", "options": {"layers": [0, 1], "num_heads": 2}}
TERMS = {
    "response/soft", "response/energy", "feature/states", "attention/maps", "relation/attention",
    "relation/value", "consistency/views", "average/answers", "shallow/answers",
}  # fmt: skip


def stage(result: RunResult, name: str) -> Path:
    (found,) = [each.folder for each in result.stages if each.name == name]
    return found


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> RunResult:
    """A two-layer student, taught as the guide's first example says and as its own teacher."""
    (example, *_) = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    distillation: dict[str, Any] = yaml.safe_load(example)["distillation"]
    distillation["strategy"] += [{"name": "average", "decay": 0.9}, "shallow"]
    folder = tmp_path_factory.mktemp("strategies")
    task = small_extraction.write_task(
        folder, teacher_folder, student=STUDENT, requirements={"retention": 0.5},
        distillation={
            **distillation, "num_epochs": 3, "num_texts": 190, "augmentation": {"num_texts": 80},
        },
    )  # fmt: skip
    return run_task(task, runs_dir=folder / "runs")


def test_a_combination_of_all_runs_to_a_bundle(result: RunResult) -> None:
    (answer,) = edgedistill.load(result.bundle).predict(["please send 7 parcel today"])
    assert answer.reason in (None, "out_of_bounds")
    student = stage(result, "student-truncated")
    history = json.loads((student / "training.json").read_text())["history"]
    assert len(history) == 3
    assert set(history[0]) >= TERMS
    assert history[2]["attention/maps"] < 0.4 * history[0]["attention/maps"]
    assert all(name.startswith(("embedding.", "layers.", "head."))
               for name in load_file(student / "student.safetensors"))  # fmt: skip
