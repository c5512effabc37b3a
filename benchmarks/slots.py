"""SNIPS as an extraction task: a sentence in, its slots out."""

from __future__ import annotations

from pathlib import Path

from shared_rows import write_rows
from snips import snips_splits


def write_slots(folder: Path, *, every: int = 1, cut: bool = False) -> list[str]:
    """Write the splits as texts with spans, and return the names of the fields; the arguments are
    those of `snips_splits`."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = snips_splits(every=every, cut=cut)
    for split, rows in splits.items():
        found = ({"text": row["text"], "spans": row["spans"]} for row in rows)
        write_rows(folder / f"{split}.jsonl", found)
    return sorted({s["label"] for rows in splits.values() for row in rows for s in row["spans"]})
