"""Memory and cold start in the task file: refused where impossible, judged where required."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from edgedistill.core.errors import SpecError
from edgedistill.core.files import read_json
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import run_task
from small_task import FinishedRun


def task_with(finished: FinishedRun, folder: Path, **requirements: float) -> Path:
    """The finished task's folder again, with further requirements."""
    shutil.copytree(finished.task.parent, folder, ignore=shutil.ignore_patterns("runs"))
    path = folder / finished.task.name
    spec = yaml.safe_load(path.read_text())
    # A run of its own, which shares what stands.
    spec |= {"name": "edge", "requirements": spec["requirements"] | requirements}
    path.write_text(yaml.safe_dump(spec))
    return path


@pytest.mark.parametrize(
    ("requirements", "key", "unit"),
    [({"memory_mb": 9}, "memory_mb", "MB"), ({"cold_start_ms": 2.5}, "cold_start_ms", "ms")],
)
def test_what_no_bundle_can_is_refused_with_its_line(
    finished_run: FinishedRun,
    tmp_path: Path,
    requirements: dict[str, float],
    key: str,
    unit: str,
) -> None:
    path = task_with(finished_run, tmp_path / "task", **requirements)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if key in text)
    with pytest.raises(SpecError, match=rf"requirements\.{key}: no bundle can") as caught:
        check_task(path)
    assert caught.value.where == f"{path}:{line}"
    assert f" {unit} without any model" in caught.value.what
    with pytest.raises(SpecError, match="no bundle can"):
        run_task(path, runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_memory_and_cold_start_are_judged_and_versions_shown(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    path = task_with(finished_run, tmp_path / "task", memory_mb=75.0, cold_start_ms=900_000.0)
    result = run_task(path, runs_dir=finished_run.runs_dir)
    judged = {j.requirement: j for j in result.judgements}
    memory, start = judged["memory"], judged["cold start"]
    assert memory.holds == (memory.bound <= 75.0)
    assert 20 < memory.bound < 300
    assert start.holds
    assert start.measured.endswith("median of 5")
    assert result.measurements["peak_memory_bytes"] == round(memory.bound * 1e6)
    assert 0 < result.measurements["cold_start_ms"] <= start.bound

    report = read_json(result.folder / "report.json")
    # What was tried was held to the memory, too: each in a process of its own.
    files = result.folder.parent.glob("store/artefact-static-*/variants.json")
    peaks = [[row["peak_memory_bytes"] for row in read_json(file)] for file in files]
    (held,) = (found for found in peaks if None not in found)
    assert len(held) == len(report["versions"]["rows"])
    assert all(20e6 < peak < 300e6 for peak in held)
    versions = report["versions"]
    (shipped,) = (row for row in versions["rows"] if row["chosen"])
    assert versions["bytes_by_pass"][0] == ["full precision", versions["rows"][0]["size_bytes"]]
    assert versions["bytes_by_pass"][-1][1] == shipped["size_bytes"]
    assert shipped["size_bytes"] == result.measurements["size_bytes"]
    kept = [name for name, _ in versions["bytes_by_pass"]]
    assert kept in (["full precision"], ["full precision", *shipped["passes"].split(" + ")])
    assert (len(kept) == 1) == (shipped["passes"] == "full precision")
    assert all(row["retention"]["low"] <= row["retention"]["value"] for row in versions["rows"][1:])
    assert len(report["shipped"]["footprint"]["cold_starts_ms"]) == 5
    page = (result.folder / "report.html").read_text()
    assert "Original and versions" in page
    manifest = json.loads((result.folder / "bundle/manifest.json").read_text())
    assert {"memory", "cold start"} <= {j["requirement"] for j in manifest["requirements"]}
