"""A task that asks for LiteRT, from its file to a bundle that runs without torch and ONNX."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import small_task
from edgedistill.pipeline.run import run_task
from edgedistill.runtime.loading import load
from edgedistill.runtime.manifest import LITERT_MODEL, MODEL
from edgedistill.runtime.verification import verify

for package in ("ai_edge_litert", "ai_edge_quantizer", "litert_torch"):
    pytest.importorskip(package, reason="needs the extra litert-export")

pytestmark = pytest.mark.filterwarnings("ignore")
ALONE = """
import sys
from edgedistill.runtime.loading import load
print(load(sys.argv[1]).predict(["where is my order"])[0].as_json())
print(sorted({"torch", "onnx", "litert_torch", "jax"} & set(sys.modules)))
"""


def test_a_task_ends_as_a_bundle_for_litert(tmp_path: Path, teacher_folder: Path) -> None:
    task = small_task.write_task(
        tmp_path, teacher_folder,
        student={"family": "truncated", "options": {"layers": [1]}},
        compress={"runtime": "litert"},
        requirements={"retention": 0.5},
    )  # fmt: skip
    result = run_task(task, runs_dir=tmp_path / "runs")

    names = {file.name for file in result.bundle.iterdir()}
    assert LITERT_MODEL in names
    assert MODEL not in names
    report = json.loads((result.folder / "report.json").read_text())
    tried = {each["name"]: each for each in report["passes"]}
    kept = [name for name, each in tried.items() if each["kept"]]
    assert len(kept) == 1
    assert kept[0].startswith("litert_")
    assert {"litert_float", "litert_int8", "litert_int4"} <= set(tried)
    assert load(result.bundle).manifest.provenance["runtime"] == "litert"
    assert verify(result.bundle).holds

    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(result.bundle)],
        capture_output=True, text=True, check=True, env=dict(os.environ),
    )  # fmt: skip
    answer, heavy = done.stdout.splitlines()
    assert "order" in answer or "reason" in answer
    assert heavy == "[]"
