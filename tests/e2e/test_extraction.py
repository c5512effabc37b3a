"""Extraction from a task file to a verified bundle that fills records out without PyTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

import edgedistill
import small_extraction
from edgedistill.cli.app import app
from edgedistill.core.errors import DataError, ModelError, SpecError
from edgedistill.core.events import Event
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.extraction import transfer
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.runtime.extraction.extractor import Extractor
from small_task import write_rows


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Path:
    return small_extraction.write_task(tmp_path_factory.mktemp("orders"), teacher_folder)


@pytest.fixture(scope="module")
def run(task: Path) -> RunResult:
    """The small task, run from nothing (about 20 s on one core)."""
    return run_task(task, runs_dir=task.parent / "runs")


def test_the_run_ships_and_the_bundle_fills_records_out(run: RunResult) -> None:
    assert run.ships, run.reasons
    assert run.measurements["span_f1"]["teacher"] > 0.9
    extractor = edgedistill.load(run.bundle)
    assert isinstance(extractor, Extractor)
    rows = small_extraction.rows(260, 1)[210:]
    schema = extractor.manifest.extraction["schema"]
    num_right = 0
    for row, answer in zip(rows, extractor.predict([r["text"] for r in rows]), strict=True):
        if answer.record is None:
            assert answer.reason == "out_of_bounds"
            continue
        jsonschema.validate(answer.record, schema)
        expected = {(s["label"], s["start"], s["end"]) for s in row["spans"]}
        num_right += {(f.name, f.start, f.end) for f in answer.fields} == expected
    assert num_right > 35
    archive = edgedistill.load(run.archive)
    text = "please send 7 parcel today"
    assert archive.predict([text]) == extractor.predict([text])


def test_what_stands_in_the_measurements_can_be_computed_again(run: RunResult) -> None:
    counts = np.load(run.answers)
    assert set(counts.files) == {"shipped", "teacher", "control"}
    for model in counts.files:
        right, predicted, expected = counts[model].sum(axis=0)
        f1 = 2 * right / (predicted + expected)
        assert f1 == pytest.approx(run.measurements["span_f1"][model])


def test_the_report_tells_the_fields(run: RunResult) -> None:
    report = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    assert [hop["name"] for hop in report["ledger"]] == [
        "teacher", "student", "exported", "compressed", "run from the bundle",
    ]  # fmt: skip
    assert {m["role"] for m in report["quality"]["models"]} == {"teacher", "shipped", "undistilled"}
    assert [field["name"] for field in report["fields"]["fields"]] == ["item", "day", "count"]
    assert report["boundary"]["groups"]
    assert report["calibration"]["bins"]
    assert report["edge_cases"]["num_rows"] == 10
    assert dict(report["splits"]) == {
        "train": 160, "validation": 50, "test": 50, "unlabelled": 20, "edge cases": 10,
        "out of bounds, validation": 6, "out of bounds, test": 12, "transfer set": 380,
    }  # fmt: skip
    page = (run.folder / "report.md").read_text(encoding="utf-8")
    assert "Words that give a value" in page
    assert "span F1" in page


def test_the_report_shows_versions_side_by_side(run: RunResult) -> None:
    versions = json.loads((run.folder / "report.json").read_text())["versions"]
    full, *others = versions["rows"]
    (ships,) = (row for row in versions["rows"] if row["chosen"])
    assert versions["bytes_by_pass"][0] == ["full precision", full["size_bytes"]]
    assert versions["bytes_by_pass"][-1][1] == ships["size_bytes"] < full["size_bytes"]
    assert all(row["retention"]["low"] <= row["retention"]["high"] for row in others)
    assert "Original and versions" in (run.folder / "report.html").read_text()


def test_a_second_run_reuses_every_stage(task: Path, run: RunResult) -> None:
    again = run_task(task, runs_dir=run.folder.parent)
    assert again.num_reused == len(again.stages) > 6


def test_the_teacher_reads_on_where_a_killed_run_stopped(
    task: Path, run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = run.folder.parent.glob("store/transfer-*")
    shutil.copytree(
        run.folder.parent / "store", tmp_path / "store",
        ignore=shutil.ignore_patterns("transfer-*"),
    )  # fmt: skip
    monkeypatch.setattr(transfer, "PART", 100)
    read: list[float] = []

    def stop_after_two(event: Event) -> None:
        if event.stage == "transfer" and event.kind == "progress":
            read.append(event.fraction or 0.0)
            if len(read) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_task(task, runs_dir=tmp_path, listener=stop_after_two)
    run_task(task, runs_dir=tmp_path, listener=stop_after_two)
    assert len(read) == 4
    (after,) = tmp_path.glob("store/transfer-*")
    for name in transfer.ARRAYS:
        old, new = (np.load(folder / f"{name}.npy") for folder in (before, after))
        assert old.shape == new.shape
        assert np.allclose(old, new, atol=0.02)


def test_the_bundle_runs_without_the_factory(run: RunResult) -> None:
    code = (
        "import sys, edgedistill\n"
        "for name in ('torch', 'transformers', 'pydantic', 'yaml', 'scipy', 'sklearn'):\n"
        "    sys.modules[name] = None\n"
        f"found = edgedistill.load({str(run.bundle)!r}).predict(['please send 7 parcel today'])\n"
        "print(found[0].as_line())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip()


def test_commands(task: Path, run: RunResult) -> None:
    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    told = call("check", str(task))
    assert "a valid extraction task" in told
    assert "Forecast" in told
    assert json.loads(call("check", str(task), "--json"))["inspection"]["num_spans"]["train"]
    assert "as recorded" in call("verify", str(run.bundle))
    assert "Fields" in call("report", str(run.folder))
    assert "DocumentData" in call("schema", "--kind", "extraction")
    record = json.loads(call("predict", str(run.bundle), "where is my card for today", "--json"))
    assert {"record", "fields", "abstained", "reason", "confidence", "score"} <= record.keys()


def broken(task: Path, folder: Path, **row: object) -> Path:
    """The task with one more training row."""
    shutil.copytree(task.parent, folder, ignore=shutil.ignore_patterns("runs"))
    rows = small_extraction.rows(3, 9)
    write_rows(folder / "train.jsonl", [*rows, dict(row)])
    return folder / "task.yaml"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"text": "my parcel", "spans": [{"start": 3, "end": 6, "label": "item"}]},
            "the item 'par' begins or ends within the token 'parcel'",
        ),
        (
            {"text": "my card", "spans": [{"start": 0, "end": 7, "label": "item"},
                                          {"start": 3, "end": 7, "label": "item"}]},
            "spans overlap: item 'my card' and item 'card'",
        ),
        ({"text": "late " * 60, "spans": []}, "62 tokens, at most 48 (input.max_tokens)"),
        ({"text": "my card", "spans": [{"start": 3, "end": 7, "label": "itm"}]}, "'item'"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_tagged_are_told_before_any_work(
    task: Path, tmp_path: Path, row: dict[str, object], message: str
) -> None:
    path = broken(task, tmp_path / "broken", **row)
    for act in (check_task, lambda p: run_task(p, runs_dir=tmp_path / "runs")):
        with pytest.raises(DataError) as caught:
            act(path)
        assert "train.jsonl:4: " in str(caught.value)
        assert message in str(caught.value)


def test_malformed_rows_may_be_set_aside(task: Path, tmp_path: Path) -> None:
    span = {"start": 3, "end": 6, "label": "item"}
    path = broken(task, tmp_path / "broken", text="my parcel", spans=[span])
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("data:\n", "data:\n  on_malformed: quarantine\n"))
    findings = check_task(path).inspection.findings()
    assert any("1 malformed rows of train set aside" in sentence for _, sentence in findings)


def test_what_a_student_or_teacher_lacks_is_told(
    task: Path, tmp_path: Path, teacher_folder: Path
) -> None:
    def wrong(**changes: object) -> Path:
        return small_extraction.write_task(tmp_path / "wrong", teacher_folder, **changes)

    with pytest.raises(SpecError, match=r"student\.options\.layer: Extra inputs"):
        check_task(wrong(student={"options": {"layer": [0]}}))
    with pytest.raises(ModelError, match="no such model folder"):
        check_task(wrong(teacher={"source": "folder:nowhere"}))
