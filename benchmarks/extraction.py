"""Slots of SNIPS: what a small bundle keeps of its teacher, and what a second head costs.

OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/extraction.py    writes docs/results/extraction.*
python benchmarks/extraction.py --quick                           a cut; writes nothing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgedistill.cli.progress import PlainLines
from edgedistill.pipeline.packaging import machine
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.pipeline.stages.variants import read_variants
from edgedistill.runtime.loading import load
from edgedistill.runtime.measuring import alternate_ms
from extraction_tasks import BOTH, INTENTS, SLOTS, texts_of, write_task
from results import Result, tell, write_results
from strategies_pooled import Spread, pooled_f1, spread

COMMAND = "python benchmarks/extraction.py"
#: Share of the teacher's span F1 that the student is to keep, of its bytes that it may have.
KEPT, BYTES = 0.985, 0.25
#: Latency of one pass with both heads over that of a bundle with one.
MOST_LATENCY = 1.15
NUM_TIMED, NUM_ROUNDS = 300, 15
MODELS = ("teacher", "shipped", "control")
Row = tuple[str, Spread, str, str, bool]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a cut of the data; writes nothing")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/extraction"))
    arguments = parser.parse_args()
    quick, work = arguments.quick, arguments.work
    seeds = [0] if quick else arguments.seeds
    command = f"{COMMAND} --seeds {' '.join(map(str, seeds))}"

    def run(kind: str, seed: int) -> RunResult:
        task = write_task(kind, seed, work, quick=quick)
        return run_task(task, runs_dir=work, listener=PlainLines(sys.stderr))

    slots = [run(SLOTS, seed) for seed in seeds]
    heads = {kind: run(kind, seeds[0]) for kind in (BOTH, INTENTS)} | {SLOTS: slots[0]}
    rows = slot_rows(slots)
    told = [(row, seeds) for row in rows]
    told += [(row, seeds[:1]) for row in head_rows(heads, texts_of(work, quick=quick))]
    results = [
        Result(claim, *values, unit, bar, bool(holds), list(over), command, machine())
        for (claim, values, unit, bar, holds), over in told
    ]
    page = notes(slots, seeds, heads)
    if not quick:
        write_results("extraction", "Extraction", results, page)
    print("\n".join(page))
    tell(results)
    return 0


def slot_rows(runs: Sequence[RunResult]) -> list[Row]:
    """Span F1 of teacher, bundle and control, averaged over seeds, and the bundle's bytes."""
    counts = [[span_counts(run)[model] for run in runs] for model in MODELS]
    teacher, shipped, control = pooled_f1(np.array(counts)).T
    kept = spread(shipped / np.maximum(teacher, 1e-9))
    more = tuple(100 * value for value in spread(shipped - control))
    shares = [size_of(run) / teacher_size_of(run) for run in runs]
    share = (float(np.mean(shares)), min(shares), max(shares))
    return [
        ("SNIPS slots, teacher's span F1 on the test", spread(teacher), "", "shown", True),
        ("SNIPS slots, bundle's share of the teacher's span F1", kept, "", f"≥ {KEPT}",
         kept[0] >= KEPT),
        ("SNIPS slots, bundle's model and tokenizer over the teacher's fp32 ONNX file, bytes",
         share, "", f"≤ {BYTES}", share[2] <= BYTES),
        ("SNIPS slots, span F1 above the same student without distillation",
         (more[0], more[1], more[2]), "points", "interval above 0", more[1] > 0),
    ]  # fmt: skip


