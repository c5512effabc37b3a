"""Short English sentences into Japanese, from the small parallel set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SPLITS = ("train", "validation", "test")


def write_enja(folder: Path, *, num_train: int | None = None) -> None:
    """Write the splits as prompt and response, and out-of-bounds prompts.

    The set marks word ends in Japanese by blanks, which no text has: they are taken out. Training
    rows whose source stands in validation or test are left out. Out of bounds are CLINC150's
    out-of-scope queries: commands to a device, not sentences to translate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits = {split: _rows(SHARED / "small_parallel_enja" / f"{split}.jsonl") for split in SPLITS}
    held_out = {row["source"] for split in SPLITS[1:] for row in splits[split]}
    splits["train"] = [row for row in splits["train"] if row["source"] not in held_out][:num_train]
    for split, rows in splits.items():
        pairs = [
            {"prompt": row["source"], "response": row["target"].replace(" ", "")} for row in rows
        ]
        _write(folder / f"{split}.jsonl", pairs)
    for split, name in (("validation", "oos_validation"), ("test", "oos_test")):
        outside = _rows(SHARED / "clinc150" / f"{name}.jsonl")
        _write(folder / f"outside_{split}.jsonl", [{"prompt": row["text"]} for row in outside])


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
