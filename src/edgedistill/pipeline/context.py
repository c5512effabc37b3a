"""What every stage of a run is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgedistill.core.events import Listener
from edgedistill.core.task import TaskSpec
from edgedistill.pipeline.store import Store


@dataclass(frozen=True)
class Context:
    """A run: its task, where the task's paths start (`root`), where results go.

    `deadline`: time.monotonic() at which the budget's wall time is spent.
    """

    spec: TaskSpec
    root: Path
    folder: Path
    store: Store
    listener: Listener
    deadline: float