def head_rows(runs: Mapping[str, RunResult], texts: Sequence[str]) -> list[Row]:
    """One pass for intent and slots against a bundle for each, in turn in one process."""
    bundles = {kind: load(run.bundle) for kind, run in runs.items()}

    def ask(kind: str) -> Callable[[str], object]:
        return lambda text: bundles[kind].predict([text])

    kinds = (BOTH, SLOTS, INTENTS)
    rounds = [
        dict(zip(kinds, alternate_ms([ask(k) for k in kinds], texts, rounds=1), strict=True))
        for _ in range(NUM_ROUNDS)
    ]
    rows = list[Row]()
    for kind, title in ((SLOTS, "slots alone"), (INTENTS, "intents alone")):
        ratios = [float(np.median(r[BOTH]) / np.median(r[kind])) for r in rounds]
        middle = (float(np.median(ratios)), min(ratios), max(ratios))
        rows.append((f"intent and slots in one pass over {title}, p50 (A B A B)", middle, "×",
                     f"≤ {MOST_LATENCY}", middle[0] <= MOST_LATENCY))  # fmt: skip
    both = [float(np.median(r[BOTH]) / (np.median(r[SLOTS]) + np.median(r[INTENTS])))
            for r in rounds]  # fmt: skip
    middle = (float(np.median(both)), min(both), max(both))
    rows.append(("intent and slots in one pass over two bundles one after the other, p50", middle,
                 "×", "shown", True))  # fmt: skip
    return rows


def notes(
    slots: Sequence[RunResult], seeds: Sequence[int], heads: Mapping[str, RunResult]
) -> list[str]:
    """The page below its claims."""
    lines = [
        "The splits of SNIPS, all rows; validation and test sentences that stand in the training "
        "split are left out. Teacher: all-MiniLM-L6-v2, fine-tuned with a head on every token; "
        "student: three of its six layers. Scores are means over seeds, with 95 % bootstrap "
        "intervals over test rows, the same rows for every model and seed; spans count when label, "
        "start and end are right. The bundle is scored as it ships. Without distillation the same "
        "student learns the labels alone. Latencies: one text, one thread, everything included; "
        f"the median of {NUM_ROUNDS} rounds of {NUM_TIMED} test texts, low and high are the least "
        "and most of a round.",
        "",
        "| bundle | seed | teacher F1 | bundle F1 | control F1 | MB | p50 / p95 ms | passes kept "
        "| verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    named = [(SLOTS, run, seed) for run, seed in zip(slots, seeds, strict=True)]
    for kind, run, seed in (*named, (BOTH, heads[BOTH], seeds[0])):
        scores = [pooled_f1(span_counts(run)[model][None, None])[0, 0] for model in MODELS]
        latency = run.measurements["latency"]
        told = " | ".join(f"{score:.4f}" for score in scores)
        lines.append(
            f"| {kind} | {seed} | {told} | {size_of(run) / 1e6:.2f} | "
            f"{latency['p50_ms']:.2f} / {latency['p95_ms']:.2f} | {passes_of(run)} | "
            f"{'SHIP' if run.ships else 'DO NOT SHIP'} |"
        )
    with np.load(heads[BOTH].answers) as answers:
        teacher, shipped = (answers[f"{m}.labels"].mean() for m in ("teacher", "shipped"))
    alone = heads[INTENTS].measurements
    lines += [
        "",
        f"Intents: in one pass with the slots {shipped:.2%} of the test rows are right "
        f"(its teacher: {teacher:.2%}), alone {alone['accuracy']:.2%} "
        f"(its teacher: {alone['teacher_accuracy']:.2%}); seed {seeds[0]}.",
    ]
    return lines


def span_counts(run: RunResult) -> dict[str, np.ndarray]:
    """Right, given and expected spans of each test row by model, int [rows, 3]."""
    with np.load(run.answers) as archive:
        return {model: archive[model] for model in MODELS}


def size_of(run: RunResult) -> int:
    return int(run.measurements["size_bytes"])


def teacher_size_of(run: RunResult) -> int:
    (file,) = (s.folder / "teacher.onnx" for s in run.stages if s.name == "teacher-file")
    return file.stat().st_size


def passes_of(run: RunResult) -> str:
    (folder,) = (s.folder for s in run.stages if s.name.startswith("artefact-"))
    (kept,) = (variant for variant in read_variants(folder) if variant.kept)
    return " + ".join(kept.passes) or "full precision"


if __name__ == "__main__":
    sys.exit(main())
