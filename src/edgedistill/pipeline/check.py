"""`check`: the task file, then everything that can be known of the task without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.core.task_file import load_task
from edgedistill.pipeline.own_processes import require_possible
from edgedistill.pipeline.runtimes import require_runtime

if TYPE_CHECKING:
    from edgedistill.pipeline.foresight import CheckResult


def check_task(path: Path) -> CheckResult:
    """Validate a task file, its data and its teacher; forecast the run.

    Raises:
        EdgeDistillError: of the family that fits, with the place and what would be right.
    """
    spec = load_task(path)
    require_runtime(spec, path)
    require_possible(spec, path)
    # What reads data and teachers takes longer to import than a faulty file to be refused.
    from edgedistill.pipeline.foresight import foresee

    return foresee(spec, path.parent)
