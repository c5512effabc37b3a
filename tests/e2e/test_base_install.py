"""The base package in a fresh environment: no torch, no transformers, and bundles run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgedistill
from small_task import FinishedRun

PROJECT = Path(edgedistill.__file__).parents[2]
FACTORY = {"torch", "transformers", "accelerate", "scikit-learn", "scipy", "onnx", "pyarrow"}
TEXTS = ["where is my parcel", "stop it now", ""]


def run(*arguments: object) -> str:
    """Standard output of a command that sees nothing of this process' environment."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [*map(str, arguments)], capture_output=True, text=True, check=False, env=clean, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of a new environment with the base package, built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("base")
    shutil.copytree(
        PROJECT / "src", folder / "checkout/src",
        ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
    )  # fmt: skip
    for name in ("pyproject.toml", "README.md"):
        shutil.copyfile(PROJECT / name, folder / "checkout" / name)
    run(sys.executable, "-m", "venv", folder / "env")
    binaries = folder / "env/bin"
    run(binaries / "python", "-m", "pip", "install", "--quiet", folder / "checkout")
    return binaries


@pytest.mark.real
def test_base_package_needs_nothing_of_the_factory(environment: Path) -> None:
    listed = run(environment / "python", "-m", "pip", "list", "--format", "json")
    installed = {package["name"].lower() for package in json.loads(listed)}
    assert {"edgedistill", "numpy", "onnxruntime", "tokenizers"} <= installed
    assert not installed & FACTORY


@pytest.mark.real
def test_every_module_and_data_file_is_installed(environment: Path) -> None:
    code = "import edgedistill; print(edgedistill.__file__)"
    installed = Path(run(environment / "python", "-c", code).strip()).parent
    assert PROJECT not in installed.parents
    source = Path(edgedistill.__file__).parent
    names = {
        str(file.relative_to(source))
        for file in source.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert len(names) > 80
    assert names == {
        str(file.relative_to(installed))
        for file in installed.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


@pytest.mark.real
def test_bundle_of_the_factory_runs_there(environment: Path, finished_run: FinishedRun) -> None:
    bundle = finished_run.folder / "bundle"
    expected = [answer.as_json() for answer in edgedistill.load(bundle).predict(TEXTS)]
    printed = run(environment / "edgedistill", "predict", bundle, *TEXTS, "--json")
    told = [json.loads(line) for line in printed.splitlines()]
    kept = ("label", "abstained", "reason")
    assert [[t[k] for k in kept] for t in told] == [[e[k] for k in kept] for e in expected]
    archive = str(finished_run.folder / "bundle.edb")
    code = (
        "import json, edgedistill\n"
        f"found = edgedistill.load({archive!r}).predict({TEXTS!r})\n"
        "print(json.dumps([a.as_json() for a in found]))"
    )
    loaded = json.loads(run(environment / "python", "-c", code))
    assert [[a[k] for k in kept] for a in loaded] == [[e[k] for k in kept] for e in expected]
    run(environment / "edgedistill", "verify", bundle)


@pytest.mark.real
def test_factory_commands_name_the_extra(
    environment: Path, finished_run: FinishedRun, tmp_path: Path
) -> None:
    done = subprocess.run(
        [environment / "edgedistill", "run", finished_run.task, "--runs-dir", tmp_path / "runs"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert "edgedistill[train]" in done.stderr
    assert not (tmp_path / "runs").exists()
