"""A small language model cut to half, trained to recover and rounded to four bits: SNIPS as JSON.

OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/compression_language.py
    writes docs/results/compression-language.*
python benchmarks/compression_language.py --quick    a cut of SNIPS; writes nothing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from compression_language_files import (
    AWQ,
    FULL,
    NAME,
    PLAIN,
    TYPES,
    Measured,
    load,
    measure,
    save,
)
from edgedistill.cli.progress import PlainLines
from edgedistill.core.files import write_text
from edgedistill.pipeline.packaging import machine
from generation_pooled import (
    Ratio,
    Spread,
    pooled_gain,
    pooled_ratio,
    pooled_retention,
    pooled_score,
)
from generation_tasks import SNIPS
from kept_seeds import pooled
from results import Result, tell, write_results

COMMAND = "python benchmarks/compression_language.py"
#: Of five layers three, of two groups of two heads one, of 352 units 256: widths that groups of 128
#: divide. Heads are as wide as the teacher's, 32.
STUDENT = {
    "hidden_size": 128, "num_layers": 3, "num_heads": 2, "num_kv_heads": 1,
    "intermediate_size": 256,
}  # fmt: skip
EPOCHS, QUICK_EPOCHS = 10, 3
MOST_PARAMETERS, LEAST_KEPT = 0.5, 0.95
ABOVE = "interval above 0"
Row = tuple[str, Spread, str, str, bool]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a cut of the data; writes nothing")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/compression-language"))
    parser.add_argument(
        "--pool", action="store_true", help="a page of the seeds that were measured before, too"
    )
    arguments = parser.parse_args()
    quick, work = arguments.quick, arguments.work
    numbers = [0] if quick else arguments.seeds
    listener = PlainLines(sys.stderr)
    seeds: Sequence[Measured] = [
        measure(write_task(seed, work, quick=quick), work, listener, num_timed=8 if quick else 60)
        for seed in numbers
    ]
    if not quick:
        seeds = pooled(NAME, seeds, save, load, pool=arguments.pool)
    numbers = [each.seed for each in seeds]
    command = f"{COMMAND} --seeds {' '.join(map(str, numbers))}"
    results = [
        Result(claim, *values, unit, bar, bool(holds), numbers, command, machine())
        for claim, values, unit, bar, holds in rows_of(seeds)
    ]
    if not quick:
        write_results(NAME, "A language model cut to half, in four bits", results, notes(seeds))
    tell(results)
    return 0


def write_task(seed: int, work: Path, *, quick: bool) -> Path:
    """The generation benchmark's task and teacher, with a student cut out of that."""
    task = SNIPS.write_task(seed, work, quick=quick)
    spec: dict[str, Any] = yaml.safe_load(task.read_text(encoding="utf-8"))
    spec["name"] = f"snips-half-{'quick-' * quick}{seed}"
    spec["student"] = {
        "initialise": "teacher",
        "shape": dict(STUDENT),
        "training": {
            "num_epochs": QUICK_EPOCHS if quick else EPOCHS, "patience": 4, "precision": "bf16",
        },
        "weight_types": list(TYPES),
    }  # fmt: skip
    path = task.with_name(f"{spec['name']}.yaml")
    write_text(path, yaml.safe_dump(spec, sort_keys=False))
    return path


def rows_of(seeds: Sequence[Measured]) -> list[Row]:
    """Every claim; scores and distances are means over seeds, their bounds over test rows."""
    metric, answers = SNIPS.metric, [seed.answers for seed in seeds]
    share = seeds[0].parameters["student"] / seeds[0].parameters["teacher"]
    kept = {kind: pooled_retention(metric, answers, "teacher", kind) for kind in TYPES}
    more = _points(pooled_gain(metric, answers, PLAIN, AWQ))
    equal = _points(pooled_ratio(_same(seeds, AWQ), _same(seeds, PLAIN)))
    nearer = pooled_ratio(_apart(seeds, PLAIN), _apart(seeds, AWQ))
    of_teacher = "share of the teacher's field F1, student as"
    return [
        ("student's share of the teacher's parameters (depth, heads, units)", (share,) * 3, "",
         f"≤ {MOST_PARAMETERS}", share <= MOST_PARAMETERS),
        ("teacher's field F1 on the test", pooled_score(metric, answers, "teacher"), "", "shown",
         True),
        *((f"{of_teacher} {kind}", kept[kind], "", "shown", True) for kind in TYPES if kind != AWQ),
        (f"{of_teacher} {AWQ}", kept[AWQ], "", f"≥ {LEAST_KEPT}", kept[AWQ][0] >= LEAST_KEPT),
        ("field F1, AWQ above plain rounding", more, "points", ABOVE, more[1] > 0),
        ("tokens equal to full precision, AWQ above plain rounding", equal, "points", ABOVE,
         equal[1] > 0),
        ("divergence from full precision, plain rounding above AWQ", nearer, "nats a token", ABOVE,
         nearer[1] > 0),
        *(row for kind in TYPES[1:] for row in _distances(seeds, kind)),
        *_sizes_and_speed(seeds),
    ]  # fmt: skip


