"""Passes and training for INT4 that a task file names, from the file to the bundle."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

import small_task
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.runtime.loading import load

PASSES = ["int4_tables", "group_int4"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> RunResult:
    """The small task with a student that was trained on for four bits."""
    folder = tmp_path_factory.mktemp("named")
    task = small_task.write_task(
        folder, teacher_folder,
        student={
            "family": "static",
            "options": {"token_size": 32, "num_buckets": 256, "hidden_size": 256},
        },
        distillation={"augmentation": {"num_texts": 60}, "num_epochs": 4},
        compress={"artefact": PASSES, "quantisation_aware": {"num_epochs": 2}},
        requirements={"retention": 0.5},
    )  # fmt: skip
    return run_task(task, runs_dir=folder / "runs")


def test_the_bundle_is_the_file_that_was_asked_for(result: RunResult) -> None:
    report = json.loads((result.folder / "report.json").read_text())
    (kept,) = (p for p in report["passes"] if p["kept"])
    assert kept["name"] == "quantisation_aware + int4_tables + group_int4"
    assert kept["reason"] == "named in the task file"
    assert kept["size_after_bytes"] < kept["size_before_bytes"]
    kinds = {node.op_type for node in onnx.load(result.bundle / "model.onnx").graph.node}
    assert {"GatherBlockQuantized", "MatMulNBits"} <= kinds
    (answer,) = load(result.bundle).predict(["where is my order"])
    assert answer.answer or answer.abstained


def test_the_file_holds_the_weights_that_were_trained(result: RunResult) -> None:
    (stage,) = (s for s in result.stages if s.name.startswith("artefact-static"))
    record = json.loads((stage.folder / "awareness.json").read_text())
    assert record["num_layers"] >= 1
    assert len(record["history"]) == 2
    # Training kept the epoch that is nearest to full precision, if any is nearer than none.
    assert record["best_score"] == max(entry["validation"] for entry in record["history"])


def test_the_task_that_was_run_is_told(result: RunResult) -> None:
    manifest = json.loads((result.bundle / "manifest.json").read_text())
    assert "quantisation_aware + int4_tables + group_int4" in json.dumps(manifest)
