"""A small task of three classes that the small teacher of conftest learns in seconds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import yaml

PHRASES = {
    "order": "where is my order when parcel come today late",
    "cancel": "please stop cancel it now never again today",
    "refund": "money back refund how much card return today",
}
FILLERS = ["the", "a", "i", "to", "for", "what", "can", "you", "help"]


class FinishedRun(NamedTuple):
    """A run of the small task; shared by the tests of a session, which must not change it."""

    task: Path
    folder: Path

    @property
    def runs_dir(self) -> Path:
        """Where the run's folder and the store of stage results lie."""
        return self.folder.parent


def rows(num_a_class: int, seed: int) -> list[dict[str, str]]:
    """Distinct texts of each class."""
    rng = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < num_a_class * len(PHRASES):
        label = list(PHRASES)[len(found) % len(PHRASES)]
        words = rng.sample(PHRASES[label].split(), 3) + rng.sample(FILLERS, 3)
        rng.shuffle(words)
        found.setdefault(" ".join(words), label)
    return [{"text": text, "label": label} for text, label in found.items()]


def write_rows(path: Path, values: list[dict[str, Any]]) -> None:
    """JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in values), encoding="utf-8")


def write_task(folder: Path, teacher_folder: Path, /, **changes: Any) -> Path:
    """The task folder with data; `changes` replace whole sections. Returns the task file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "train.jsonl", rows(40, 1))
    write_rows(folder / "validation.jsonl", rows(20, 2))
    write_rows(folder / "test.jsonl", rows(20, 3))
    strange = {"validation": ["broken shop card parcel never"], "test": ["send send", "shop help"]}
    for split, texts in strange.items():
        outside = [{"text": f"{text} {word}"} for text in texts for word in FILLERS]
        write_rows(folder / f"outside_{split}.jsonl", outside)
    spec: dict[str, Any] = {
        "name": "small",
        "input": {"languages": []},
        "data": {"files": {s: f"{s}.jsonl" for s in ("train", "validation", "test")}},
        "boundary": {
            "out_of_bounds": {s: f"outside_{s}.jsonl" for s in strange},
            "false_abstention_rate": 0.1,
        },
        "teacher": {
            "source": f"folder:{teacher_folder}", "num_epochs": 6, "learning_rate": 0.003,
            "batch_size": 16,
        },
        "student": {
            "family": "static",
            "options": {"token_size": 16, "num_buckets": 64, "hidden_size": 32},
        },
        "distillation": {"augmentation": {"num_texts": 200}},
        "requirements": {"retention": 0.6, "latency_p95_ms": 50},
    }  # fmt: skip
    spec |= changes
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return path
