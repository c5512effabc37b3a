"""`run`: from a task file to a verified bundle and its report."""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.artefacts import Judgement
from edgedistill.core.errors import EdgeDistillError
from edgedistill.core.events import Event, Listener, silent
from edgedistill.core.files import exclusive, require_room, storage_errors
from edgedistill.core.task_file import load_task
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.search import candidates_of, search
from edgedistill.pipeline.stages.artefact import Artefact, make_artefact
from edgedistill.pipeline.stages.dataset import prepare_data
from edgedistill.pipeline.stages.student import Candidate, Ground, train_student
from edgedistill.pipeline.stages.teacher import prepare_teacher
from edgedistill.pipeline.stages.transfer import prepare_transfer
from edgedistill.pipeline.stages.verification import (
    ANSWERS,
    ARCHIVE,
    BUNDLE,
    Verified,
    verify_choice,
)
from edgedistill.pipeline.store import StageResult, Store

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
    path: Path | str, *, runs_dir: Path | str = Path("runs"), listener: Listener = silent
) -> RunResult:
    """Make the smallest student that meets the task's requirements, and prove it.

    Args:
        path: the task file.
        runs_dir: folder for runs; this one gets `runs_dir/NAME`, stage results are shared in
            `runs_dir/store`.
        listener: is told about progress.

    Raises:
        EdgeDistillError: of the family that fits. A verdict of DO NOT SHIP is a result, no error.
    """
    path, runs_dir = Path(path), Path(runs_dir)
    spec = load_task(path)
    candidates = candidates_of(spec)
    folder = runs_dir / spec.name
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        require_room(folder, LEAST_FREE_BYTES)
        with _logged(folder, listener) as log:
            deadline = time.monotonic() + 60.0 * spec.budget.wall_time_minutes
            store = Store(runs_dir / "store", log)
            context = Context(spec, path.resolve().parent, folder, store, log, deadline)
            return _run(context, candidates)


def _run(context: Context, candidates: list[Candidate]) -> RunResult:
    data = prepare_data(context)
    teacher = prepare_teacher(context, data)
    transfer = prepare_transfer(context, data, teacher)

    ground = Ground(context, data, teacher, transfer)

    def make(candidate: Candidate) -> Artefact:
        return make_artefact(ground, train_student(ground, candidate))

    logits, _ = transfer.outputs("validation")
    teacher_right = np.argmax(logits, axis=1) == data.dataset.targets("validation")
    tried = search(context, candidates, make, _size_forecast(ground), teacher_right)
    verified = verify_choice(ground, tried)
    return _deliver(context, verified)


def _size_forecast(ground: Ground) -> Callable[[Candidate], int]:
    """Bytes of model and tokenizer of a candidate, before it is trained."""
    from edgedistill.models.families import FAMILIES

    data, teacher, transfer = ground.data, ground.teacher, ground.transfer
    num_rows = len(np.unique(transfer.real_ids))
    shape = json.loads((teacher.source / "config.json").read_text(encoding="utf-8"))
    fixed = len(teacher.encoder.packed) + 2 * teacher.encoder.num_tokens

    def size_bytes(candidate: Candidate) -> int:
        family = FAMILIES.load(candidate.family)
        config = family.config(**candidate.options)
        num_labels, hidden = len(data.dataset.labels), int(shape["hidden_size"])
        return int(family.size_bytes(config, num_rows, num_labels, hidden)) + fixed

    return size_bytes


def _deliver(context: Context, verified: Verified) -> RunResult:
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
