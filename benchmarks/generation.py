"""Small language models on SNIPS as JSON: distilled, shipped as GGUF, compared with their peers.

python benchmarks/generation.py            seed 0; writes docs/results (seeds by --seeds)
python benchmarks/generation.py --quick    a cut of the data in under a minute; writes nothing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from edgedistill.cli.progress import PlainLines
from edgedistill.pipeline.packaging import machine
from edgedistill.pipeline.run import RunResult, run_task
from generation_offline import offline_rows
from generation_pooled import Spread, pooled_gain, pooled_retention, pooled_score
from generation_runtime import Row, chunked_memory, runtime_rows, stories_row
from results import Result, write_results
from snips import SCHEMA_FILE, write_snips

COMMAND = "python benchmarks/generation.py"
TEACHER = {
    "hidden_size": 128,
    "num_layers": 5,
    "num_heads": 4,
    "num_kv_heads": 2,
    "intermediate_size": 352,
}
STUDENT = {
    "hidden_size": 64,
    "num_layers": 3,
    "num_heads": 2,
    "num_kv_heads": 1,
    "intermediate_size": 160,
}
VOCABULARY = 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a cut of the data; writes nothing")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--work", type=Path, default=Path("runs/generation"))
    arguments = parser.parse_args()
    seeds = [0] if arguments.quick else arguments.seeds
    data = arguments.work / ("cut" if arguments.quick else "snips")
    write_snips(data, cut=arguments.quick)
    tasks = [_write_task(seed, data, quick=arguments.quick) for seed in seeds]
    listener = PlainLines(sys.stderr)
    runs = [run_task(task, runs_dir=arguments.work, listener=listener) for task in tasks]
    offline = offline_rows(tasks[0], arguments.work)
    results = _results(runs, seeds, offline, quick=arguments.quick)
    if not arguments.quick:
        write_results("generation", "Generation: SNIPS as JSON", results, _notes(runs, seeds))
    for r in results:
        mark, spread = "✓" if r.holds else "✗", f"[{r.low:.4f}, {r.high:.4f}]"
        print(f"{mark} {r.claim}: {r.value:.4f} {spread} {r.unit} ({r.bar})")
    return 0


def _write_task(seed: int, data: Path, *, quick: bool) -> Path:
    splits = ("train", "validation", "test")
    spec = {
        "name": f"snips-{'quick' if quick else 'json'}-{seed}",
        "kind": "generation",
        "description": "Intent and slots of a sentence as JSON (SNIPS, official splits)",
        "seed": seed,
        "input": {"max_tokens": 64, "languages": []},
        "output": {
            "purpose": "json",
            "schema_file": SCHEMA_FILE,
            "max_new_tokens": 48 if quick else 96,
        },
        "boundary": {"out_of_bounds": {s: f"outside_{s}.jsonl" for s in splits[1:]}},
        "data": {"files": {s: f"{s}.jsonl" for s in splits}},
        "teacher": {
            "vocabulary_size": VOCABULARY,
            "shape": TEACHER,
            "training": _training(3 if quick else 8, 3e-3),
        },
        "student": {
            "shape": STUDENT,
            "training": _training(3 if quick else 14, 5e-3),
            "weight_types": ["f16", "q8_0"] if quick else ["f16", "q8_0", "q5_0", "q4_0"],
        },
        "requirements": {"retention": 0.95, "size_mb": 1.5, "valid": 0.95},
    }
    path = data / f"{spec['name']}.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path


def _training(num_epochs: int, rate: float) -> dict[str, Any]:
    return {
        "num_epochs": num_epochs, "learning_rate": rate, "patience": 4, "precision": "bf16",
    }  # fmt: skip


def _results(
    runs: Sequence[RunResult], seeds: list[int], offline: Sequence[Row], *, quick: bool
) -> list[Result]:
    rows: list[Result] = []

    def add(claim: str, values: Spread, unit: str, bar: str, holds: bool) -> None:
        rows.append(Result(claim, *values, unit, bar, bool(holds), seeds, COMMAND, machine()))

    share = _parameters(STUDENT) / _parameters(TEACHER)
    add(
        "SNIPS, student's share of the teacher's parameters",
        (share,) * 3,
        "",
        "≤ 0.2",
        share <= 0.2,
    )
    _add_scores(add, runs)
    for claim, values, unit, bar, holds in runtime_rows(runs[0], num_prompts=8 if quick else 200):
        add(claim, values, unit, bar, holds)
    for row in offline:
        add(*row)
    add(*stories_row())
    add(*chunked_memory())
    return rows


def _add_scores(add: Any, runs: Sequence[RunResult]) -> None:
    """Test scores averaged over seeds, with intervals over test rows."""
    answers = [_answers(run) for run in runs]
    add("SNIPS, teacher's field F1 on the test", pooled_score(answers, "teacher"), "", "shown",
        True)  # fmt: skip
    kept = pooled_retention(answers, "teacher", "shipped")
    add("SNIPS, bundle's share of the teacher's field F1", kept, "", "≥ 0.97", kept[0] >= 0.97)
    more = pooled_gain(answers, "control", "shipped")
    add("SNIPS, field F1 above the same student without distillation", more, "",
        "interval above 0", more[1] > 0)  # fmt: skip
    recall = [run.measurements["out_of_bounds_auroc"] for run in runs]
    add("SNIPS, out-of-bounds AUROC (CLINC150's out-of-scope queries)", _spread(recall), "",
        "shown", True)  # fmt: skip


def _answers(run: RunResult) -> dict[str, np.ndarray]:
    with np.load(run.answers) as archive:
        return {key: archive[key] for key in archive.files}


def _parameters(shape: dict[str, int]) -> int:
    from edgedistill.models.language.config import LanguageModelConfig

    return LanguageModelConfig(**shape).num_parameters(VOCABULARY)


def _spread(values: Sequence[float]) -> Spread:
    """Mean, least and most over seeds."""
    return float(np.mean(values)), float(min(values)), float(max(values))


def _notes(runs: Sequence[RunResult], seeds: Sequence[int]) -> list[str]:
    lines = [
        "Scores are means over seeds; their bounds are 95 % bootstrap intervals over test rows, "
        "the same rows drawn for every seed. "
        f"Teacher {_parameters(TEACHER):,} parameters, student {_parameters(STUDENT):,}, both "
        "trained from nothing; every model answers through llama.cpp by the same grammar. Not "
        "measured yet: English to Japanese. The live teacher is measured with the first seed.",
        "",
        "| seed | teacher | bundle | control | MB | p50 / p95 ms | valid | types tried |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run, seed in zip(runs, seeds, strict=True):
        m, f1 = run.measurements, run.measurements["score"]
        lines.append(
            f"| {seed} | {f1['teacher']:.4f} | {f1['shipped']:.4f} | {f1['control']:.4f} | "
            f"{m['size_bytes'] / 1e6:.2f} | {m['latency']['p50_ms']:.1f} / "
            f"{m['latency']['p95_ms']:.1f} | {m['valid']:.1%} | {m['types']} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
