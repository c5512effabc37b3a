"""The quick form of a benchmark, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"


def quick_form(script: str, *arguments: str) -> str:
    """What `benchmarks/SCRIPT.py --quick` prints; it neither fails nor touches a page of results.

    The package is that of this checkout, installed or not.
    """
    before = _pages()
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}.py", "--quick", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"src:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert _pages() == before
    return done.stdout


def _pages() -> dict[Path, bytes]:
    """The results as they are, pictures and the kept rows of seeds included."""
    return {path: path.read_bytes() for path in RESULTS.rglob("*") if path.is_file()}
