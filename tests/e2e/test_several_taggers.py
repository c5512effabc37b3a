"""Several teachers of a tagger: mixed token by token, left out where they fail."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedistill
import small_extraction
from edgedistill.core.errors import SpecError
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import RunResult, run_task

TRAINED = {"num_epochs": 8, "learning_rate": 0.003, "batch_size": 16}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> RunResult:
    """Two further teachers, of which one is not there."""
    folder = tmp_path_factory.mktemp("several")
    shutil.copytree(teacher_folder, folder / "other")
    task = small_extraction.write_task(
        folder, teacher_folder, requirements={"retention": 0.5},
        teachers=[
            {"source": "folder:missing"},
            {"source": "folder:other", **TRAINED, "weight": 0.5},
        ],
        distillation={
            "mixture": {"weighting": "quality"}, "num_epochs": 3, "augmentation": {"num_texts": 80},
        },
    )  # fmt: skip
    return run_task(task, runs_dir=folder / "runs")


def stage(result: RunResult, name: str) -> Path:
    (found,) = [each.folder for each in result.stages if each.name == name]
    return found


def test_a_mixture_runs_to_a_bundle_and_failures_are_told(result: RunResult) -> None:
    (answer,) = edgedistill.load(result.bundle).predict(["please send 7 parcel today"])
    assert answer.reason in (None, "out_of_bounds")
    missing, mixture = json.loads((result.folder / "report.json").read_text())["making"]["notes"]
    assert "Further teacher 1" in missing
    assert "no such model folder" in missing
    assert "answers of 2 teachers, quality weights" in mixture
    names = {each.name for each in result.stages}
    assert {"teacher", "teacher-other", "answers-other", "mixture"} <= names


def test_the_student_learns_the_mixture_of_each_token(result: RunResult) -> None:
    ours, first, second = (
        np.load(stage(result, name) / "logits.npy").astype(np.float64)
        for name in ("mixture", "transfer", "answers-other")
    )
    assert ours.shape == first.shape == second.shape
    told = json.loads((stage(result, "mixture") / "told.json").read_text())
    assert sum(told["shares"]) == pytest.approx(1.0)
    assert told["accuracies"][0] > 0.9
    # A static mixture of quality weights: one share for all tokens.
    p, q, mixed = (np.exp(x - x.max(1, keepdims=True)) for x in (first, second, ours))
    p, q, mixed = (x / x.sum(1, keepdims=True) for x in (p, q, mixed))
    share = told["shares"][0]
    np.testing.assert_allclose(mixed, share * p + (1 - share) * q, atol=5e-3)
    inputs = json.loads((stage(result, "student-truncated") / "stage.json").read_text())["inputs"]
    (made,) = [each for each in result.stages if each.name == "mixture"]
    assert inputs["answers"] == made.fingerprint


def test_another_tokenizer_is_refused_before_any_work(tmp_path: Path, teacher_folder: Path) -> None:
    shutil.copytree(teacher_folder, tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    file.write_text(file.read_text().replace('"parcel"', '"parcels"'))
    path = small_extraction.write_task(
        tmp_path, teacher_folder, teachers=[{"source": "folder:other"}]
    )
    for refused in (check_task, lambda path: run_task(path, runs_dir=tmp_path / "runs")):
        with pytest.raises(SpecError, match="another tokenizer than the first") as caught:
            refused(path)
        assert "teachers.0.source" in str(caught.value)
    assert not list((tmp_path / "runs").glob("store/t*-*"))


def test_check_warns_of_what_is_missing_and_foresees_the_others(
    tmp_path: Path, teacher_folder: Path
) -> None:
    alone = check_task(small_extraction.write_task(tmp_path / "a", teacher_folder))
    shutil.copytree(teacher_folder, tmp_path / "b" / "other")
    more = [{"source": "folder:missing"}, {"source": "folder:other", **TRAINED, "num_epochs": 20}]
    path = small_extraction.write_task(tmp_path / "b", teacher_folder, teachers=more)
    checked = check_task(path)
    assert "Further teacher 1" in checked.warnings[0]
    seconds = checked.forecast.seconds
    own = seconds["teacher"] + seconds["transfer"]
    assert seconds["further teachers"] == pytest.approx(own)
    assert "further teachers" not in alone.forecast.seconds
    assert checked.forecast.disk_bytes > alone.forecast.disk_bytes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teachers": [{"source": "hub:a/b", "weight": 0}]}, "weights of the teachers are all 0"),
        ({}, "nothing to mix"),
        ({"teachers": [{"source": "hub:a/b", "num_epochs": 0}]}, "greater than or equal to 1"),
        ({"teachers": [{"source": "hub:a/b", "labels": {}}]}, "labels"),
    ],
)
def test_settings_that_contradict_each_other(changes: Any, message: str) -> None:
    files = dict.fromkeys(("train", "validation", "test"), "a.jsonl")
    value = {
        "name": "x", "kind": "extraction", "data": {"files": files},
        "teacher": {"source": "hub:a/b"}, "output": {"fields": [{"name": "x"}]},
        "distillation": {"mixture": {"first_weight": 0}},
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        ExtractionSpec.model_validate(value | changes)
