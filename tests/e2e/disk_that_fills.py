"""Run a task on a small disk of its own that is filled up at one moment after the other.

Usage: python disk_that_fills.py TASK FOLDER. Needs the right to mount (`unshare --mount`).
Prints a JSON line for each attempt: the moment, how it ended, what was told, stages reused.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

from edgedistill.core.events import Event
from edgedistill.pipeline import run

DISK_BYTES = 30_000_000
#: (stage, kind of event, start of its message): after it, not a byte can be written.
MOMENTS = (
    ("data", "started", ""),
    ("teacher", "started", ""),
    ("teacher", "progress", "epoch 3 of 3"),
    ("transfer", "started", ""),
    ("student-static", "started", ""),
    ("student-static", "progress", "epoch 1 of"),
    ("artefact-static", "started", ""),
    ("artefact-static", "note", "full precision"),
    ("teacher-file", "started", ""),
    ("verification", "started", ""),
    ("verification", "finished", ""),
)


def attempt(task: Path, disk: Path, moment: tuple[str, str, str] | None) -> dict[str, object]:
    """One run; keeps the disk full from `moment` on, and empties it again at the end."""
    filler = disk / "filler"
    reused: list[str] = []

    def listener(event: Event) -> None:
        if event.kind == "reused":
            reused.append(event.stage)
        is_now = moment is not None and (event.stage, event.kind) == moment[:2]
        if filler.exists() or (is_now and moment and event.message.startswith(moment[2])):
            fill(filler)

    ended, told = "finished", ""
    try:
        run.run_task(task, runs_dir=disk / "runs", listener=listener)
    except Exception as error:
        ended, told = type(error).__name__, str(error)
    was_filled = filler.exists()
    filler.unlink(missing_ok=True)
    return {"moment": moment, "filled": was_filled, "ended": ended, "told": told, "reused": reused}


def fill(filler: Path) -> None:
    """Leave no room at all."""
    # A file that was replaced while it was mapped gives its room back late.
    gc.collect()
    with filler.open("ab", buffering=0) as stream:
        try:
            while stream.write(b"\0" * 4096):
                pass
        except OSError:
            return


def main(task: Path, disk: Path) -> None:
    """Every moment once, then a run that is left in peace."""
    # The first check would refuse so small a disk.
    run.LEAST_FREE_BYTES = 0
    size = f"size={DISK_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(disk)], check=True)
    for moment in (*MOMENTS, None):
        print(json.dumps(attempt(task, disk, moment)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