def _distances(seeds: Sequence[Measured], kind: str) -> list[Row]:
    """How far a type is from the student in full precision."""
    lost = pooled_ratio(_surprisal(seeds, kind), _surprisal(seeds, FULL))
    return [
        (f"tokens equal to full precision, {kind}", pooled_ratio(_same(seeds, kind)), "", "shown",
         True),
        (f"divergence from full precision, {kind}", pooled_ratio(_apart(seeds, kind)),
         "nats a token", "shown", True),
        (f"log perplexity of the right answers above full precision's, {kind}", lost,
         "nats a token", "shown", True),
    ]  # fmt: skip


def _same(seeds: Sequence[Measured], kind: str) -> list[Ratio]:
    found = [seed.distances[kind] for seed in seeds]
    return [(distances.same, distances.written) for distances in found]


def _apart(seeds: Sequence[Measured], kind: str) -> list[Ratio]:
    found = [seed.distances[kind] for seed in seeds]
    return [(distances.divergence, distances.learned) for distances in found]


def _surprisal(seeds: Sequence[Measured], kind: str) -> list[Ratio]:
    found = [seed.distances[kind] for seed in seeds]
    return [(distances.surprisal, distances.learned) for distances in found]


def _points(values: Spread) -> Spread:
    value, low, high = (100 * each for each in values)
    return value, low, high


def _sizes_and_speed(seeds: Sequence[Measured]) -> list[Row]:
    """Bytes are the same for every seed up to some names; times are those of the first seed."""
    size, rates = seeds[0].size_bytes, seeds[0].rates

    def bytes_of(kind: str, other: str) -> Spread:
        return (size[kind] / size[other],) * 3

    return [
        (f"bytes, {PLAIN} against the student's fp32", bytes_of(PLAIN, FULL), "", "shown", True),
        (f"bytes, {AWQ} against the student's fp32", bytes_of(AWQ, FULL), "", "shown", True),
        (f"bytes, {AWQ} against the teacher's fp32", bytes_of(AWQ, "teacher"), "", "shown", True),
        (f"tokens a second, {AWQ}", rates[AWQ], "1/s", "shown", True),
        (f"tokens a second, {AWQ} against the student's fp32 (A B A B)", rates[FULL], "×", "shown",
         True),
        (f"tokens a second, {AWQ} against plain rounding (A B A B)", rates[PLAIN], "×", "shown",
         True),
        (f"tokens a second, {AWQ} against the teacher's fp32 (A B A B)", rates["teacher"], "×",
         "shown", True),
    ]  # fmt: skip


def notes(seeds: Sequence[Measured]) -> list[str]:
    """What was compared, and what each seed came to."""
    metric, first = SNIPS.metric, seeds[0]
    lines = [
        f"The teacher is that of [Generation](generation.md) ({first.parameters['teacher']:,} "
        f"parameters). The student ({first.parameters['student']:,}) is cut out of it: three of "
        "five layers, one of two groups of heads, 256 of 352 units, by the size of their "
        "activations on 256 training rows; then it is distilled. All files run in ONNX Runtime on "
        "one thread and answer by the task's grammar; the test split is scored once by each. "
        "Table and head have eight bits in every file but the first. Bounds are 95 % bootstrap "
        "intervals over test rows, the same rows for every seed; of speed, the least and the most "
        "of fifteen rounds with the first seed. What each seed came to row by row stands in "
        "`seeds/compression-language-N.npz`; measured by revision "
        + ", ".join(f"{each.revision} (seed {each.seed})" for each in seeds)
        + ".",
        "",
        "| seed | file | field F1 on the test | kB | on validation: score, same tokens, verdict |",
        "| --- | --- | --- | --- | --- |",
    ]
    for seed in seeds:
        for name in ("teacher", *TYPES):
            score = pooled_score(metric, [seed.answers], name)[0]
            kilobytes = f"{seed.size_bytes[name] / 1e3:,.0f}"
            said = seed.validated.get(name, "")
            lines.append(f"| {seed.seed} | {name} | {score:.4f} | {kilobytes} | {said} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
