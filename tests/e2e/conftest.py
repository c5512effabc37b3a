"""Shared by end-to-end tests of generation: the small task, run once a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import small_generation

if TYPE_CHECKING:
    from edgedistill.pipeline.run import RunResult


@pytest.fixture(scope="session")
def generation_run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The small task, run from nothing (about 20 s on one core); tests must not change it."""
    from edgedistill.pipeline.run import run_task

    folder = tmp_path_factory.mktemp("generation")
    return run_task(small_generation.write_task(folder), runs_dir=folder / "runs")
