"""The guide on extraction is followed: its rows are read by its task, and what it shows of a
bundle is what one says. Not followed: `run`, which `test_extraction.py` does."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import edgedistill
from edgedistill.cli.app import app
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.extraction.dataset import fields_of
from small_extractor import FIELDS, make_bundle

PROJECT = Path(edgedistill.__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def blocks() -> dict[str, list[str]]:
    """Contents of the guide's blocks by language."""
    page = PROJECT / "docs" / "how-to" / "extract-fields.md"
    found: dict[str, list[str]] = {}
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        found.setdefault(language, []).append(text)
    return found


def test_its_rows_are_read_by_its_task(
    blocks: dict[str, list[str]], tmp_path: Path, teacher_folder: Path
) -> None:
    rows, (text, *more, _, _) = blocks["json"][0], blocks["yaml"]
    assert len(rows.splitlines()) == 3
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text(rows, encoding="utf-8")
    task = yaml.safe_load(text)
    assert len(more) == 2
    for fragment in map(yaml.safe_load, more):
        fragment["distillation"] |= task.get("distillation", {})
        task |= fragment
    task["teacher"]["source"] = f"folder:{teacher_folder}"
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    result = check_task(tmp_path / "task.yaml")
    assert "Further teacher 1" in result.warnings[0]
    assert isinstance(result.spec, ExtractionSpec)
    assert result.inspection.no_value == {}
    assert result.inspection.num_spans["train"] == {"total": 3, "due": 1, "status": 1, "item": 3}
    # The bundle that the other test asks has the fields of this task.
    assert [f.as_json() for f in fields_of(result.spec)] == [f.as_json() for f in FIELDS]


def test_its_label_is_read_by_its_task(
    blocks: dict[str, list[str]], tmp_path: Path, teacher_folder: Path
) -> None:
    (_, rows), (text, *_, more, _) = blocks["json"], blocks["yaml"]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text(rows, encoding="utf-8")
    task, added = yaml.safe_load(text), yaml.safe_load(more)
    task["teacher"]["source"] = f"folder:{teacher_folder}"
    task["output"]["labels"], task["heads"] = added["output"]["labels"], added["heads"]
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    result = check_task(tmp_path / "task.yaml")
    assert result.inspection.no_value == {}
    assert result.inspection.num_labelled == {"kind": {"invoice": 1, "reminder": 2}}


def test_its_tagger_may_be_compressed_itself(
    blocks: dict[str, list[str]], tmp_path: Path, teacher_folder: Path
) -> None:
    rows, (text, *_, more) = blocks["json"][0], blocks["yaml"]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text(rows, encoding="utf-8")
    task = yaml.safe_load(text) | yaml.safe_load(more)
    task["teacher"]["source"] = f"folder:{teacher_folder}"
    del task["student"]
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    spec = check_task(tmp_path / "task.yaml").spec
    assert isinstance(spec, ExtractionSpec)
    assert spec.compress is not None
    assert spec.compress.recipes == ("small",)


def test_its_commands_and_its_program_run(
    blocks: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    make_bundle(tmp_path / "runs" / "invoices" / "bundle")
    monkeypatch.chdir(tmp_path)
    shown = blocks["text"][0].strip()
    num_run = 0
    for line in "".join(blocks["sh"]).splitlines():
        command = shlex.split(line)
        if command[1] in ("check", "run"):
            continue
        done = CliRunner().invoke(app, command[1:], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert shown in done.stdout or command[1] != "predict"
        num_run += 1
    assert num_run == 2
    (program,) = blocks["python"]
    exec(compile(program, "extract-fields.md", "exec"), {})
    said = capsys.readouterr().out
    assert str(json.loads(shown)) in said
    assert "due 5 March 2024 (44, 56) 2024-03-05" in said
