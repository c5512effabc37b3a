"""A small extraction task that the small teacher of conftest learns in seconds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

from small_task import write_rows

ITEMS = ("parcel", "card", "order", "return card")
DAYS = {"today": "today", "tomorrow": "tomorrow", "not today": "never"}
FORMS = (
    "please send {count} {item} {day}",
    "where is my {item} for {day}",
    "can you cancel {count} {item} and {count} {item} {day}",
    "i want a refund for the {item}, {count} late",
    "help what can you do {day}",
    "how much is {count} {item}?",
)
#: What a text of each form wants.
INTENTS = ("send", "find", "cancel", "refund", "help", "price")
FIELDS: list[dict[str, Any]] = [
    {"name": "item", "many": True},
    {
        "name": "day",
        "normaliser": "enumeration",
        "values": {"today": [], "tomorrow": [], "never": ["not today"]},
    },
    {"name": "count", "normaliser": "number", "many": True},
]
FILLERS = ("now", "again", "please", "shop", "late")


def rows(num: int, seed: int) -> list[dict[str, Any]]:
    """Distinct texts with their spans and their intent."""
    rng = random.Random(seed)
    found: dict[str, dict[str, Any]] = {}
    while len(found) < num:
        row = _row(rng)
        found.setdefault(row["text"], row)
    return list(found.values())


def _row(rng: random.Random) -> dict[str, Any]:
    text, spans = "", []
    chosen = rng.choice(FORMS)
    form = chosen + " " + " ".join(rng.sample(FILLERS, 2))
    for part in form.replace("{", "|{").replace("}", "}|").split("|"):
        words = part
        if part.startswith("{"):
            choices = {"item": ITEMS, "day": tuple(DAYS), "count": tuple(map(str, range(1, 60)))}
            label = part.strip("{}")
            words = rng.choice(choices[label])
            spans.append({"start": len(text), "end": len(text) + len(words), "label": label})
        text += words
    return {"text": text, "spans": spans, "intent": INTENTS[FORMS.index(chosen)]}


def write_task(folder: Path, teacher_folder: Path, /, **changes: Any) -> Path:
    """The task folder with data; `changes` replace whole sections. Returns the task file."""
    folder.mkdir(parents=True, exist_ok=True)
    found = rows(260, 1)
    splits = {"train": found[:160], "validation": found[160:210], "test": found[210:]}
    for split, values in splits.items():
        write_rows(folder / f"{split}.jsonl", values)
    write_rows(folder / "edge_cases.jsonl", rows(290, 1)[260:270])
    write_rows(folder / "unlabelled.jsonl", [{"text": r["text"]} for r in rows(290, 1)[270:]])
    strange = {"validation": ["broken shop what never"], "test": ["send send", "shop help a i"]}
    for split, texts in strange.items():
        outside = [{"text": f"{text} {word}"} for text in texts for word in (*FILLERS, "stop it")]
        write_rows(folder / f"outside_{split}.jsonl", outside)
    spec: dict[str, Any] = {
        "name": "orders",
        "kind": "extraction",
        "input": {"languages": [], "max_tokens": 48},
        "output": {"fields": FIELDS},
        "data": {
            "files": {split: f"{split}.jsonl" for split in splits},
            "unlabelled": "unlabelled.jsonl",
        },
        "boundary": {
            "out_of_bounds": {s: f"outside_{s}.jsonl" for s in strange},
            "edge_cases": "edge_cases.jsonl",
            "false_abstention_rate": 0.1,
        },
        "teacher": {
            "source": f"folder:{teacher_folder}", "num_epochs": 20, "learning_rate": 0.003,
            "batch_size": 16,
        },
        "student": {"family": "truncated", "options": {"layers": [0]}},
        "distillation": {"augmentation": {"num_texts": 200}},
        "requirements": {"retention": 0.6, "latency_p95_ms": 50},
    }  # fmt: skip
    spec |= changes
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path
