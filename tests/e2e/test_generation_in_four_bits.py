"""A student cut out of its teacher by depth and units, and shipped in four bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import yaml

import small_generation
from edgedistill.core.errors import DataError, SpecError
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.runtime.bundle import open_bundle
from edgedistill.runtime.verification import verify

pytest.importorskip("llguidance")

TYPES = ["onnx_f32", "onnx_int4", "onnx_awq_int4"]
ASKED = "send 3 tea now"


def write_task(folder: Path, types: list[str] = TYPES, **shape: int) -> Path:
    """The small task; of the teacher's three layers two, of 128 units half."""
    task = small_generation.write_task(folder)
    spec = yaml.safe_load(task.read_text(encoding="utf-8"))
    spec["teacher"]["shape"] |= {"num_layers": 3}
    spec["student"]["initialise"] = "teacher"
    spec["student"]["weight_types"] = types
    spec["student"]["shape"] = {
        "hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1,
        "intermediate_size": 64, **shape,
    }  # fmt: skip
    task.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return task


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The small task, run from nothing."""
    folder = tmp_path_factory.mktemp("four-bits")
    return run_task(write_task(folder), runs_dir=folder / "runs")


def test_every_type_is_measured_and_one_of_four_bits_ships(run: RunResult) -> None:
    assert run.ships, run.reasons
    report = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    tried = {outcome["name"]: outcome for outcome in report["passes"]}
    assert list(tried) == TYPES
    kept = [name for name, outcome in tried.items() if outcome["kept"]]
    assert len(kept) == 1
    assert kept[0] != "onnx_f32"
    told = " ".join(str(value) for value in tried["onnx_awq_int4"].values())
    assert "matrices as 4 bits in groups of 64" in told
    assert "1 matrices as 8 bits in groups of 32" in told
    assert {"ONNX f32", "ONNX int4", "ONNX awq_int4", "bundle"} <= {
        hop["name"] for hop in report["ledger"]
    }


def test_the_bundle_holds_four_bits_and_passes_its_own_check(run: RunResult) -> None:
    bundle = open_bundle(run.archive)
    model = onnx.load_from_string(bundle.files["model.onnx"])
    bits = [
        onnx.helper.get_attribute_value(a)
        for node in model.graph.node
        for a in node.attribute
        if node.op_type == "MatMulNBits" and a.name == "bits"
    ]
    assert sorted(bits) == [*[4] * 8, 8]
    assert bundle.manifest.provenance["compression"] in TYPES[1:]
    assert verify(run.archive).holds


def test_it_runs_without_what_made_it(run: RunResult) -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'transformers', 'onnx', 'pydantic')))\n"
        "import edgedistill\n"
        f"(found,) = edgedistill.load({str(run.bundle)!r}).predict([{ASKED!r}])\n"
        "assert found.text, found\n"
    )
    source = str(Path(sys.modules["edgedistill"].__file__ or "").parents[1])
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_what_cannot_work_is_refused_before_anything(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="onnx_int3"):
        check_task(write_task(tmp_path, ["onnx_f32", "onnx_int3"]))
    with pytest.raises(SpecError, match=r"64 x 16.*4,096 weights.*onnx_int8"):
        check_task(write_task(tmp_path, intermediate_size=16))
    assert check_task(write_task(tmp_path, ["onnx_int8"], intermediate_size=16))
    rows = (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    task = write_task(tmp_path, [*TYPES, "onnx_gptq_int4"])
    (tmp_path / "train.jsonl").write_text("".join(rows[:7]), encoding="utf-8")
    with pytest.raises(DataError, match="7 training rows, to which onnx_awq_int4"):
        check_task(task)
    task = write_task(tmp_path, ["onnx_int4"])
    (tmp_path / "train.jsonl").write_text("".join(rows[:7]), encoding="utf-8")
    assert check_task(task).spec.name == "orders"
