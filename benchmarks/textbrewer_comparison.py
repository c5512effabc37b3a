"""Our loop with the cached teacher against TextBrewer, side by side: time and quality.

OMP_NUM_THREADS=1 python benchmarks/textbrewer_comparison.py     writes docs/results/textbrewer.*
python benchmarks/textbrewer_comparison.py --quick               a cut; writes nothing

Needs the extra `benchmarks`. The teachers are those of benchmarks/strategies.py, where its --work
is here already.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.cli.progress import PlainLines
from edgedistill.core.events import silent
from edgedistill.models.families import FAMILIES
from edgedistill.pipeline.classification import prepare_ground
from edgedistill.pipeline.packaging import machine
from edgedistill.pipeline.search import candidates_of
from edgedistill.pipeline.stages.lesson import prepare_lesson
from edgedistill.pipeline.stages.student import loop_config
from edgedistill.pipeline.stages.teacher import validation_accuracy
from edgedistill.tasks.classification import predicted
from edgedistill.train.distill.response import Response, ResponseConfig
from edgedistill.train.loop import LoopConfig, train
from results import Result, tell, write_results
from strategies_cases import Case, all_cases
from strategies_catalogue import Strategy
from strategies_pooled import Spread, pooled_f1, spread
from strategies_runs import Run, Workshop

COMMAND = "python benchmarks/textbrewer_comparison.py"
CASES = ("clinc-truncated", "clinc-small")
#: Divergence and true labels, which TextBrewer has too; it knows nothing of the energy.
LOSS = Strategy("textbrewer", "plain", ({"hard_weight": 0.3, "energy_weight": 0.0},))
OURS, OURS_BF16 = "ours, fp32", "ours, bf16 as by default"
GENERAL = "TextBrewer, GeneralDistiller"
SAME_BATCHES = "TextBrewer, GeneralDistiller, our batches"
CACHED = "TextBrewer, BasicDistiller with its cache"
#: Of each, in turn.
NUM_ROUNDS = 2


@dataclass(frozen=True)
class Bench:
    """One student under both libraries: how each trains a copy of it, and how copies are scored;
    `read`: the one reading of all texts by the teacher that our loop learns from."""

    case: Case
    student: torch.nn.Module
    trainers: dict[str, Callable[[Any], None]]
    counts: Callable[[Any], np.ndarray]
    read: Callable[[], None]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a cut; writes nothing")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--work", type=Path, default=Path("runs/strategies"))
    arguments = parser.parse_args()
    if importlib.util.find_spec("textbrewer") is None:
        print("skipped: textbrewer is not installed (pip install 'edgedistill[benchmarks]')")
        return 0
    quick = arguments.quick
    workshop = Workshop(arguments.work, quick, PlainLines(sys.stderr))
    known, rows, told = all_cases(), list[Result](), list[str]()
    for name in arguments.cases:
        bench = _bench(workshop, known[name])
        measured, lines = _compare(bench, num_rounds=1 if quick else NUM_ROUNDS)
        rows, told = rows + measured, told + lines
    if not quick:
        write_results("textbrewer", "Against TextBrewer", rows, [NOTE, *told])
    print("\n".join(told))
    tell(rows)
    return 0


NOTE = (
    "Teacher, student (its weights before training), texts, epochs, batch size, optimiser, "
    "schedule, loss (divergence at the family's temperature and 0.3 of true labels) and seed are "
    "the same; both score validation after each epoch, keep the better epoch, and write what they "
    "write to disk. All train in fp32 but where it says otherwise: TextBrewer has no half "
    "precision without a GPU. Its loader shuffles texts and pads them to the longest of a batch. "
    f"Runs took turns, {NUM_ROUNDS} times each; times are medians, bounds of a ratio its least "
    "and most over turns. Quality is test accuracy, with a paired bootstrap interval over rows."
)


def _bench(workshop: Workshop, case: Case) -> Bench:
    from textbrewer_peer import Peer, train_with_textbrewer

    context = workshop.context(Run(case, LOSS, 0), 0, workshop.work)
    ground = prepare_ground(context)
    (candidate,) = candidates_of(context.spec)
    family = FAMILIES.load(candidate.family)
    torch.manual_seed(context.spec.seed)
    student = family.build(ground.material, family.config(**candidate.options))
    lesson = prepare_lesson(ground, candidate, ground.answers.logits)
    examples, settings = lesson.examples, context.spec.distillation
    loss = ResponseConfig(temperature=lesson.temperature, hard_weight=settings.hard_weight)
    plan = replace(
        loop_config(
            family.recipe, len(examples), seed=context.spec.seed, is_control=False,
            num_epochs=settings.num_epochs,
        ),
        precision="fp32",
    )  # fmt: skip
    dataset, teacher = ground.data.dataset, ground.load_teacher()
    score = validation_accuracy(dataset, ground.encoder)

    def ours(model: Any, config: LoopConfig) -> None:
        with tempfile.TemporaryDirectory() as folder:
            train(model, Response(loss), examples, score=score, config=config,
                  checkpoints=Path(folder), stage="ours", listener=silent)  # fmt: skip

    def theirs(model: Any, peer: Peer) -> None:
        with tempfile.TemporaryDirectory() as folder:
            train_with_textbrewer(peer, teacher, model, examples, loss, plan, score, Path(folder))

    def counts(model: Any) -> np.ndarray:
        texts = ground.encoder.encode(dataset.texts("test"))
        right = predicted(ground.logits(model, texts)) == dataset.targets("test")
        return np.stack([right, np.ones_like(right), np.ones_like(right)], 1).astype(np.int64)

    def read() -> None:
        ground.logits(teacher, examples.texts)

    trainers: dict[str, Callable[[Any], None]] = {
        OURS: partial(ours, config=plan),
        GENERAL: partial(theirs, peer=Peer("general")),
        SAME_BATCHES: partial(theirs, peer=Peer("general", own_batches=False)),
        CACHED: partial(theirs, peer=Peer("cached")),
        OURS_BF16: partial(ours, config=replace(plan, precision="bf16")),
    }
    return Bench(case, student, trainers, counts, read)


def _compare(bench: Bench, *, num_rounds: int) -> tuple[list[Result], list[str]]:
    """Train with each in turn, so many times; quality is that of the first round."""
    seconds: dict[str, list[float]] = {name: [] for name in bench.trainers}
    reading, counts = list[float](), dict[str, np.ndarray]()
    for _ in range(num_rounds):
        reading.append(_seconds(bench.read))
        for name, trainer in bench.trainers.items():
            model = copy.deepcopy(bench.student)
            seconds[name].append(_seconds(partial(trainer, model)))
            counts.setdefault(name, bench.counts(model))
    accuracy = pooled_f1(np.stack([counts[name][None] for name in bench.trainers]))
    of = dict(zip(bench.trainers, accuracy.T, strict=True))
    gains = {name: spread(of[OURS] - of[name]) for name in bench.trainers}
    lines = [
        "", f"## {bench.case.title}", "",
        f"The teacher read all texts once in {np.median(reading):.1f} s.", "",
        "| trained by | seconds | test accuracy | ours above it, points |",
        "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for name in bench.trainers:
        value, low, high = (100 * each for each in gains[name])
        gain = "" if name == OURS else f"{value:+.2f} ({low:+.2f} to {high:+.2f})"
        lines.append(f"| {name} | {np.median(seconds[name]):.1f} | {of[name][0]:.4f} | {gain} |")
    return _rows(bench.case, seconds, reading, gains), lines


def _rows(
    case: Case,
    seconds: dict[str, list[float]],
    reading: Sequence[float],
    gains: dict[str, Spread],
) -> list[Result]:
    rows = list[Result]()

    def add(claim: str, values: Spread, unit: str, bar: str, holds: bool) -> None:
        claim = f"{case.title}: {claim}"
        rows.append(Result(claim, *values, unit, bar, bool(holds), [0], COMMAND, machine()))

    value, low, high = (100 * each for each in gains[GENERAL])
    add("test accuracy above TextBrewer's", (value, low, high), "points",
        "interval reaches 0", high >= 0)  # fmt: skip
    ours, whole = np.array(seconds[OURS]), np.array(seconds[OURS]) + np.array(reading)
    ratio = _ratio(ours, seconds[GENERAL])
    add("wall time of training, ours / TextBrewer's", ratio, "×", "≤ 0.5", ratio[0] <= 0.5)
    for claim, mine, name in (
        ("the same, with the teacher's one reading counted", whole, GENERAL),
        ("wall time of training, ours / TextBrewer's on our batches", ours, SAME_BATCHES),
        ("with the reading, ours / TextBrewer's with its own cache", whole, CACHED),
        ("in bf16 with the reading, ours / TextBrewer's",
         np.array(seconds[OURS_BF16]) + np.array(reading), GENERAL),
    ):  # fmt: skip
        add(claim, _ratio(mine, seconds[name]), "×", "shown", True)
    return rows


def _ratio(ours: np.ndarray, theirs: Sequence[float]) -> Spread:
    """Of the medians, and the least and most over turns."""
    by_turn = ours / np.array(theirs)
    return (
        float(np.median(ours) / np.median(theirs)), float(by_turn.min()), float(by_turn.max()),
    )  # fmt: skip


def _seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
