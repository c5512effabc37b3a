"""A generation task whose bundle runs in ONNX Runtime, from its rows to every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import small_generation
from edgedistill.cli.app import app
from edgedistill.core.errors import BundleError, MissingExtra, SpecError
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.core.task_file import load_task
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.runtime.bundle import open_bundle, write_bundle
from edgedistill.runtime.generation.generator import Generator
from edgedistill.runtime.limits import bench
from edgedistill.runtime.loading import load
from edgedistill.runtime.verification import verify
from edgedistill.service.inference import create_app

pytest.importorskip("llguidance")

ASKED = "send 3 tea now"


def write_task(folder: Path, beams: int) -> Path:
    """The small task with types of weights of ONNX."""
    task = small_generation.write_task(folder)
    text = task.read_text(encoding="utf-8")
    types = "  weight_types:\n  - f16\n  - q8_0\n  - q4_k\n"
    assert types in text
    text = text.replace(types, "  weight_types:\n  - onnx_f32\n  - onnx_int8\n")
    task.write_text(text.replace("output:\n", f"output:\n  beams: {beams}\n"), encoding="utf-8")
    return task


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The small task, run from nothing with two beams (about 20 s on one core)."""
    folder = tmp_path_factory.mktemp("generation")
    return run_task(write_task(folder, beams=2), runs_dir=folder / "runs")


def test_it_ships_with_every_hop_in_the_ledger(run: RunResult) -> None:
    assert run.ships, run.reasons
    report = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    hops = [hop["name"] for hop in report["ledger"]]
    assert hops == [
        "teacher", "student", "ONNX f32", "ONNX int8", "by the schema, 2 beams", "bundle",
    ]  # fmt: skip
    tried = {outcome["name"]: outcome["kept"] for outcome in report["passes"]}
    assert tried == {"onnx_f32": False, "onnx_int8": True}


def test_the_bundle_holds_one_model(run: RunResult) -> None:
    bundle = open_bundle(run.archive)
    assert bundle.manifest.model_file == "model.onnx"
    assert "model.gguf" not in bundle.files
    assert bundle.manifest.generation["beams"] == 2
    assert bundle.model_bytes < 60_000


def test_answers_meet_the_schema_and_every_command_runs(run: RunResult) -> None:
    generator = load(run.bundle)
    assert isinstance(generator, Generator)
    (found,) = generator.predict([ASKED])
    assert set(json.loads(found.text or "")) == {"item", "n"}
    assert verify(run.archive).holds
    measured = bench(run.bundle, num_samples=20)
    assert measured.speed is not None
    runner = CliRunner()
    said = runner.invoke(app, ["predict", str(run.bundle), ASKED, "--json"])
    assert json.loads(said.stdout)["answer"] == found.text
    rows = run.folder / "rows.jsonl"
    rows.write_text(json.dumps({"text": ASKED, "label": found.text}) + "\n")
    twice = runner.invoke(app, ["compare", str(run.bundle), str(run.archive), "--on", str(rows)])
    (same,) = (line for line in twice.stdout.splitlines() if line.startswith("Same answer"))
    assert same.split()[2:] == ["100.00%", "100.00%"]


def test_it_is_served_whole_and_in_pieces(run: RunResult) -> None:
    generator = load(run.bundle)
    assert isinstance(generator, Generator)
    client = TestClient(create_app(generator))
    ask = {"messages": [{"role": "user", "content": ASKED}]}
    (choice,) = client.post("/v1/chat/completions", json=ask).json()["choices"]
    assert choice["message"]["content"] == generator.predict([ASKED])[0].text
    drawn = ask | {"temperature": 1.0, "top_p": 0.5, "seed": 3, "stream": True}
    lines = client.post("/v1/chat/completions", json=drawn).text.split("\n\n")[:-2]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert set(json.loads("".join(pieces))) == {"item", "n"}
    assert len(pieces) > 2


def test_llama_cpp_is_not_needed(run: RunResult) -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('xllamacpp', 'gguf', 'torch', 'onnx')))\n"
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


def test_a_model_in_the_wrong_format_is_refused(run: RunResult, tmp_path: Path) -> None:
    bundle = open_bundle(run.bundle)
    files = {name: content for name, content in bundle.files.items() if name != "model.onnx"}
    wrong = write_bundle(
        tmp_path / "wrong", bundle.manifest, {**files, "model.gguf": bundle.files["model.onnx"]}
    )
    with pytest.raises(BundleError, match="2 beams, which llama"):
        load(wrong.path)
    greedy = replace(bundle.manifest, generation={**bundle.manifest.generation, "beams": 1})
    wrong = write_bundle(
        tmp_path / "greedy", greedy, {**files, "model.gguf": bundle.files["model.onnx"]}
    )
    with pytest.raises(BundleError, match="GGUF"):
        load(wrong.path)


def test_the_missing_package_is_told_at_once(
    run: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtra, match="grammar"):
        load(run.bundle)


def test_beams_in_llama_cpp_are_refused_before_anything(tmp_path: Path) -> None:
    task = small_generation.write_task(
        tmp_path, output={"purpose": "instructions", "beams": 4, "max_new_tokens": 9}
    )
    with pytest.raises(SpecError, match=r"llama\.cpp has no beam search.*f16, q8_0, q4_k"):
        check_task(task)
    spec = load_task(write_task(tmp_path, beams=4))
    assert isinstance(spec, GenerationSpec)
    assert spec.output.beams == 4


def test_a_task_in_onnx_needs_no_llama_cpp_to_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(package: str) -> object:
        return None if package in absent else package

    monkeypatch.setattr("edgedistill.pipeline.generation.dataset.find_spec", found)
    absent = {"gguf", "xllamacpp"}
    assert check_task(write_task(tmp_path, beams=1)).spec.name == "orders"
    with pytest.raises(MissingExtra):
        check_task(small_generation.write_task(tmp_path))
    absent = {"llguidance"}
    assert check_task(small_generation.write_task(tmp_path)).spec.name == "orders"
    with pytest.raises(MissingExtra):
        check_task(write_task(tmp_path, beams=1))
