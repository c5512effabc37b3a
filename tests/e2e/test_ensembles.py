"""Students that answer as one, from the task file to a bundle, and the one that they teach."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedistill
import small_task
from edgedistill.core.errors import EdgeDistillError, SpecError
from edgedistill.core.task_file import load_task
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.pipeline.stages.any_ground import Candidate
from edgedistill.pipeline.stages.ensemble import Together
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.student import TrainedStudent

STATIC = {"token_size": 16, "num_buckets": 64, "hidden_size": 32}
OTHER = {"family": "truncated", "options": {"layers": [1], "num_heads": 2}}


def write(folder: Path, teacher: Path, /, family: str = "static", **ensemble: Any) -> Path:
    student = {
        "family": family, "options": STATIC if family == "static" else {}, "ensemble": ensemble,
    }  # fmt: skip
    return small_task.write_task(
        folder, teacher, student=student, requirements={"retention": 0.5},
        distillation={"num_epochs": 3, "augmentation": {"num_texts": 60}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> RunResult:
    """Two static students and a transformer, shipped as one."""
    folder = tmp_path_factory.mktemp("ensemble")
    task = write(
        folder, teacher_folder, num_members=2, others=[OTHER], ships="ensemble", weighting="equal"
    )
    return run_task(task, runs_dir=folder / "runs")


def stage(result: RunResult, name: str) -> Path:
    (found,) = [each.folder for each in result.stages if each.name == name]
    return found


def test_one_bundle_holds_all_members(result: RunResult) -> None:
    classifier = edgedistill.load(result.bundle)
    assert classifier.predict(["please cancel it now"])[0].reason in (None, "out_of_bounds")
    record = json.loads((stage(result, "student-ensemble") / "training.json").read_text())
    assert record["weights"] == pytest.approx([1 / 3] * 3)
    folders = [stage(result, f"student-{name}") for name in ("static", "static-2", "truncated-3")]
    assert all((folder / "student.safetensors").is_file() for folder in folders)
    # Members of one family differ by their seed.
    first, second = (json.loads((f / "training.json").read_text()) for f in folders[:2])
    assert first["best_score"] != second["best_score"]
    report = json.loads((result.folder / "report.json").read_text())
    assert [hop["holds"] for hop in report["ledger"]] == [True] * 5
    assert report["shipped"]["family"] == "ensemble"
    assert "Ensemble" in (result.folder / "report.html").read_text()
    assert "The bundle is an ensemble" in (result.folder / "report.md").read_text()


def test_the_report_shows_members_weights_and_the_whole(result: RunResult) -> None:
    report = json.loads((result.folder / "report.json").read_text())["ensemble"]
    names = [row["name"] for row in report["rows"]]
    assert names == ["static", "static-2", "truncated-3", "ensemble"]
    assert [row["weight"] for row in report["rows"]] == pytest.approx([1 / 3] * 3 + [None])
    record = json.loads((stage(result, "student-ensemble") / "training.json").read_text())
    told = [row["validation"] for row in report["rows"]]
    assert told == pytest.approx(record["accuracies"])
    assert report["shipped"] == "ensemble"


def test_one_student_learns_from_the_ensemble(result: RunResult, teacher_folder: Path) -> None:
    runs = result.folder.parent
    task = write(runs.parent, teacher_folder, num_members=2, others=[OTHER], average="logits")
    again = run_task(task, runs_dir=runs)
    reused = {each.name for each in again.stages if each.reused}
    assert {"student-static", "student-static-2", "student-truncated-3", "transfer"} <= reused
    (answers,) = [each for each in again.stages if each.name == "ensemble-answers"]
    (student,) = [each for each in again.stages if each.name == "student-distilled-back"]
    inputs = json.loads((student.folder / "stage.json").read_text())["inputs"]
    assert inputs["answers"] == answers.fingerprint
    taught, first = (
        np.load(folder / "logits.npy") for folder in (answers.folder, stage(again, "transfer"))
    )
    assert taught.shape == first.shape
    assert np.abs(taught - first).max() > 0.1
    report = json.loads((again.folder / "report.json").read_text())
    rows = report["ensemble"]["rows"]
    assert [row["name"] for row in rows[3:]] == ["ensemble", "distilled-back"]
    assert sum(row["weight"] for row in rows[:3]) == pytest.approx(1.0)
    assert "likeliest" in (again.folder / "report.md").read_text()
    # Of the three the smallest that meets the requirements ships.
    candidates = {each["name"]: each for each in report["candidates"]}
    assert set(candidates) == {"static", "distilled-back", "ensemble"}
    assert not candidates["ensemble"]["chosen"]
    assert report["ensemble"]["shipped"] in ("static", "distilled-back")
    assert candidates["ensemble"]["size_bytes"] > candidates["static"]["size_bytes"]


@pytest.mark.parametrize(
    ("ships", "names"),
    [("smallest", ["static", "distilled-back", "ensemble"]), ("ensemble", ["ensemble"]),
     ("distilled", ["distilled-back"])],
)  # fmt: skip
def test_what_may_ship(ships: str, names: list[str], teacher_folder: Path, tmp_path: Path) -> None:
    spec: Any = load_task(write(tmp_path, teacher_folder, ships=ships))
    context = Context(spec, tmp_path, tmp_path, None, None, 0.0)  # type: ignore[arg-type]
    ground = Ground(context, None, None, None)  # type: ignore[arg-type]
    one, back, whole = (
        TrainedStudent(Candidate("static", name, {}), None, {})  # type: ignore[arg-type]
        for name in ("static", "distilled-back", "ensemble")
    )
    together = Together(ground, replace(whole, members=(one, one)), back)
    assert list(together.tried) == names


def test_check_refuses_what_cannot_vote(teacher_folder: Path, tmp_path: Path) -> None:
    for number, (family, ensemble, where) in enumerate([
        ("linear", {}, "student.family"),
        ("static", {"others": [{"family": "linear"}]}, "student.ensemble.others.0.family"),
    ]):  # fmt: skip
        path = write(tmp_path / str(number), teacher_folder, family=family, **ensemble)
        for refused in (check_task, lambda path: run_task(path, runs_dir=tmp_path / "runs")):
            with pytest.raises(SpecError, match="cannot be a member") as caught:
                refused(path)
            assert caught.value.where == where
    path = write(tmp_path / "options", teacher_folder,
                 others=[{"family": "truncated", "options": {"layer": [1]}}])  # fmt: skip
    with pytest.raises(SpecError, match=r"student.ensemble.others.0.options.layer"):
        check_task(path)
    assert not list((tmp_path / "runs").glob("store/t*-*"))


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"family": "static", "ensemble": {"num_members": 1}}, "at least two members"),
        ({"family": "auto", "ensemble": {}}, "an ensemble needs a family"),
        ({"family": "static", "ensemble": {"average": "answers"}}, "average"),
        ({"family": "static", "ensemble": {"others": [{"family": "auto"}]}}, "family of its own"),
    ],
)
def test_settings_that_are_no_ensemble(
    student: Any, message: str, teacher_folder: Path, tmp_path: Path
) -> None:
    path = small_task.write_task(tmp_path, teacher_folder, student=student)
    with pytest.raises(EdgeDistillError, match=message) as caught:
        load_task(path)
    assert "task.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("ensemble", "times"),
    [({"num_members": 3}, 4), ({"num_members": 3, "ships": "ensemble"}, 3),
     ({"num_members": 1, "others": [OTHER]}, 2 + 8)],
)  # fmt: skip
def test_check_foresees_every_member(
    ensemble: Any, times: float, teacher_folder: Path, tmp_path: Path
) -> None:
    seconds = check_task(write(tmp_path, teacher_folder, **ensemble)).forecast.seconds
    assert seconds["students"] / seconds["transfer"] == pytest.approx(times)
