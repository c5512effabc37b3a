"""Strategies of a tagger from the task file to a bundle."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

import edgedistill
import small_extraction
from edgedistill.core.errors import EdgeDistillError, MissingSignal
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.pipeline.stages import internals

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


def test_the_report_has_every_term_by_epoch_and_what_was_kept(result: RunResult) -> None:
    making = json.loads((result.folder / "report.json").read_text())["making"]
    (note,) = making["notes"]
    assert "kept in half precision" in note
    assert "attention maps of layers" in note
    curves = {curve["name"]: curve for curve in making["curves"]}
    terms = dict(curves["student"]["terms"])
    assert set(terms) == TERMS
    assert all(len(values) == len(curves["student"]["values"]) == 3 for values in terms.values())
    page = (result.folder / "report.md").read_text()
    assert "What the student paid, weighted." in page
    assert f"{terms['feature/states'][2]:.4g}" in page
    assert "feature/states" in (result.folder / "report.html").read_text()


def test_a_second_run_reads_nothing_again(
    result: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A cache that is there is used however full the disk has become.
    monkeypatch.setattr(internals, "MOST_DISK_SHARE", 1e-15)
    again = run_task(result.folder.parents[1] / "task.yaml", runs_dir=result.folder.parent)
    assert again.num_reused == len(again.stages)
    assert "internals" in [stage.name for stage in again.stages]


@pytest.fixture(scope="module")
def stepwise(result: RunResult, teacher_folder: Path) -> RunResult:
    """A one-layer student of a second generation, of a two-layer assistant, hard texts last; what
    the teacher computes inside is read along."""
    folder = result.folder.parents[1]
    first = (folder / "task.yaml").read_text()
    task = small_extraction.write_task(
        folder, teacher_folder, name="stepwise", requirements={"retention": 0.5},
        distillation={
            "strategy": ["response", {"name": "feature", "layers": "last"}],
            "assistants": [STUDENT], "generations": 2, "curriculum": {"by": "loss", "parts": 3},
            "num_epochs": 4, "num_texts": 190, "augmentation": {"num_texts": 80},
        },
    ).rename(folder / "stepwise.yaml")  # fmt: skip
    (folder / "task.yaml").write_text(first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(internals, "MOST_DISK_SHARE", 1e-15)
        return run_task(task, runs_dir=folder / "runs")


def test_generations_assistants_and_a_curriculum(stepwise: RunResult) -> None:
    (answer,) = edgedistill.load(stepwise.bundle).predict(["please send 7 parcel today"])
    assert answer.reason in (None, "out_of_bounds")
    notes = json.loads((stepwise.folder / "report.json").read_text())["making"]["notes"]
    assistant, live, generations = notes
    assert "the last of 1 assistants in a row" in assistant
    assert "the teacher reads each batch along" in live
    assert "Each of 2 students in a row" in generations
    told = (stepwise.folder / "log.jsonl").read_text()
    assert "opens 3 of 3 parts of the texts" in told


def test_the_student_learns_what_the_assistant_answers_to_each_token(stepwise: RunResult) -> None:
    answers = np.load(stage(stepwise, "assistant-1") / "logits.npy")
    teachers = np.load(stage(stepwise, "transfer") / "logits.npy")
    assert answers.shape == teachers.shape
    assert answers.dtype == np.float16
    assert 0.01 < np.abs(answers.astype(float) - teachers).mean() < 5
    inputs = json.loads((stage(stepwise, "student-truncated") / "stage.json").read_text())["inputs"]
    (made,) = [each for each in stepwise.stages if each.name == "assistant-1"]
    assert inputs["answers"] == made.fingerprint


def refusal(folder: Path, teacher: Path, **changes: Any) -> EdgeDistillError:
    """The refusal of `check`, which is that of `run` before its first stage."""
    path = small_extraction.write_task(folder, teacher, **changes)
    with pytest.raises(EdgeDistillError) as checked:
        check_task(path)
    with pytest.raises(EdgeDistillError) as run:
        run_task(path, runs_dir=folder / "runs")
    assert str(checked.value) == str(run.value)
    assert not (folder / "runs" / "store").exists()
    return checked.value


def test_what_cannot_work_is_refused_before_any_work(tmp_path: Path, teacher_folder: Path) -> None:
    def told(strategy: Any, **more: Any) -> str:
        settings = {"strategy": ["response", *strategy], **more}
        return str(refusal(tmp_path, teacher_folder, distillation=settings))

    assert "distillation.strategy.1 (shallow): the student has a single layer" in told(["shallow"])
    layers = told([{"name": "feature", "layers": [[0, 7]]}])
    assert "distillation.strategy.1 (feature): layers" in layers
    assert "7" in layers
    wrong = [{"family": "truncated", "options": {"wings": 2}}]
    assert "distillation.assistants.0.options.wings" in told([], assistants=wrong)
    lines = told(["atention"]).splitlines()
    assert any("task.yaml:" in line and "distillation.strategy.1" in line for line in lines)
    assert "needs response among its parts" in str(
        refusal(tmp_path, teacher_folder, distillation={"strategy": "feature"})
    )
    unreadable = tmp_path / "unreadable"
    unreadable.mkdir()
    for file in teacher_folder.iterdir():
        (unreadable / file.name).write_bytes(file.read_bytes())
    config = json.loads((unreadable / "config.json").read_text()) | {"model_type": "distilbert"}
    (unreadable / "config.json").write_text(json.dumps(config))
    error = refusal(tmp_path, unreadable, distillation={"strategy": ["response", "relation"]})
    assert isinstance(error, MissingSignal)
    assert "'distilbert' encoder cannot be read" in str(error)


def test_check_foresees_the_cache_and_the_trainings(tmp_path: Path, teacher_folder: Path) -> None:
    def expected(**distillation: Any) -> Any:
        path = small_extraction.write_task(tmp_path, teacher_folder, distillation=distillation)
        return check_task(path).forecast

    augmentation = {"num_texts": 0}
    plain = expected(augmentation=augmentation)
    more = expected(
        strategy=["response", "feature"], generations=2, augmentation=augmentation,
        assistants=[STUDENT],
    )  # fmt: skip
    assert plain.internals_bytes == 0
    assert more.seconds["students"] / more.seconds["transfer"] == pytest.approx(24.0)
    assert more.seconds["teacher's inside"] == pytest.approx(more.seconds["transfer"])
    # Two layers of width 32 in half precision, of each token of the 160 training texts.
    assert more.internals_bytes % 128 == 0
    assert 160 * 8 < more.internals_bytes / 128 < 160 * 24
