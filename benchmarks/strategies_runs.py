"""The runs of the benchmark of strategies: kept by the store, shared by processes side by side."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import shared_rows
import slots
import snips
from edgedistill.core.errors import MissingSignal, ModelError, RunLocked, SpecError
from edgedistill.core.events import Event, Listener
from edgedistill.core.files import exclusive, read_json, sha256_of, write_json, write_text
from edgedistill.core.task_file import load_task
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.store import Store
from strategies_cases import ROWS, Case, second_tagger
from strategies_catalogue import Strategy
from strategies_scoring import Scored, classifier_folder, score

#: Settings are chosen with this seed, on validation, and serve for every seed.
CHOOSING_SEED = 0
#: The second classifier of a seed is the teacher of the next one, of this many.
NUM_TEACHER_SEEDS = 3
#: Seconds until a process that finds all runs taken looks again.
POLL_S = 2.0
#: What a scored run depends on, in the whole product.
ROOMS = ("core", "data", "evaluate", "export", "models", "pipeline", "runtime", "tasks", "train")
#: Code that writes rows.
DATA_CODE = (shared_rows, slots, snips)


@dataclass(frozen=True)
class Run:
    """A strategy with one seed; `place` of its tries, None: of the one that validation chose."""

    case: Case
    strategy: Strategy
    seed: int
    place: int | None = None

    @property
    def name(self) -> str:
        """For files and people."""
        words = re.sub(r"[^a-z]+", "-", f"{self.case.name} {self.strategy.name}".lower()).strip("-")
        return f"{words}-{'chosen' if self.place is None else self.place}-{self.seed}"


@dataclass
class Workshop:
    """Where runs happen: `work` holds the store, task files and locks. `refused`: why a strategy
    has no part in a case. The others: what is known already, so that it is asked once."""

    work: Path
    quick: bool
    listener: Listener
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    _known_rows: dict[str, Path] = field(default_factory=dict)
    _known_tasks: dict[tuple[str, int], Any] = field(default_factory=dict)

    def work_off(self, runs: Iterable[Run]) -> None:
        """Do every run, or see it done by another process that works off the same ones."""
        waiting = list(runs)
        num_runs = len(waiting)
        while waiting:
            later = list[Run]()
            for place, run in enumerate(waiting, start=1):
                if not self._done(run):
                    later.append(run)
                    continue
                num_left = len(waiting) - place + len(later)
                done = 1 - num_left / num_runs
                self.listener(Event("strategies", "progress", f"{num_left} runs left", done))
            if len(later) == len(waiting):
                time.sleep(POLL_S)
            waiting = later

    def _done(self, run: Run) -> bool:
        if self._reason(run) is not None:
            return True
        try:
            place = self.place(run) if run.place is None else run.place
            if place is None:
                return False
            with exclusive(self.work / "runs" / run.name):
                self.scored(run, place, "validation")
                if run.place is None:
                    self.scored(run, place, "test")
        except RunLocked:
            return False
        except (SpecError, MissingSignal, ModelError) as error:
            self.refused[run.case.name, run.strategy.name] = _plainly(error.what)
            message = f"{run.name}: {self._reason(run)}"
            self.listener(Event("strategies", "declined", message))
        return True

    def _reason(self, run: Run) -> str | None:
        return self.refused.get((run.case.name, run.strategy.name))

    def place(self, run: Run) -> int | None:
        """Which of a strategy's tries validation prefers; None where one is not scored yet."""
        num_tries = len(run.strategy.tries)
        if num_tries == 1:
            return 0
        tried = [Run(run.case, run.strategy, CHOOSING_SEED, place) for place in range(num_tries)]
        found = [self._stage(each, place, "validation", compute=False)
                 for place, each in enumerate(tried)]  # fmt: skip
        if any(each is None for each in found):
            return None
        scores = [f1(each.counts) for each in found if each is not None]
        return int(np.argmax(scores))

    def scored(self, run: Run, place: int, split: str) -> Scored:
        """A run's student on a split, trained and scored once."""
        found = self._stage(run, place, split, compute=True)
        assert found is not None
        return found

    def context(self, run: Run, place: int, folder: Path) -> Context[Any]:
        """What a run is given; raises SpecError where its task cannot be."""
        root = self._rows(run.case)
        return self._context(self._task(run, place, root), root, folder)

    def _stage(self, run: Run, place: int, split: str, *, compute: bool) -> Scored | None:
        root = self._rows(run.case)
        spec = self._task(run, place, root)
        inputs = {"task": spec.model_dump(mode="json"), "role": run.strategy.role, "split": split}

        def score_it(folder: Path) -> None:
            context = self._context(spec, root, folder)
            found = score(context, run.strategy.role, split)
            np.save(folder / "counts.npy", found.counts)
            write_json(folder / "cost.json", found.seconds)

        if not compute and not self._store.holds("scored", inputs, rooms=ROOMS):
            return None
        folder = self._store.stage("scored", inputs, score_it, rooms=ROOMS).folder
        return Scored(np.load(folder / "counts.npy"), float(read_json(folder / "cost.json")))

    @cached_property
    def _store(self) -> Store:
        return Store(self.work / "store", self.listener)

    def _context(self, spec: Any, root: Path, folder: Path) -> Context[Any]:
        # A store of its own: its results are the stages of this run.
        store = Store(self.work / "store", self.listener)
        return Context(spec, root, folder, store, self.listener, float("inf"))

    def _rows(self, case: Case) -> Path:
        """The folder with a case's rows, and what was said of them."""
        if case.rows in self._known_rows:
            return self._known_rows[case.rows]
        code = {str(m.__name__): sha256_of(Path(str(m.__file__))) for m in DATA_CODE}
        rows = ROWS[case.rows]
        inputs = {"settings": rows.settings, "quick": self.quick, "code": code}

        def write(folder: Path) -> None:
            write_json(folder / "facts.json", rows.write(folder, self.quick))

        stage = self._store.stage(f"rows-{case.rows}", inputs, write, rooms=())
        return self._known_rows.setdefault(case.rows, stage.folder)

    def _task(self, run: Run, place: int, root: Path) -> Any:
        """The task of a run; raises SpecError where it cannot be."""
        key = (run.name, place)
        if key not in self._known_tasks:
            self._known_tasks[key] = self._new_task(run, place, root)
        return self._known_tasks[key]

    def _new_task(self, run: Run, place: int, root: Path) -> Any:
        value = run.case.spec(read_json(root / "facts.json"), self.quick)
        value |= {"name": f"{run.case.name}-{run.seed}", "seed": run.seed}
        plain = dict(value)
        value["distillation"] = {**value["distillation"], **run.strategy.tries[place]}
        if not run.strategy.has_second_teacher:
            return self._valid(run.name, value)
        if value.get("kind") == "extraction":
            return self._valid(run.name, value | {"teachers": [second_tagger(value["teacher"])]})
        other = (run.seed + 1) % NUM_TEACHER_SEEDS
        of_other = self._valid(f"{run.name}-second", plain | {"seed": other})
        folder = classifier_folder(self._context(of_other, root, self.work))
        teachers = [{"source": f"folder:{folder.resolve()}", "num_epochs": 0}]
        return self._valid(run.name, value | {"teachers": teachers})

    def _valid(self, name: str, value: dict[str, Any]) -> Any:
        path = self.work / "tasks" / f"{name}.yaml"
        write_text(path, yaml.safe_dump(value, sort_keys=False))
        return load_task(path)


