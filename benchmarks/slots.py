"""SNIPS as an extraction task: a sentence in, its slots out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SPLITS = ("train", "validation", "test")
#: Of a cut: intents with few slots, and rows of each split.
CUT_INTENTS = ("RateBook", "SearchCreativeWork")
CUT_ROWS = {"train": 400, "validation": 40, "test": 40}


def write_slots(folder: Path, *, every: int = 1, cut: bool = False) -> list[str]:
    """Write the splits as texts with spans, and return the names of the fields.

    Test and validation sentences that stand in the training split too are left out, as in
    `write_snips`.

    Args:
        every: of the training rows each so-manieth is kept.
        cut: a few rows of two intents.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits = {split: _rows(SHARED / "snips" / f"{split}.jsonl") for split in SPLITS}
    known = {row["text"] for row in splits["train"]}
    for split in SPLITS[1:]:
        splits[split] = [row for row in splits[split] if row["text"] not in known]
    splits["train"] = splits["train"][::every]
    if cut:
        splits = {
            split: [row for row in rows if row["intent"] in CUT_INTENTS][: CUT_ROWS[split]]
            for split, rows in splits.items()
        }
    for split, rows in splits.items():
        lines = [
            json.dumps({"text": row["text"], "spans": row["spans"]}, ensure_ascii=False)
            for row in rows
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return sorted({s["label"] for rows in splits.values() for row in rows for s in row["spans"]})


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
