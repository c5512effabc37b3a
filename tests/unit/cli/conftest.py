"""The small bundle on the disk, and the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import edgedistill
from edgedistill.runtime.bundle import Bundle
from small_bundle import make_bundle

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A fresh bundle folder that a test may damage."""
    return make_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def edgedistill_command() -> Run:
    """Runs `edgedistill ARGUMENTS…` as a user would; `stdin` bytes, `env` additions."""

    def run(
        *arguments: object, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        source = str(Path(edgedistill.__file__).parents[1])
        return subprocess.run(
            [sys.executable, "-m", "edgedistill.cli.app", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": source, "COLUMNS": "100", **(env or {})},
        )

    return run
