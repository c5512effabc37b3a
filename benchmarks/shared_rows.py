"""Rows of the shared data sets: JSON Lines, read and written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgedistill.core.files import write_text

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SPLITS = ("train", "validation", "test")
#: Of a cut: rows of each split.
CUT_ROWS = {"train": 400, "validation": 40, "test": 40}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Every row of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file at once: processes side by side write the same one, and read it."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_outside(folder: Path, *, cut: bool) -> None:
    """Write CLINC150's out-of-scope queries as prompts out of bounds of validation and test."""
    for split in SPLITS[1:]:
        rows = read_rows(SHARED / "clinc150" / f"oos_{split}.jsonl")
        kept = rows[: CUT_ROWS[split] if cut else None]
        write_rows(folder / f"outside_{split}.jsonl", ({"prompt": row["text"]} for row in kept))
