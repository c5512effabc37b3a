"""`edgedistill compress --auto`: a fine-tuned classifier under the best sequence that is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

import small_classifier
import small_task
from edgedistill.core.errors import BudgetExceeded, SpecError
from edgedistill.core.events import Event
from edgedistill.core.task_file import load_task
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.compression import compress_model
from edgedistill.pipeline.foresight import CheckResult
from edgedistill.pipeline.run import RunResult

#: Enough for the first trials; how many, the machine decides.
MINUTES = 0.8


class Stopped(Exception):
    """Somebody pulled the plug."""


class Searched(NamedTuple):
    """A finished search: its task, what was told before it was killed and after, the run."""

    model: Path
    task: Path
    before: list[Event]
    after: list[Event]
    result: RunResult


def write_task(folder: Path, model: Path, **compress: Any) -> Path:
    """A task whose whole training has two epochs, so that trials have one."""
    return small_task.write_task(
        folder, model, student={}, compress={"recipes": ["fast"], **compress},
        distillation={"augmentation": {"num_texts": 60}, "num_epochs": 2},
    )  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Searched:
    """Killed amid its trials, then finished."""
    folder = tmp_path_factory.mktemp("auto")
    model = small_classifier.write_classifier(folder / "model", teacher_folder)
    task = write_task(folder, model, search={"minutes": MINUTES})
    before, after = list[Event](), list[Event]()

    def stop(event: Event) -> None:
        before.append(event)
        if event.stage == "search" and event.message.startswith("trial 1 "):
            raise Stopped

    with pytest.raises(Stopped):
        compress_model(str(model), task, max_mb=0.4, runs_dir=folder / "runs", listener=stop)
    result = compress_model(
        str(model), task, max_mb=0.4, runs_dir=folder / "runs", listener=after.append
    )
    return Searched(model, task, before, after, result)


def content(result: RunResult) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((result.folder / "report.json").read_text())
    return found


def trained(events: list[Event]) -> list[str]:
    """Students whose training began."""
    return [e.stage for e in events if e.kind == "started" and e.stage.startswith("student-")]


def test_a_bundle_comes_of_it_and_the_report_has_every_trial(searched: Searched) -> None:
    assert searched.result.ships, searched.result.summary()
    told = content(searched.result)
    names = [each["name"] for each in told["candidates"]]
    assert len(names) == len(set(names))
    assert "fast" in names
    assert sum(each["chosen"] for each in told["candidates"]) == 1
    # The whole of what was proposed is accounted for, whether there was time for it or not.
    skipped = [why for _, why in told["skipped"]]
    assert all("no time left" in why or "would take" in why for why in skipped)
    # Twelve that are tried, and the whole model, which needs no trial.
    assert 0 < len(names) + len(skipped) <= 13
    assert "whole" in [*names, *(name for name, _ in told["skipped"])]


def test_a_killed_search_repeats_no_trial(searched: Searched) -> None:
    made = {e.stage for e in searched.before if e.kind == "finished"}
    reused = {e.stage for e in searched.after if e.kind == "reused"}
    assert {"sensitivity", "student-fast", "artefact-fast"} <= made <= reused
    # Of the rest each is trained once as a trial, and once more where it went on.
    again = trained(searched.after)
    finalists = [name for name in again if again.count(name) > 1]
    assert again.count("student-fast") <= 1
    assert all(again.count(name) == 2 for name in finalists)


def test_the_whole_model_is_not_trained(searched: Searched) -> None:
    (folder,) = {s.folder for s in searched.result.stages if s.name == "student-whole"}
    record = json.loads((folder / "training.json").read_text())
    assert record["history"] == []
    assert [a["pass"]["name"] for a in record["accounts"] if a["pass"]] == ["prune_vocabulary"]


def test_again_reuses_everything(searched: Searched) -> None:
    told = list[Event]()
    again = compress_model(
        str(searched.model), searched.task, max_mb=0.4,
        runs_dir=searched.result.folder.parent, listener=told.append,
    )  # fmt: skip
    assert again.num_reused == len(again.stages)
    assert not trained(told)


def checked(searched: Searched, **requirements: float) -> CheckResult:
    """The same task without the command."""
    values = yaml.safe_load(searched.task.read_text())
    values["teacher"] = {"source": f"folder:{searched.model}", "num_epochs": 0}
    values["requirements"] |= requirements
    del values["student"]
    task = searched.task.with_name("checked.yaml")
    task.write_text(yaml.safe_dump(values))
    return check_task(task)


def test_check_forecasts_the_search(searched: Searched) -> None:
    assert 0 < checked(searched).forecast.seconds["trying sequences"] <= 60 * MINUTES


def test_a_size_that_no_sequence_reaches_is_refused_with_the_smallest(searched: Searched) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        checked(searched, size_mb=0.001)
    assert caught.value.where == "requirements.size_mb"
    # Not only the recipe: what the search might find, too.
    assert "fast about" in caught.value.what
    assert "layers-50-heads-50-neurons-75 about" in caught.value.what


@pytest.mark.parametrize(
    ("compress", "words"),
    [
        ({"search": {}, "passes": ["drop_layers"]}, "leave out passes, or search"),
        ({"search": {"minutes": 0}}, "greater than 0"),
        ({"search": {"share": 1.0}}, "less than 1"),
        ("automatic", "recipes"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(
    tmp_path: Path, teacher_folder: Path, compress: Any, words: str
) -> None:
    task = small_task.write_task(tmp_path, teacher_folder)
    values = yaml.safe_load(task.read_text())
    task.write_text(yaml.safe_dump(values | {"student": {}, "compress": compress}))
    with pytest.raises(SpecError, match=words):
        load_task(task)
