"""SNIPS as a generation task: a sentence in, its intent and slots as JSON out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgedistill.core.files import write_text
from shared_rows import CUT_ROWS, SHARED, SPLITS, read_rows, write_outside, write_rows

SCHEMA_FILE = "schema.json"
#: Of a cut: intents with short answers and few slots.
CUT_INTENTS = ("RateBook", "SearchCreativeWork")


def snips_splits(*, every: int = 1, cut: bool = False) -> dict[str, list[dict[str, Any]]]:
    """The splits as they are: text, intent, spans.

    Test and validation sentences that stand in the training split too are left out (26 and 15).

    Args:
        every: of the training rows each so-manieth is kept.
        cut: a few rows of two intents.
    """
    splits = {split: read_rows(SHARED / "snips" / f"{split}.jsonl") for split in SPLITS}
    known = {row["text"] for row in splits["train"]}
    for split in SPLITS[1:]:
        splits[split] = [row for row in splits[split] if row["text"] not in known]
    splits["train"] = splits["train"][::every]
    if not cut:
        return splits
    return {
        split: [row for row in rows if row["intent"] in CUT_INTENTS][: CUT_ROWS[split]]
        for split, rows in splits.items()
    }


def write_snips(folder: Path, *, every: int = 1, cut: bool = False) -> None:
    """Write the splits as prompt and response, the schema, and out-of-bounds prompts; the
    arguments are those of `snips_splits`."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = snips_splits(every=every, cut=cut)
    slots = sorted({span["label"] for row in splits["train"] for span in row["spans"]})
    intents = sorted({row["intent"] for row in splits["train"]})
    for split, rows in splits.items():
        found = [{"prompt": row["text"], "response": _response(row, slots)} for row in rows]
        write_rows(folder / f"{split}.jsonl", found)
    write_outside(folder, cut=cut)
    schema = json.dumps(_schema(intents, slots), indent=1)
    write_text(folder / SCHEMA_FILE, schema + "\n")


def _response(row: dict[str, Any], slots: Sequence[str]) -> str:
    """Compact JSON with the slots in the schema's order; a slot that occurs twice is a list."""
    record: dict[str, Any] = {"intent": row["intent"]}
    for slot in slots:
        values = [span["text"] for span in row["spans"] if span["label"] == slot]
        if values:
            record[slot] = values[0] if len(values) == 1 else values
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def _schema(intents: Sequence[str], slots: Sequence[str]) -> dict[str, Any]:
    value = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"intent": {"enum": list(intents)}, **dict.fromkeys(slots, value)},
        "required": ["intent"],
        "additionalProperties": False,
    }
