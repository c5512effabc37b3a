"""`strategy: auto` from the task file to a report that shows the evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import small_task
from edgedistill.core.errors import EdgeDistillError, MissingSignal, SpecError
from edgedistill.core.events import Event
from edgedistill.core.task import TaskSpec
from edgedistill.core.task_file import load_task
from edgedistill.evaluate.report.content import ReportContent
from edgedistill.evaluate.report.html import render_html
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.pipeline.search import candidates_of
from edgedistill.pipeline.stages import trials

STUDENT = {"family": "truncated", "options": {"layers": [1], "num_heads": 2}}
AUTO = {"strategy": "auto", "num_epochs": 3, "augmentation": {"num_texts": 60}}


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> RunResult:
    """A run that is killed in its fifth trial, and goes on."""
    folder = tmp_path_factory.mktemp("auto")
    task = small_task.write_task(
        folder, teacher_folder, student=STUDENT, distillation=AUTO,
        requirements={"retention": 0.5},
    )  # fmt: skip
    began: list[str] = []

    def stop(event: Event) -> None:
        if event.kind == "started" and event.stage.startswith("trial-"):
            began.append(event.stage)
            if len(began) == 5:
                raise Killed

    with pytest.raises(Killed):
        run_task(task, runs_dir=folder / "runs", listener=stop)
    return run_task(task, runs_dir=folder / "runs")


def report_of(result: RunResult) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((result.folder / "report.json").read_text())
    return value


def test_the_table_of_everything_tried_is_in_the_report(result: RunResult) -> None:
    tried = report_of(result)["strategies"]
    rungs = [(t["name"], t["num_epochs"]) for t in tried["trials"]]
    assert len(set(rungs)) == len(rungs)
    first = [name for name, epochs in rungs if epochs == 1]
    assert first[0] == "response"
    assert {"feature", "attention", "relation", "consistency", "average", "labels"} <= set(first)
    # One layer has no shallower one to teach.
    assert "shallow" in dict(tried["left_out"])
    assert [epochs for name, epochs in rungs if name == "response"] == [1, 3]
    assert {t["num_texts"] for t in tried["trials"]} == {180}
    assert all(t["seconds"] > 0 and 0 <= t["score"] <= 1 for t in tried["trials"])
    assert tried["num_ranking"] + tried["num_deciding"] == 60
    page = (result.folder / "report.html").read_text()
    assert "Strategies tried" in page
    assert tried["decision"].split(";")[0] in page
    assert "Strategies tried" in (result.folder / "report.md").read_text()


def test_what_was_tried_before_the_kill_is_not_tried_again(result: RunResult) -> None:
    trained = [stage for stage in result.stages if stage.name.startswith("trial-")]
    assert [stage.reused for stage in trained[:5]] == [True] * 4 + [False]
    assert not any(stage.reused for stage in trained[5:])
    # The answers of a short trial are kept, its weights are not.
    assert {file.name for file in trained[0].folder.iterdir()} >= {"scores.npy", "training.json"}
    assert not list(trained[0].folder.glob("*.safetensors"))


def test_the_chosen_student_is_the_one_that_naming_its_strategy_makes(result: RunResult) -> None:
    named = yaml.safe_load("{" + report_of(result)["strategies"]["settings"] + "}")
    path = result.folder.parents[1] / "task.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["distillation"] |= named
    task = path.with_name("named.yaml")
    task.write_text(yaml.safe_dump(spec))
    told: list[str] = []

    def stop(event: Event) -> None:
        if event.stage == "student-truncated":
            told.append(event.kind)
            raise Killed

    with pytest.raises(Killed):
        run_task(task, runs_dir=result.folder.parent, listener=stop)
    assert told == ["reused"]


def test_the_same_search_again_is_all_found(result: RunResult) -> None:
    before = report_of(result)
    again = run_task(result.folder.parents[1] / "task.yaml", runs_dir=result.folder.parent)
    assert again.num_reused == len(again.stages)
    assert report_of(again)["strategies"] == before["strategies"]


def test_every_told_setting_is_one_that_a_task_file_takes(
    tmp_path: Path, teacher_folder: Path
) -> None:
    student = {"family": "truncated", "options": {"layers": [0, 1]}}
    options, left_out = options_for(tmp_path, teacher_folder, student)
    assert len(options) == 13
    assert not left_out
    for option in options:
        told = yaml.safe_load("{" + option.told() + "}")
        task = small_task.write_task(tmp_path, teacher_folder, student=student, distillation=told)
        spec = load_task(task)
        assert isinstance(spec, TaskSpec)
        assert spec.distillation == spec.distillation.model_copy(update=option.changes())


def options_for(
    folder: Path, teacher_folder: Path, student: dict[str, Any], **changes: Any
) -> tuple[list[Any], list[tuple[str, str]]]:
    task = small_task.write_task(
        folder, teacher_folder, student=student, distillation=AUTO | changes
    )
    spec = load_task(task)
    assert isinstance(spec, TaskSpec)
    return trials.options_of(spec, candidates_of(spec)[0], teacher_folder)


def test_only_what_applies_is_tried(tmp_path: Path, teacher_folder: Path) -> None:
    options, left_out = options_for(
        tmp_path, teacher_folder, {"family": "static"}, curriculum={"parts": 2},
        generations=2, hard_weight=0.1,
    )  # fmt: skip
    names = [option.name for option in options]
    assert names == ["response", "consistency", "average", "squared logits", "decoupled"]
    told = dict(left_out)
    assert told["attention"] == "a static student has no attention maps to compare"
    assert told.keys() == {"feature", "attention", "relation", "shallow", "feature first"}


def test_check_forecasts_the_search_and_says_what_will_not_fit(
    tmp_path: Path, teacher_folder: Path
) -> None:
    task = small_task.write_task(tmp_path, teacher_folder, student=STUDENT, distillation=AUTO)
    found = check_task(task)
    assert 0 < found.forecast.seconds["trying strategies"] <= 24 * 60
    # It looks inside, so that too is forecast.
    assert found.forecast.internals_bytes > 0
    assert found.forecast.seconds["teacher's inside"] > 0
    tight = AUTO | {"search": {"minutes": 1e-5}}
    found = check_task(
        small_task.write_task(tmp_path, teacher_folder, student=STUDENT, distillation=tight)
    )
    assert found.forecast.seconds["trying strategies"] == pytest.approx(6e-4)
    assert any("it tries what fits" in warning for warning in found.warnings)
    named = small_task.write_task(tmp_path, teacher_folder, student=STUDENT)
    assert "trying strategies" not in check_task(named).forecast.seconds


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"student": {"family": "auto"}}, SpecError, "needs a student.family"),
        ({"student": {"family": "linear"}}, MissingSignal, "no strategy applies"),
        ({"distillation": AUTO | {"balance": True}}, SpecError, "auto balances"),
        ({"distillation": {"search": {"share": 0.2}}}, SpecError, "without it leave search out"),
        ({"distillation": AUTO | {"search": {"share": 1.5}}}, SpecError, "search.share"),
        ({"distillation": {"strategy": ["auto"]}}, SpecError, "no strategy is called 'auto'"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    tmp_path: Path,
    teacher_folder: Path,
    changes: dict[str, Any],
    error: type[EdgeDistillError],
    told: str,
) -> None:
    given = {"student": STUDENT, "distillation": AUTO} | changes
    task = small_task.write_task(tmp_path, teacher_folder, **given)
    with pytest.raises(error, match=told):
        check_task(task)
    with pytest.raises(error, match=told):
        run_task(task, runs_dir=tmp_path / "runs")
    assert not list((tmp_path / "runs").glob("store/*"))


def test_too_few_validation_rows_are_refused(tmp_path: Path, teacher_folder: Path) -> None:
    task = small_task.write_task(tmp_path, teacher_folder, student=STUDENT, distillation=AUTO)
    small_task.write_rows(tmp_path / "validation.jsonl", small_task.rows(6, 2))
    with pytest.raises(EdgeDistillError, match="18 are too few"):
        check_task(task)


def test_the_page_survives_json(result: RunResult) -> None:
    content = ReportContent.from_json(report_of(result))
    assert content.as_json() == report_of(result)
    assert "Ahead of response" in render_html(content)
