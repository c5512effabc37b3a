"""The device side stands on numpy, tokenizers and onnxruntime alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import edgedistill

FORBIDDEN = {
    "torch", "transformers", "sklearn", "scipy", "pydantic", "yaml", "pandas", "fastapi", "typer",
    "rich", "matplotlib", "onnx",
}  # fmt: skip


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    source = str(Path(edgedistill.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": source},
    )  # fmt: skip
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_whole_runtime_needs_three_packages() -> None:
    folder = Path(edgedistill.__file__).parent / "runtime"
    names = [
        ".".join(("edgedistill", "runtime", *file.relative_to(folder).with_suffix("").parts))
        for file in folder.rglob("*.py")
        if file.name != "__init__.py"
    ]
    assert len(names) > 20
    loaded = modules_after("\n".join(f"import {name}" for name in names))
    assert {"numpy", "tokenizers", "onnxruntime"} <= loaded
    assert not loaded & FORBIDDEN


def test_the_package_itself_imports_nothing_heavy() -> None:
    assert not modules_after("import edgedistill") & {*FORBIDDEN, "numpy", "onnxruntime"}
