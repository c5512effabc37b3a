"""Rows of a JSON task: what breaks the schema is told by its place, and set aside where asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import small_generation
from edgedistill.cli.app import app
from edgedistill.core.errors import DataError
from edgedistill.pipeline.check import check_task

BAD = ('{"item":"gold","n":1}', "3 tea please", '{"item":"tea"}', '{"item":"tea","n":1,"x":2}')


def _with_bad_rows(folder: Path, *, split: str = "train", aside: bool = False) -> Path:
    files = {s: f"{s}.jsonl" for s in ("train", "validation", "test")}
    data = {"files": files, "on_malformed": "quarantine" if aside else "refuse"}
    task = small_generation.write_task(folder, data=data)
    rows = [{"prompt": f"bad {i}", "response": text} for i, text in enumerate(BAD)]
    small_generation.write_rows(folder / files[split], [*small_generation.rows(), *rows])
    return task


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_answers_that_break_the_schema_are_refused_with_their_lines(
    tmp_path: Path, split: str
) -> None:
    with pytest.raises(DataError) as refused:
        check_task(_with_bad_rows(tmp_path, split=split))
    said = str(refused.value)
    assert "4 malformed rows" in said
    for line, why in ((271, "item: 'gold'"), (272, "not JSON"), (273, "'n' is a required"),
                      (274, "'x'")):  # fmt: skip
        assert f"{split}.jsonl:{line}: the response breaks the task's schema" in said
        assert why in said


def test_a_quarantine_goes_on_and_says_which_rows(tmp_path: Path) -> None:
    result = check_task(_with_bad_rows(tmp_path, aside=True))
    assert result.inspection.num_rows["train"] == 270
    (told,) = [text for _, text in result.inspection.findings() if "set aside" in text]
    assert told.startswith("4 malformed rows of train set aside:\n  train.jsonl:271: the response")
    shown = CliRunner().invoke(app, ["check", str(tmp_path / "task.yaml")])
    assert shown.exit_code == 0, shown.output
    assert "train.jsonl:272" in shown.output


def test_an_edge_case_that_breaks_the_schema_is_refused(tmp_path: Path) -> None:
    boundary = {"edge_cases": "hard.jsonl"}
    task = small_generation.write_task(tmp_path, boundary=boundary)
    (tmp_path / "hard.jsonl").write_text(json.dumps({"prompt": "x", "response": "[]"}) + "\n")
    with pytest.raises(DataError, match=r"hard\.jsonl:1: the response breaks"):
        check_task(task)
