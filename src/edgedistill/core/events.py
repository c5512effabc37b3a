"""What long work tells about itself; who shows it is decided elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Event:
    """One message of a run.

    `stage`: name of the stage. `kind`: started, reused, progress, finished, note or declined.
    `fraction`: share done in [0, 1] where known. `metrics`: current figures by name.
    """

    stage: str
    kind: str
    message: str = ""
    fraction: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)


class Listener(Protocol):
    """Takes events as they come; must not raise."""

    def __call__(self, event: Event) -> None: ...


def silent(event: Event) -> None:
    """A listener that shows nothing."""
