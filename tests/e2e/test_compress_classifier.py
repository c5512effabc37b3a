"""`compress`: a stock classifier of transformers, without a smaller student, to its bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from transformers import BertForSequenceClassification

import small_classifier
import small_task
from edgedistill.cli.app import main
from edgedistill.core.errors import CannotApply, ModelError
from edgedistill.core.events import Event
from edgedistill.models.teachers.encoder import fine_tuned_classifier
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.compression import compress_model
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.runtime.loading import load

PASSES = [
    "prune_vocabulary",
    {"name": "drop_layers", "share": 0.34},
    {"name": "prune_encoder", "share": 0.5, "rounds": 2},
    {"name": "factorise_embeddings", "rank": 0.5},
    "weight_int8",
]


class Stopped(Exception):
    """Somebody pulled the plug."""


class Compressed(NamedTuple):
    """A run of the command, its task file and the model."""

    model: Path
    task: Path
    result: RunResult


def task_of(folder: Path, model: Path, **changes: Any) -> Path:
    return small_task.write_task(
        folder, model, student={}, compress={"passes": PASSES},
        distillation={"augmentation": {"num_texts": 60}, "num_epochs": 2},
        **changes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("stock") / "model"
    # Wide enough for half of it to be worth a pass on the file.
    return small_classifier.write_classifier(folder, teacher_folder, intermediate_size=320)


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Compressed:
    task = task_of(tmp_path_factory.mktemp("compress"), model)
    spec = yaml.safe_load(task.read_text())
    # The command brings the model and leaves out the student, whatever the file says of them.
    spec["teacher"], spec["student"] = {"source": "folder:nowhere"}, {"family": "static"}
    task.write_text(yaml.safe_dump(spec))
    runs = task.parent / "runs"

    def stop(event: Event) -> None:
        if "round 1 of 2" in event.stage and event.kind == "progress":
            raise Stopped

    with pytest.raises(Stopped):
        compress_model(str(model), task, max_mb=0.2, runs_dir=runs, listener=stop)
    result = compress_model(str(model), task, max_mb=0.2, max_p95_ms=50, runs_dir=runs)
    return Compressed(model, task, result)


def report(result: RunResult) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((result.folder / "report.json").read_text())
    return content


def test_ends_in_a_bundle_that_says_what_the_model_said(compressed: Compressed) -> None:
    result = compressed.result
    assert result.ships, result.summary()
    assert result.folder.name == "small-compressed"
    answers = np.load(result.answers)
    assert (answers["teacher"] == answers["targets"]).mean() > 0.8
    assert (answers["shipped"] == answers["teacher"]).mean() > 0.8
    (answer,) = load(result.bundle).predict(["please stop cancel it now"])
    assert answer.label in (None, "cancel")
    model = BertForSequenceClassification.from_pretrained(compressed.model)
    whole = sum(p.numel() * p.element_size() for p in model.parameters())
    assert (result.bundle / "model.onnx").stat().st_size < whole


def test_the_report_lists_what_each_pass_took_away(compressed: Compressed) -> None:
    content = report(compressed.result)
    rows = content["removal"]
    names = [row["name"] for row in rows]
    assert names == ["", "prune_vocabulary", "drop_layers", "prune_encoder", "prune_encoder",
                     "factorise_embeddings"]  # fmt: skip
    sizes = [row["parameters"] for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    layers = [row["layer_parameters"] for row in rows]
    assert layers[2] * 3 == layers[0] * 2
    # Two rounds of a quarter each, to within half a head.
    assert layers[4] == pytest.approx(layers[2] / 2, abs=8 * 4 * 33)
    assert all(row["size_bytes"] > 4 * row["parameters"] and row["p50_ms"] > 0 for row in rows)
    page = (compressed.result.folder / "report.md").read_text()
    assert "What was removed" in page
    assert "removed in 2 rounds" in page
    # The named passes against none, and no others.
    assert [each["name"] for each in content["passes"]] == ["full precision", "weight_int8"]
    assert sum(each["kept"] for each in content["passes"]) == 1
    assert [each["name"] for each in content["candidates"]] == ["own-passes"]


def test_again_reuses_everything(compressed: Compressed) -> None:
    told: list[Event] = []
    again = compress_model(
        str(compressed.model), compressed.task, max_mb=0.2, max_p95_ms=50,
        runs_dir=compressed.result.folder.parent, listener=told.append,
    )  # fmt: skip
    assert again.num_reused == len(again.stages)
    assert not [event for event in told if event.kind == "started"]


def test_check_says_what_a_run_would_take(
    compressed: Compressed, tmp_path: Path, model: Path
) -> None:
    teacher = {"source": f"folder:{model}", "num_epochs": 0}
    found = check_task(task_of(tmp_path, model, teacher=teacher))
    assert found.forecast.seconds["students"] > 0


def test_what_cannot_be_compressed_ends_in_words(
    compressed: Compressed, tmp_path: Path, model: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def call(*arguments: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["edgedistill", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        told = capsys.readouterr().err
        assert "Traceback" not in told
        return caught.value.code, told

    task, runs = compressed.task, tmp_path / "runs"
    code, told = call("compress", tmp_path / "none", "--task", task, "--runs-dir", runs)
    assert (code, "no such model folder" in told) == (4, True)
    code, told = call("compress", model, "--task", task, "--recipe", "tiny", "--runs-dir", runs)
    assert (code, "one of: small, fast, balanced" in told) == (2, True)
    other = tmp_path / "other"
    other.mkdir()
    config = json.loads((model / "config.json").read_text())
    for name in ("model.safetensors", "tokenizer.json"):
        (other / name).write_bytes((model / name).read_bytes())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "albert"}))
    code, told = call("compress", other, "--task", task, "--runs-dir", runs)
    assert (code, "share their weights" in told) == (4, True)
    assert not list(runs.rglob("teacher-*"))


def test_label_names_of_another_task_are_refused(model: Path) -> None:
    with pytest.raises(ModelError, match="labels are not those of the task"):
        fine_tuned_classifier(model, ("a", "b", "c"))


def test_a_pass_on_the_file_that_finds_nothing_is_told_by_its_place(
    compressed: Compressed, tmp_path: Path
) -> None:
    # What is left of its vocabulary is too small a table.
    task = small_task.write_task(
        tmp_path / "small", compressed.model, student={},
        compress={"passes": ["prune_vocabulary", "int8_tables"]},
        distillation={"augmentation": {"num_texts": 60}, "num_epochs": 1},
    )  # fmt: skip
    with pytest.raises(CannotApply, match="int8_tables: the model has no tables") as caught:
        run_task(task, runs_dir=tmp_path / "runs")
    assert caught.value.where == "compress.passes.1"
