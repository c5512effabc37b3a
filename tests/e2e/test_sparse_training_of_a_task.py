"""Training with weights left out that a task file asks for, of a classifier and of a tagger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import small_extraction
import small_tagger
import small_task
from edgedistill.core.events import Event
from edgedistill.pipeline.compression import compress_model
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.runtime.loading import load

WIDE = {
    "family": "static", "options": {"token_size": 32, "num_buckets": 256, "hidden_size": 256},
}  # fmt: skip


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> RunResult:
    """The small task with two of every four weights left out by movement."""
    folder = tmp_path_factory.mktemp("classifier")
    compress = {
        "artefact": ["int8_tables", "sparse_two_of_four"],
        "sparse_training": {"by": "movement", "num_epochs": 4, "learning_rate": 1e-3},
    }  # fmt: skip
    task = small_task.write_task(
        folder, teacher_folder, student=WIDE, compress=compress,
        distillation={"augmentation": {"num_texts": 60}, "num_epochs": 4},
        requirements={"retention": 0.5},
    )  # fmt: skip
    return run_task(task, runs_dir=folder / "runs")


def test_what_ships_was_trained_to_be_nearer_than_the_plain_pass(classifier: RunResult) -> None:
    report: dict[str, Any] = json.loads((classifier.folder / "report.json").read_text())
    (kept,) = (p for p in report["passes"] if p["kept"])
    assert kept["name"] == "sparse_training + int8_tables + sparse_two_of_four"
    stage = next(s for s in classifier.stages if s.name.startswith("artefact-"))
    assert_nearer(stage.folder)
    assert load(classifier.bundle).predict(["where is my order"])


def assert_nearer(folder: Path) -> None:
    """Scores are minus the divergence from full precision on validation."""
    record = json.loads((folder / "awareness.json").read_text())
    assert record["num_layers"] >= 1
    assert record["before"] < record["best_score"] < 0


def test_the_file_holds_two_of_every_four(classifier: RunResult) -> None:
    graph = onnx.load(classifier.bundle / "model.onnx").graph
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    kept = [values for name, values in stored.items() if name.endswith("/kept")]
    assert kept
    assert all(values.dtype == np.int8 and values.shape[1] == 2 for values in kept)


class Kept(Exception):
    """The file was made; what is measured of it afterwards is as of any other."""


def test_a_tagger_learns_to_do_without_half_of_its_weights(
    tmp_path: Path, teacher_folder: Path
) -> None:
    model = small_tagger.write_tagger(tmp_path / "model", teacher_folder)
    compress = {
        "passes": [{"name": "drop_layers", "share": 0.67}],
        "artefact": ["sparse_half"],
        "sparse_training": {"num_epochs": 2, "learning_rate": 1e-3},
    }  # fmt: skip
    task = small_extraction.write_task(
        tmp_path, Path("nowhere"), compress=compress,
        distillation={"augmentation": {"num_texts": 60}, "num_epochs": 2},
    )  # fmt: skip

    def stop(event: Event) -> None:
        if event.message == "sparse_training + sparse_half kept":
            raise Kept

    with pytest.raises(Kept):
        compress_model(str(model), task, runs_dir=tmp_path / "runs", listener=stop)
    (folder,) = (tmp_path / "runs" / "store").glob("artefact-*.partial")
    assert_nearer(folder)
    assert (folder / "sparse_half.onnx").stat().st_size < (folder / "aware.onnx").stat().st_size
