"""A small generation task on a pretrained Llama: little questions about who has what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

import small_generation

NAMES = ("Tom", "Lily", "Ben", "Mom", "Anna")
THINGS = ("ball", "dog", "hat", "cake", "book", "car")
COLOURS = ("red", "big", "blue", "new")


def rows() -> list[dict[str, str]]:
    """120 rows, two ways to ask."""
    return [
        {
            "prompt": f"{name} had a {colour} {thing}. What did {name} have?",
            "response": f"{name} had a {colour} {thing}.",
        }
        for name in NAMES
        for thing in THINGS
        for colour in COLOURS
    ]


def write_task(folder: Path, source: str, *, teacher: Any = None, **changes: Any) -> Path:
    """Data and task file; `teacher` adds to the teacher's keys, `changes` replace the task's."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = rows()
    splits = {"validation": everything[3::7], "test": everything[5::7]}
    held = {row["prompt"] for split in splits.values() for row in split}
    splits["train"] = [row for row in everything if row["prompt"] not in held]
    for name, found in splits.items():
        small_generation.write_rows(folder / f"{name}.jsonl", found)
    training = {"num_epochs": 7, "patience": 9, "learning_rate": 1e-2, "batch_tokens": 512}
    shape = {"num_heads": 4, "num_kv_heads": 2, "hidden_size": 48, "num_layers": 3,
             "intermediate_size": 128}  # fmt: skip
    spec = {
        "name": "belongings",
        "kind": "generation",
        "template": "tokenizer",
        "input": {"max_tokens": 64, "languages": []},
        "output": {"purpose": "question_answering", "max_new_tokens": 32},
        "data": {"files": {split: f"{split}.jsonl" for split in splits}},
        "boundary": {"false_abstention_rate": 0.1},
        "teacher": {"source": source, "training": training} | (teacher or {}),
        "student": {
            "initialise": "teacher",
            "shape": shape,
            "training": training,
            "weight_types": ["f16", "q8_0"],
        },
        "requirements": {"retention": None},
    } | changes
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path
