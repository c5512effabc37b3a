"""What the device imports loads neither the factory's packages nor the command line's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgedistill

HEAVY = {"torch", "transformers", "pydantic", "yaml", "sklearn", "scipy", "typer"}


@pytest.mark.parametrize(
    "statement",
    [
        "import edgedistill",
        "import edgedistill.runtime",
        "from edgedistill.runtime.loading import load",
        "import edgedistill; edgedistill.load",
    ],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    source = str(Path(edgedistill.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": source},
    )  # fmt: skip
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "edgedistill" in loaded
    assert not loaded & HEAVY
