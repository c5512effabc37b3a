"""`run`: from a task file to a verified bundle and its report."""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.core.artefacts import Judgement
from edgedistill.core.catalogue import Catalogue
from edgedistill.core.errors import EdgeDistillError
from edgedistill.core.events import Event, Listener, silent
from edgedistill.core.files import exclusive, require_room, storage_errors
from edgedistill.core.task_file import load_task
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.own_processes import require_possible
from edgedistill.pipeline.runtimes import require_runtime
from edgedistill.pipeline.store import StageResult, Store
from edgedistill.pipeline.verified import ANSWERS, ARCHIVE, BUNDLE, Verified

#: How a task of each kind goes from its data to its verdict.
KINDS = Catalogue(
    "kind of task",
    {
        "classification": "edgedistill.pipeline.classification:carry_out",
        "extraction": "edgedistill.pipeline.extraction.course:carry_out",
        "generation": "edgedistill.pipeline.generation.course:carry_out",
    },
)
#: Below this a run would fail sooner or later.
LEAST_FREE_BYTES = 500_000_000


@dataclass(frozen=True)
class RunResult:
    """Where everything lies, and the verdict."""

    folder: Path
    bundle: Path
    archive: Path
    report: Path
    ships: bool
    judgements: tuple[Judgement, ...]
    reasons: tuple[str, ...]
    measurements: dict[str, Any]
    stages: tuple[StageResult, ...]
    answers: Path

    @property
    def num_reused(self) -> int:
        """Stages that stood from earlier runs."""
        return sum(stage.reused for stage in self.stages)

    def summary(self) -> str:
        """The end of a run in a few lines."""
        lines = [
            f"{'✓' if j.holds else '✗'} {j.requirement}: {j.measured} ({j.required})"
            for j in self.judgements
        ]
        return "\n".join([
            *lines,
            f"stages: {len(self.stages)}, of which {self.num_reused} stood from earlier runs",
            f"bundle:  {self.bundle}  ({self.archive.name}: {self.archive.stat().st_size:,} bytes)",
            f"report:  {self.report}",
            f"verdict: {'SHIP' if self.ships else 'DO NOT SHIP'}",
        ])  # fmt: skip


def run_task(
    path: Path | str,
    *,
    runs_dir: Path | str = Path("runs"),
    listener: Listener = silent,
    changes: Mapping[str, Any] | None = None,
) -> RunResult:
    """Make the smallest student that meets the task's requirements, and prove it.

    Args:
        path: the task file.
        runs_dir: folder for runs; this one gets `runs_dir/NAME`, stage results are shared in
            `runs_dir/store`.
        listener: is told about progress.
        changes: sections that take the place of the file's; None: the file's is left out.

    Raises:
        EdgeDistillError: of the family that fits. A verdict of DO NOT SHIP is a result, no error.
    """
    path, runs_dir = Path(path), Path(runs_dir)
    spec = load_task(path, changes)
    require_runtime(spec, path)
    require_possible(spec, path)
    carry_out = KINDS.load(spec.kind)
    folder = runs_dir / spec.name
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        require_room(folder, LEAST_FREE_BYTES)
        with _logged(folder, listener) as log:
            deadline = time.monotonic() + 60.0 * spec.budget.wall_time_minutes
            store = Store(runs_dir / "store", log)
            context = Context(spec, path.resolve().parent, folder, store, log, deadline)
            return _deliver(context, carry_out(context))


def _deliver(context: Context[Any], verified: Verified) -> RunResult:
    """Copy bundle and report out of the store into the run folder."""
    folder, source = context.folder, verified.stage.folder
    with storage_errors(folder):
        for name in (BUNDLE, ARCHIVE, "report.html", "report.md", "report.json"):
            _replace(source / name, folder / name)
    return RunResult(
        folder=folder,
        bundle=folder / BUNDLE,
        archive=folder / ARCHIVE,
        report=folder / "report.html",
        ships=verified.ships,
        judgements=verified.judgements,
        reasons=verified.reasons,
        measurements=verified.measurements,
        stages=tuple(context.store.results),
        answers=source / ANSWERS,
    )


def _replace(source: Path, target: Path) -> None:
    """Copy a file or folder so that `target` is the old one or the new one, never a half."""
    fresh = target.with_name(f".{target.name}.new")
    old = target.with_name(f".{target.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    if source.is_dir():
        shutil.copytree(source, fresh)
        if target.exists():
            target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        shutil.copyfile(source, fresh)
        fresh.replace(target)


@contextmanager
def _logged(folder: Path, listener: Listener) -> Iterator[Listener]:
    """A listener that also keeps every event in the run's log, and the traceback of a defect."""
    path = folder / "log.jsonl"
    with storage_errors(path):
        log = path.open("ab", buffering=0)

    def keep(**entry: Any) -> None:
        line = {"time": round(time.time(), 3), **entry}
        # What a full disk stops is told by the stage that it stops, not by its log.
        with suppress(OSError):
            log.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def both(event: Event) -> None:
        keep(**asdict(event))
        listener(event)

    with log:
        try:
            yield both
        except EdgeDistillError as error:
            both(Event("run", "note", f"stopped: {error}"))
            raise
        except Exception:
            keep(traceback=traceback.format_exc())
            raise
