"""Every task file that the project carries is valid, and the files it names are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import edgedistill
from edgedistill.cli.app import app
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.core.task_file import load_task
from edgedistill.data.loading import load_dataset
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.search import candidates_of
from edgedistill.pipeline.stages.dataset import task_files

PROJECT = Path(edgedistill.__file__).parents[2]
EXAMPLES = sorted((PROJECT / "examples").glob("*/task.yaml"))


def require_usable(task: Path) -> None:
    """Valid, all its files present, its rows readable, its students known."""
    spec = load_task(task)
    if isinstance(spec, GenerationSpec | ExtractionSpec):
        assert check_task(task).inspection.num_rows["test"] > 0
        return
    files = task_files(task.parent, spec)
    assert files
    assert [file for file in files if not file.is_file()] == []
    dataset = load_dataset(spec, root=task.parent)
    assert len(dataset.labels) >= 2
    assert min(len(rows) for rows in (dataset.train, dataset.validation, dataset.test)) > 0
    assert candidates_of(spec)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("task", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_is_usable(task: Path) -> None:
    require_usable(task)


@pytest.mark.parametrize("name", ["my-task", "My Task", "_x", "été", "…", "x" * 80])
def test_a_new_task_is_usable(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(app, ["init", str(tmp_path / name)], catch_exceptions=False)
    assert result.exit_code == 0
    require_usable(tmp_path / name / "task.yaml")


def test_a_new_task_reads_fields_where_it_is_asked_to(tmp_path: Path) -> None:
    task = tmp_path / "bookings" / "task.yaml"
    arguments = ["init", str(task.parent), "--kind", "extraction"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    checked = check_task(task)
    assert checked.spec.kind == "extraction"
    # Every span of its rows has a value.
    assert not [told for severity, told in checked.inspection.findings() if severity == "warning"]


def test_a_new_task_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["init", str(tmp_path / "new"), "--kind", "generation"])
    assert result.exit_code == 2
    assert "'extraction'" in result.output
    assert not (tmp_path / "new").exists()
