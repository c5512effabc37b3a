"""SNIPS as a generation task: a sentence in, its intent and slots as JSON out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SPLITS = ("train", "validation", "test")
SCHEMA_FILE = "schema.json"
#: Of a cut: intents with short answers and few slots, and rows of each split.
CUT_INTENTS = ("RateBook", "SearchCreativeWork")
CUT_ROWS = {"train": 400, "validation": 40, "test": 40}


def write_snips(folder: Path, *, every: int = 1, cut: bool = False) -> None:
    """Write the splits as prompt and response, the schema, and out-of-bounds prompts.

    Test and validation sentences that stand in the training split too are left out (26 and 15).
    Out of bounds are CLINC150's out-of-scope queries.

    Args:
        every: of the training rows each so-manieth is kept.
        cut: a few rows of two intents.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits = {split: _rows(SHARED / "snips" / f"{split}.jsonl") for split in SPLITS}
    known = {row["text"] for row in splits["train"]}
    for split in ("validation", "test"):
        splits[split] = [row for row in splits[split] if row["text"] not in known]
    splits["train"] = splits["train"][::every]
    if cut:
        splits = {
            split: [row for row in rows if row["intent"] in CUT_INTENTS][: CUT_ROWS[split]]
            for split, rows in splits.items()
        }
    slots = sorted({span["label"] for row in splits["train"] for span in row["spans"]})
    intents = sorted({row["intent"] for row in splits["train"]})
    for split, rows in splits.items():
        found = [{"prompt": row["text"], "response": _response(row, slots)} for row in rows]
        _write(folder / f"{split}.jsonl", found)
    for split, name in (("validation", "oos_validation"), ("test", "oos_test")):
        outside = _rows(SHARED / "clinc150" / f"{name}.jsonl")[: CUT_ROWS[split] if cut else None]
        _write(folder / f"outside_{split}.jsonl", [{"prompt": row["text"]} for row in outside])
    schema = json.dumps(_schema(intents, slots), indent=1)
    (folder / SCHEMA_FILE).write_text(schema + "\n", encoding="utf-8")


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


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