def runs_of(cases: Sequence[Case], seeds: Sequence[int]) -> list[Run]:
    """All runs, in an order in which processes seldom wait for each other: every teacher once, what
    is chosen by, then the rest."""
    first = {case.rows: case for case in reversed(cases)}.values()
    others = [case for case in cases if case not in first]
    teachers = [(c, s, seed) for some in (first, others) for seed in seeds for c in some
                for s in c.strategies if s.role == "teacher"]  # fmt: skip
    tries = [
        Run(case, strategy, CHOOSING_SEED, place)
        for place in (0, 1)
        for case in cases
        for strategy in case.strategies
        if place < len(strategy.tries) > 1
    ]
    rest = [(c, s, seed) for seed in seeds for c in cases for s in c.strategies
            if s.role != "teacher"]  # fmt: skip
    return [*(Run(*each) for each in teachers), *tries, *(Run(*each) for each in rest)]


def f1(counts: np.ndarray) -> float:
    """Micro F1 of counts of right, given and expected answers, int [rows, 3]."""
    right, given, expected = counts.sum(0)
    return float(2 * right / max(1, given + expected))


def _plainly(what: str) -> str:
    """The first complaint, without the file that it was found in."""
    return re.sub(r"^\S+\.yaml(:\d+)?: ", "", what.splitlines()[0])
