"""Fields and a label of the whole text in one pass, from a task file to a verified bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

import edgedistill
import small_extraction
from edgedistill.cli.app import app
from edgedistill.core.errors import DataError
from edgedistill.evaluate.intervals import retention_interval
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.runtime.extraction.extractor import Extractor
from edgedistill.runtime.session import Session
from small_task import write_rows

OUTPUT = {"labels": [{"name": "intent"}], "fields": small_extraction.FIELDS}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    heads = {"balance": True, "label_weights": {"intent": 0.5}}
    requirements = {"retention": 0.5}
    return small_extraction.write_task(
        folder, teacher_folder, output=OUTPUT, heads=heads, requirements=requirements
    )


@pytest.fixture(scope="module")
def run(task: Path) -> RunResult:
    """The small task, run from nothing (about 20 s on one core)."""
    return run_task(task, runs_dir=task.parent / "runs")


def test_both_heads_learn_and_both_are_judged(run: RunResult) -> None:
    assert run.ships, run.reasons
    accuracy = run.measurements["label_accuracy"]
    assert accuracy["teacher"]["intent"] > 0.9
    assert accuracy["shipped"]["intent"] > 0.9
    assert run.measurements["span_f1"]["shipped"] > 0.8
    page = (run.folder / "report.md").read_text(encoding="utf-8")
    assert "retention of intent" in page
    assert "Labels of the whole text" in page
    assert "factors of their losses: fields × 1, intent × 0.5, each divided by" in page
    report = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    judged = {one["requirement"]: one for one in report["requirements"]}
    assert judged["retention of intent"]["holds"]
    assert judged["retention of intent"]["bound"] != judged["retention"]["bound"]
    stations = ["teacher", "student", "exported", "compressed", "run from the bundle"]
    assert [hop["name"] for hop in report["ledger"]] == [
        *stations, *(f"intent, {name}" for name in stations),
    ]  # fmt: skip
    (label,) = report["labels"]
    assert label["num_values"] == 6
    assert label["shipped"]["value"] == pytest.approx(accuracy["shipped"]["intent"])


def test_figures_can_be_computed_again(run: RunResult) -> None:
    found = np.load(run.answers)
    right = {name: found[f"{name}.labels"][:, 0] for name in ("shipped", "teacher", "control")}
    for name, told in right.items():
        assert told.mean() == pytest.approx(run.measurements["label_accuracy"][name]["intent"])
    kept = retention_interval(right["teacher"], right["shipped"])
    assert kept.as_json() == run.measurements["label_retention"]["intent"]
    counts = found["shipped"]
    whole = (counts == counts[:, :1]).all(axis=1) & right["shipped"]
    assert whole.mean() == pytest.approx(run.measurements["whole_records"]["shipped"])


def test_records_have_the_label_with_its_confidence(run: RunResult) -> None:
    extractor = edgedistill.load(run.bundle)
    assert isinstance(extractor, Extractor)
    rows = small_extraction.rows(260, 1)[210:]
    schema = extractor.manifest.extraction["schema"]
    assert schema["properties"]["intent"]["enum"] == sorted(small_extraction.INTENTS)
    answered = num_right = 0
    for row, answer in zip(rows, extractor.predict([r["text"] for r in rows]), strict=True):
        if answer.record is None:
            continue
        jsonschema.validate(answer.record, schema)
        (label,) = answer.labels
        assert next(iter(answer.record)) == label.name == "intent"
        assert answer.record["intent"] == label.value
        assert answer.confidence is not None
        assert 0 < answer.confidence <= label.confidence <= 1
        answered += 1
        num_right += label.value == row["intent"]
    assert num_right > 0.9 * answered > 30


def test_one_graph_gives_everything_in_one_run(run: RunResult) -> None:
    session = Session((run.bundle / "model.onnx").read_bytes())
    ids = np.array([[2, 7, 9, 3]], np.int64)
    logits, features, labels = session.run_all(ids, np.ones_like(ids))
    assert (logits.shape, labels.shape) == ((1, 4, 7), (1, 6))
    plain = session.run(ids, np.ones_like(ids))
    assert np.array_equal(plain[0], logits)
    assert np.array_equal(plain[1], features)


def test_commands_know_the_label(task: Path, run: RunResult, tmp_path: Path) -> None:
    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "label 'intent': 6 values" in call("check", str(task))
    assert "as recorded" in call("verify", str(run.bundle))
    texts = [row["text"] for row in small_extraction.rows(6, 1)]
    told = [json.loads(call("predict", str(run.bundle), text, "--json")) for text in texts]
    answered = [one for one in told if not one["abstained"]]
    assert answered
    for one in answered:
        assert one["record"]["intent"] == one["labels"][0]["value"]
    rows = [{"text": row["text"]} for row in small_extraction.rows(30, 4)]
    write_rows(tmp_path / "rows.jsonl", rows)
    files = (str(run.bundle), str(run.archive), "--on", str(tmp_path / "rows.jsonl"))
    assert json.loads(call("compare", *files, "--json"))["sides"][1]["agreement"] == 1.0


@pytest.mark.parametrize(
    ("intent", "message"),
    [
        ("sned", "'intent' is 'sned', no value of the label; did you mean 'send'?"),
        ("", "'intent' is empty"),
        (None, "'intent' is null"),
        (3, "'intent' is not a text"),
    ],
)
def test_rows_with_a_wrong_label_are_told_before_any_work(
    task: Path, tmp_path: Path, intent: object, message: str
) -> None:
    shutil.copytree(task.parent, tmp_path / "broken", ignore=shutil.ignore_patterns("runs"))
    rows = small_extraction.rows(3, 9)
    write_rows(tmp_path / "broken" / "test.jsonl", [*rows, {**rows[0], "intent": intent}])
    with pytest.raises(DataError) as caught:
        check_task(tmp_path / "broken" / "task.yaml")
    assert "test.jsonl:4: " in str(caught.value)
    assert message in str(caught.value)


def test_a_label_of_one_value_or_without_a_column_is_told(task: Path, tmp_path: Path) -> None:
    shutil.copytree(task.parent, tmp_path / "broken", ignore=shutil.ignore_patterns("runs"))
    path = tmp_path / "broken" / "task.yaml"
    rows = small_extraction.rows(8, 9)
    write_rows(path.with_name("train.jsonl"), [{**row, "intent": "send"} for row in rows])
    with pytest.raises(DataError, match=r"every row has the intent 'send'"):
        check_task(path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("- name: intent", "- name: intent\n    column: purpose"))
    with pytest.raises(DataError, match=r"'purpose'[^→]*→ .*output\.labels\.0\.column"):
        check_task(path)
