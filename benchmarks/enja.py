"""Short English sentences into Japanese, from the small parallel set."""

from __future__ import annotations

from pathlib import Path

from shared_rows import CUT_ROWS, SHARED, SPLITS, read_rows, write_outside, write_rows


def write_enja(folder: Path, *, cut: bool = False) -> None:
    """Write the splits as prompt and response, and out-of-bounds prompts.

    The set marks word ends in Japanese by blanks, which no text has: they are taken out. Training
    rows whose source stands in validation or test are left out. Out of bounds are CLINC150's
    out-of-scope queries: commands to a device, not sentences to translate. `cut`: a few rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = SHARED / "small_parallel_enja"
    splits = {split: read_rows(source / f"{split}.jsonl") for split in SPLITS}
    held_out = {row["source"] for split in SPLITS[1:] for row in splits[split]}
    splits["train"] = [row for row in splits["train"] if row["source"] not in held_out]
    if cut:
        splits = {split: rows[: CUT_ROWS[split]] for split, rows in splits.items()}
    for split, rows in splits.items():
        pairs = [
            {"prompt": row["source"], "response": row["target"].replace(" ", "")} for row in rows
        ]
        write_rows(folder / f"{split}.jsonl", pairs)
    write_outside(folder, cut=cut)
