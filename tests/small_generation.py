"""A small generation task: orders of one thing as JSON, learned from nothing in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

WORDS = ("bread", "milk", "eggs", "rice", "tea", "soap")
WAYS = ("{n} {w} please", "i want {n} {w}", "send {n} {w} now", "{w} {n}", "can i have {n} {w}")
SCHEMA = {
    "type": "object",
    "properties": {"item": {"enum": list(WORDS)}, "n": {"type": "integer", "minimum": 0}},
    "required": ["item", "n"],
    "additionalProperties": False,
}


def rows() -> list[dict[str, str]]:
    """Every way to ask for 1 to 9 of every thing: 270 rows."""
    return [
        {
            "prompt": way.format(n=n, w=word),
            "response": json.dumps({"item": word, "n": n}, separators=(",", ":")),
        }
        for n in range(1, 10)
        for word in WORDS
        for way in WAYS
    ]


def write_rows(path: Path, found: list[dict[str, Any]]) -> None:
    """Rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")


def write_task(folder: Path, **changes: Any) -> Path:
    """Data, schema and task file; `changes` replace keys of the task."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = rows()
    splits = {"validation": everything[3::7], "test": everything[5::7]}
    held = {row["prompt"] for split in splits.values() for row in split}
    splits["train"] = [row for row in everything if row["prompt"] not in held]
    for name, found in splits.items():
        write_rows(folder / f"{name}.jsonl", found)
    outside = [{"prompt": text} for text in ("who won the match", "sing me a song", "x y z w v")]
    for split in ("validation", "test"):
        write_rows(folder / f"outside_{split}.jsonl", outside)
    (folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    shape = {"num_heads": 2, "num_kv_heads": 1}
    spec = {
        "name": "orders",
        "kind": "generation",
        "input": {"max_tokens": 32, "languages": []},
        "output": {"purpose": "json", "schema_file": "schema.json", "max_new_tokens": 32},
        "boundary": {
            "out_of_bounds": {s: f"outside_{s}.jsonl" for s in ("validation", "test")},
            "false_abstention_rate": 0.1,
        },
        "data": {"files": {s: f"{s}.jsonl" for s in ("train", "validation", "test")}},
        "teacher": {
            "vocabulary_size": 340,
            "shape": {**shape, "hidden_size": 64, "num_layers": 2, "intermediate_size": 128},
            "training": {
                "num_epochs": 25,
                "patience": 9,
                "learning_rate": 5e-3,
                "batch_tokens": 512,
            },
        },
        "student": {
            "shape": {**shape, "hidden_size": 32, "num_layers": 2, "intermediate_size": 64},
            "training": {
                "num_epochs": 40,
                "patience": 9,
                "learning_rate": 1e-2,
                "batch_tokens": 512,
            },
            "weight_types": ["f16", "q8_0", "q4_k"],
        },
        "requirements": {"retention": 0.5, "size_mb": 1.0, "valid": 0.5},
    } | changes
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path
