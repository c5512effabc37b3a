"""A MiniLM that tags SNIPS' slots, compressed without a smaller student.

OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/compression_tagger.py
    writes docs/results/compression-tagger.*
python benchmarks/compression_tagger.py --quick    a cut; writes nothing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from compression_page import over
from edgedistill.cli.progress import PlainLines
from edgedistill.core.files import write_text
from edgedistill.pipeline.packaging import machine
from edgedistill.pipeline.run import RunResult, run_task
from extraction import Row, passes_of, size_of, span_counts, teacher_size_of
from extraction_tasks import SLOTS
from extraction_tasks import write_task as write_slots
from results import Result, tell, write_results
from strategies_pooled import pooled_f1, spread

COMMAND = "python benchmarks/compression_tagger.py"
#: Ways by name: what their section `compress` has, and the share of span F1 that is to be kept.
WAYS: dict[str, tuple[Any, float]] = {
    "fast": ("fast", 0.98),
    "light": (
        ["prune_vocabulary", {"name": "prune_encoder", "share": 0.4, "rounds": 2},
         "int8_tables", "dynamic_int8", "weight_int8"],
        0.985,
    ),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a cut of the data; writes nothing")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--work", type=Path, default=Path("runs/extraction"))
    arguments = parser.parse_args()
    quick, work = arguments.quick, arguments.work
    seeds = [0] if quick else arguments.seeds
    command = f"{COMMAND} --seeds {' '.join(map(str, seeds))} --ways {' '.join(arguments.ways)}"
    listener = PlainLines(sys.stderr)
    runs = {
        way: [
            run_task(write_task(way, seed, work, quick=quick), runs_dir=work, listener=listener)
            for seed in seeds
        ]
        for way in arguments.ways
    }
    results = [
        Result(claim, *values, unit, bar, bool(holds), seeds, command, machine())
        for claim, values, unit, bar, holds in rows_of(runs)
    ]
    page = notes(runs, seeds)
    if not quick:
        write_results("compression-tagger", "A tagger compressed", results, page)
    print("\n".join(page))
    tell(results)
    return 0


def write_task(way: str, seed: int, work: Path, *, quick: bool) -> Path:
    """The extraction benchmark's slots and tagger, which is compressed instead of distilled."""
    spec = yaml.safe_load(write_slots(SLOTS, seed, work, quick=quick).read_text(encoding="utf-8"))
    section, kept = WAYS[way]
    # What the mean over seeds must reach, a single seed's lower bound need not.
    spec |= {
        "name": f"snips-tagger-{way}-{seed}", "compress": section,
        "requirements": {"retention": round(kept - 0.01, 3)},
    }  # fmt: skip
    del spec["student"]
    path = work / f"{spec['name']}.yaml"
    write_text(path, yaml.safe_dump(spec, sort_keys=False))
    return path


def rows_of(runs: Mapping[str, Sequence[RunResult]]) -> list[Row]:
    """What each way keeps, and what it saves."""
    rows = list[Row]()
    for way, made in runs.items():
        models = ("teacher", "shipped")
        counts = [[span_counts(run)[model] for run in made] for model in models]
        teacher, shipped = pooled_f1(np.array(counts)).T
        kept, bar = spread(shipped / np.maximum(teacher, 1e-9)), WAYS[way][1]
        rows += [
            (f"`{way}`: share of the tagger's span F1 that is kept", kept, "", f"≥ {bar:.1%}",
             kept[0] >= bar),
            (f"`{way}`: times smaller (fp32 ONNX file over model and tokenizer)",
             over([teacher_size_of(run) / size_of(run) for run in made]), "×", "shown", True),
            (f"`{way}`: times faster (p50, one thread, one text, everything included, A B A B)",
             over([_speed_up(run) for run in made]), "×", "shown", True),
        ]  # fmt: skip
    return rows


def notes(runs: Mapping[str, Sequence[RunResult]], seeds: Sequence[int]) -> list[str]:
    """The page below its claims."""
    lines = [
        "The tagger of [Extraction](extraction.md): all-MiniLM-L6-v2, fine-tuned on SNIPS with a "
        "head on every token, then compressed as `compress:` in its task file says, no smaller "
        "student. Bundles are scored on the test split as they ship. What is kept: pooled over "
        "seeds, with 95 % bootstrap intervals over test rows; other bounds are least and most over "
        "the seeds.",
        "",
        "| way | seed | tagger's F1 | bundle's F1 | same network, spans only | MB | p50 / p95 ms "
        "| passes kept | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for way, made in runs.items():
        for run, seed in zip(made, seeds, strict=True):
            scores = [pooled_f1(rows[None, None])[0, 0] for rows in span_counts(run).values()]
            latency = run.measurements["latency"]
            lines.append(
                f"| {way} | {seed} | {' | '.join(f'{score:.4f}' for score in scores)} | "
                f"{size_of(run) / 1e6:.2f} | {latency['p50_ms']:.2f} / {latency['p95_ms']:.2f} | "
                f"{passes_of(run)} | {'SHIP' if run.ships else 'DO NOT SHIP'} |"
            )
    return lines


def _speed_up(run: RunResult) -> float:
    whole, mine = (run.measurements[key]["p50_ms"] for key in ("teacher_latency", "latency"))
    return float(whole / mine)


if __name__ == "__main__":
    sys.exit(main())
