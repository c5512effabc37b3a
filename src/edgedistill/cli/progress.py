"""How long work is shown: live on a terminal, plain lines elsewhere, JSON Lines for machines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from edgedistill.core.events import Event, Listener

if TYPE_CHECKING:
    from rich.progress import TaskID


@contextmanager
def listener_for(*, log_json: bool, stream: TextIO = sys.stderr) -> Iterator[Listener]:
    """A listener that suits the stream, while the block runs."""
    if log_json:
        yield JsonLines(stream)
    elif stream.isatty():
        display = LiveDisplay(stream)
        with display:
            yield display
    else:
        yield PlainLines(stream)


class JsonLines:
    """One JSON object a line: time, stage, kind, message, fraction, metrics."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __call__(self, event: Event) -> None:
        line = {
            "time": round(time.time(), 3), "stage": event.stage, "kind": event.kind,
            "message": event.message, "fraction": event.fraction, "metrics": event.metrics,
        }  # fmt: skip
        print(json.dumps(line, ensure_ascii=False), file=self.stream, flush=True)


class PlainLines:
    """A line an event; progress without figures at most every ten seconds."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.started = time.monotonic()
        self.told = 0.0

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event.kind == "progress" and not event.metrics:
            if now - self.told < 10.0:
                return
            self.told = now
        seconds = now - self.started
        print(f"[{seconds:7.1f} s] {describe(event)}", file=self.stream, flush=True)


class LiveDisplay:
    """A bar for the stage at work with its estimate and figures; finished stages above it."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self.console = Console(file=stream)
        self.progress = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(), Remaining(), console=self.console, transient=True,
        )  # fmt: skip
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> LiveDisplay:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        if event.kind in ("started", "progress") and event.stage not in self.tasks:
            task = self.progress.add_task(event.stage, total=1.0, note="")
            self.tasks[event.stage] = task
        if event.kind == "progress":
            note = " ".join([event.message, *_figures(event)])
            task = self.tasks[event.stage]
            self.progress.update(task, completed=event.fraction or 0.0, note=note)
        elif event.kind != "started":
            if event.kind == "finished" and event.stage in self.tasks:
                self.progress.remove_task(self.tasks.pop(event.stage))
            self.progress.console.print(describe(event), highlight=False, markup=False)


def describe(event: Event) -> str:
    """An event as a line for people."""
    verb = "" if event.kind in ("note", "progress") else event.kind
    parts = [event.stage + ":", verb, event.message, *_figures(event)]
    if event.fraction is not None and not event.metrics:
        parts.append(f"{event.fraction:.0%}")
    return " ".join(part for part in parts if part)


def _figures(event: Event) -> list[str]:
    return [f"{name} {value:.4f}" for name, value in event.metrics.items()]
