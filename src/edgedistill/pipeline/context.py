"""What every stage of a run is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from typing_extensions import TypeVar

from edgedistill.core.events import Listener
from edgedistill.core.task import TaskSpec
from edgedistill.pipeline.store import Store

Spec = TypeVar("Spec", default=TaskSpec)


@dataclass(frozen=True)
class Context(Generic[Spec]):
    """A run: its task (of its kind), where the task's paths start (`root`), where results go.

    `deadline`: time.monotonic() at which the budget's wall time is spent.
    """

    spec: Spec
    root: Path
    folder: Path
    store: Store
    listener: Listener
    deadline: float
